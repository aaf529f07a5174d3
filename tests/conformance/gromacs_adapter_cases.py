"""A specimen of the IMD adapter under version 2: GROMACS, and ``headrace link-imd`` beside it.

``mdrun`` knows no single steps. It writes its trajectory into a pipe that is shorter than a frame,
each step, so it stands still in step N + 1 until the frame of step N + 1 is read; and what is read
there is what it has computed, seen by another way than the adapter's. Version 2 of the protocol
carries positions and energies; everything else is left to the other cases.
"""

from __future__ import annotations

import atexit
import fcntl
import itertools
import os
import select as waiting
import shutil
import subprocess
import tempfile
import time
import weakref
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from bridge.commands import Event
from bridge.staging import StagerClient
from bridge.testing.adapters import PATIENCE, AdapterCase, Settable
from tests.conformance.imd_adapter_cases import Reader

__all__ = ["gromacs_case"]

GMX = shutil.which("gmx")
TIMESTEP = 0.002
SIDE, SPACING = 6, 0.4
ATOMS, BOX = SIDE**3, SIDE * SPACING
C6, C12, CUTOFF, MASS = 0.00622, 9.695e-6, 0.8, 39.948
BOLTZMANN = 8.31446261815324e-3  # kJ/mol/K
PARAMETERS = f"""
integrator = md-vv
dt = {TIMESTEP}
nsteps = -1
nstxout = 1
nstvout = 1
nstfout = 1
nstcalcenergy = 1
nstenergy = 0
nstlog = 0
nstlist = 1
verlet-buffer-tolerance = -1
rlist = {CUTOFF}
rvdw = {CUTOFF}
rcoulomb = {CUTOFF}
vdw-modifier = potential-shift
coulombtype = cut-off
comm-mode = none
gen-vel = yes
gen-temp = 100
gen-seed = 7
IMD-group = System
"""
# Nothing acts on the ghost but who pulls at it: the force on it is what was asked for.
TOPOLOGY = f"""
[ defaults ]
1 1 no
[ atomtypes ]
GH GH {MASS} 0 A 0.0 0.0
AR AR {MASS} 0 A {C6} {C12}
[ moleculetype ]
GH 0
[ atoms ]
1 GH 1 GH GH 1 0 {MASS}
[ moleculetype ]
AR 0
[ atoms ]
1 AR 1 AR AR 1 0 {MASS}
[ system ]
argon
[ molecules ]
GH 1
AR {ATOMS - 1}
"""
ENERGIES = (
    "total_energy", "potential_energy", "van_der_waals_energy", "coulomb_energy", "bond_energy",
    "angle_energy", "dihedral_energy", "improper_energy",
)  # fmt: skip
HEADER = 84
FRAME = HEADER + 9 * 4 + 3 * ATOMS * 3 * 4  # bytes; the box, and three vectors for each atom
PIPE = 4096  # the shortest that the kernel has; mdrun buffers none of a frame once it is written
assert FRAME > PIPE


@cache
def _argon() -> Path:
    """Prepare a run, for as long as this process lasts; returns the folder."""
    path = Path(tempfile.mkdtemp(prefix="headrace-gromacs-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    (path / "topol.top").write_text(TOPOLOGY)
    (path / "md.mdp").write_text(PARAMETERS)
    lines = ["argon", str(ATOMS)]
    for index, place in enumerate(itertools.product(range(SIDE), repeat=3)):
        kind = "AR" if index else "GH"
        number = f"{index + 1:5d}"
        at = "".join(f"{SPACING * (i + 0.5):8.3f}" for i in place)
        lines.append(f"{number}{kind:<5s}{kind:>5s}{number}{at}")
    (path / "box.gro").write_text("\n".join([*lines, f"{BOX:10.5f}" * 3, ""]))
    subprocess.run(
        [str(GMX), "-nobackup", "grompp", "-f", "md.mdp", "-c", "box.gro", "-p", "topol.top",
         "-o", "md.tpr"],
        cwd=path, check=True, capture_output=True, timeout=110.0,
    )  # fmt: skip
    return path


def _end(process: subprocess.Popen[bytes], pipe: int, folder: str) -> None:
    process.kill()
    process.wait()
    os.close(pipe)
    shutil.rmtree(folder, ignore_errors=True)


class _Mdrun:
    """``mdrun``, step by step; `port` is where it listens, None if nobody watches it."""

    def __init__(self, port: int | None) -> None:
        folder = tempfile.mkdtemp(prefix="headrace-mdrun-")
        fifo = Path(folder) / "run.trr"
        os.mkfifo(fifo)
        self._pipe = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        fcntl.fcntl(self._pipe, fcntl.F_SETPIPE_SZ, PIPE)
        watched = [] if port is None else ["-imdport", str(port), "-imdwait", "-imdterm",
                                           "-imdpull"]  # fmt: skip
        self.process = subprocess.Popen(
            [str(GMX), "-nobackup", "mdrun", "-s", str(_argon() / "md.tpr"), "-o", str(fifo),
             "-ntmpi", "1", "-ntomp", "1", "-nb", "cpu", "-pin", "off", "-reprod", "-noconfout",
             "-cpt", "-1", *watched],
            cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        weakref.finalize(self, _end, self.process, self._pipe, folder)
        self.step = 0
        # Before it has opened the pipe nothing waits there, and nobody has left it either.
        assert self._wait(), "GROMACS did not start."
        assert self.go_on(), "GROMACS ended at once."

    def _wait(self) -> bool:
        """Wait until a frame is being written; False if the simulation has ended."""
        poll = waiting.poll()
        poll.register(self._pipe, waiting.POLLIN)
        found = poll.poll(PATIENCE * 1e3)
        assert found, f"GROMACS did not go on within {PATIENCE:.0f} s, after step {self.step}."
        return bool(found[0][1] & waiting.POLLIN)

    def go_on(self) -> bool:
        """Let it finish the step at whose end it stands; returns whether there was one."""
        if not self._wait():
            return False
        data = bytearray()
        while len(data) < FRAME:
            if not self._wait():
                return False
            data += os.read(self._pipe, FRAME - len(data))
        header = np.frombuffer(data, ">i4", HEADER // 4)
        assert (header[0], header[16]) == (1993, ATOMS), "This is no frame of GROMACS."
        self.step = int(header[17])
        reals = np.frombuffer(data, ">f4", offset=HEADER)[9:].astype(np.float32)
        self.x, self.v, self.f = reals.reshape(3, ATOMS, 3)
        return True


class _Watched:
    """GROMACS, and the process that reads it."""

    def __init__(
        self, name: str, address: str | None, *, every: int = 1, select: Any = None
    ) -> None:
        self._name, self._address = name, address
        self._reader: Reader | None = None
        self._joined = 0
        if address is not None:
            self._joined = self._count_joined() + 1
            self._reader = Reader(
                name, address, "--engine", "gromacs", "--box", ",".join([str(BOX)] * 3),
                "--timestep", str(TIMESTEP), "--rate", str(every), "--pull", "tip=0:-500:500",
            )  # fmt: skip
        self._engine = _Mdrun(None if self._reader is None else self._reader.port)
        self._unwrapped = self._engine.x.astype(np.float64)
        self._went = self._killed = False

    def _count_joined(self) -> int:
        with StagerClient(str(self._address)) as client:
            if not any(t.name == "events" for t in client.topics()):
                return 0
            found = client.fetch({"events": 0}, wait=0.01).records
        return sum(msgspec.msgpack.decode(r.data, type=Event).kind == "imd_joined" for r in found)

    @property
    def step(self) -> int:
        return self._engine.step

    def advance(self, steps: int) -> bool:
        if self._reader is not None and not self._went:
            # Not before the reader has said how far apart frames are to be.
            deadline = time.monotonic() + PATIENCE
            while self._count_joined() < self._joined:
                assert time.monotonic() < deadline, "Nobody reads what GROMACS sends."
                time.sleep(0.01)
        self._went = True
        for _ in range(steps):
            if self._killed or not self._engine.go_on():
                self._killed = True
                break
            moved = self._engine.x - self._unwrapped
            self._unwrapped += moved - BOX * np.round(moved / BOX)
        # It computes the next step by now: what it sends of this one has left.
        self._killed = self._killed or not self._engine._wait()
        return not self._killed

    def state(self) -> dict[str, Any]:
        engine = self._engine
        return {"x": engine.x.copy(), "v": engine.v.copy(), "f": engine.f.copy()}

    def frame(self) -> dict[str, Any]:
        return {
            "positions": self._unwrapped.copy(), "box": np.eye(3) * BOX, **self._energies(),
        }  # fmt: skip

    def _energies(self) -> dict[str, Any]:
        """Sum up all pairs of argon, shifted to 0 at the cutoff, and the motion of all."""
        x = self._unwrapped[1:]
        one, other = np.triu_indices(len(x), 1)
        between = x[one] - x[other]
        between -= BOX * np.round(between / BOX)
        squares = (between**2).sum(axis=1)
        near = squares[squares < CUTOFF**2] ** -3.0
        shift = C12 * CUTOFF**-12 - C6 * CUTOFF**-6
        potential = (C12 * near**2 - C6 * near - shift).sum()
        kinetic = 0.5 * MASS * (self._engine.v.astype(np.float64) ** 2).sum()
        found = dict.fromkeys(ENERGIES, np.zeros(()))
        found["potential_energy"] = found["van_der_waals_energy"] = potential
        found["total_energy"] = potential + kinetic
        found["temperature"] = 2.0 * kinetic / (3 * ATOMS * BOLTZMANN)
        return found

    def read(self, parameter: str) -> float:
        force = dict(zip(("tip.fx", "tip.fy", "tip.fz"), self._engine.f[0], strict=True))
        # Single precision on the wire, in VMD's unit.
        return round(float(force[parameter]), 3)

    def close(self, *, finished: bool = True) -> None:
        if self._reader is not None and not finished:
            self._reader.leave()
        self._engine.process.kill()
        self._engine.process.wait()
        if self._reader is not None and finished and self._went:
            self._reader.join()


def gromacs_case() -> AdapterCase:
    """Return GROMACS over IMD; pause, resume, interval, forces and the end are steered."""
    if GMX is None:
        pytest.skip("GROMACS (gmx) is not installed.")
    return AdapterCase(
        make=_Watched,
        units={
            "positions": "nm", "box": "nm", "temperature": "K", **dict.fromkeys(ENERGIES, "kJ/mol"),
        },
        timestep=TIMESTEP,
        settable=Settable(parameter="tip.fx", values=(100.0, -50.0), outside=900.0),
        rtol=1e-5,
        atol=1e-5,
        lag=4,
    )  # fmt: skip
