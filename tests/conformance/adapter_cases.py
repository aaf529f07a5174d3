"""The adapters that the conformance suite runs over: one entry an adapter, by name.

To add one, write a specimen and append a maker of its case to `CASES`; a case is made when its
tests run, so that it may skip where the simulation code is not installed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bridge.commands import Capability
from bridge.testing.adapters import AdapterCase, Settable
from sim_adapters.link import Link, link

__all__ = ["CASES", "Walk", "link_case"]

EXAMPLES = Path(__file__).parents[2] / "examples"


class Walk:
    """Six particles that diffuse in wells; a simulation that somebody wrote in Python."""

    dt = 0.5

    def __init__(
        self, name: str, address: str | None, *, every: int = 1, select: Any = None
    ) -> None:
        self.random = np.random.default_rng(7)
        self.x = self.random.normal(size=(6, 3))
        self.temperature = 300.0
        self.step = 0
        self.stream: Link | None = None
        if address is not None:
            self.stream = link(
                name,
                stager=address,
                every=every,
                select=select,
                units={"x": "nm", "energy": "kJ/mol"},
                time_unit="ps",
                example=self.values(),
                capabilities=self.capabilities(),
            )
            self.stream.on("set", "temperature", self.heat)
            self.stream.on_restart(self.place, {"x": (6, 3)})
            self.stream.put(0, 0.0, **self.values())

    def capabilities(self) -> list[Capability]:
        return [
            Capability("set", "temperature", 250.0, 400.0, "K"),
            *(Capability(kind) for kind in ("restart", "stop", "pause", "resume")),
            Capability("interval", minimum=1, maximum=50),
        ]

    def values(self) -> dict[str, Any]:
        return {"x": self.x, "energy": np.array(0.5 * (self.x**2).sum())}

    def heat(self, value: float) -> None:
        self.temperature = value

    def place(self, arrays: Any, command: Any) -> None:
        self.x[:] = arrays["x"]

    def advance(self, steps: int) -> bool:
        for _ in range(steps):
            if self.stream is not None and self.stream.stopped:
                return False
            noise = self.random.normal(size=self.x.shape)
            self.x += -0.01 * self.x + 0.001 * np.sqrt(self.temperature) * noise
            self.step += 1
            if self.stream is not None:
                self.serve(self.stream)
        return self.stream is None or not self.stream.stopped

    def serve(self, stream: Link) -> None:
        time = self.step * self.dt
        if stream.put(self.step, time, **self.values()) or stream.next_command == self.step:
            stream.service(self.step, time)

    def state(self) -> dict[str, Any]:
        noise = np.frombuffer(str(self.random.bit_generator.state).encode(), np.uint8)
        return {"x": self.x.copy(), "noise": noise}

    def frame(self) -> dict[str, Any]:
        return {name: value.copy() for name, value in self.values().items()}

    def read(self, parameter: str) -> float:
        assert parameter == "temperature"
        return self.temperature

    def close(self, *, finished: bool = True) -> None:
        if self.stream is not None:
            self.stream.close(finished=finished)


def link_case(make: Any = Walk) -> AdapterCase:
    return AdapterCase(
        make=make,
        units={"x": "nm", "energy": "kJ/mol"},
        timestep=Walk.dt,
        select=[1, 4],
        rows=[1, 4],
        settable=Settable(parameter="temperature", values=(310.0, 320.0), outside=900.0),
        restart="x",
    )


# OpenMM ------------------------------------------------------------------------------------------


@cache
def _alanine() -> tuple[Any, Any]:
    from sim_adapters.openmm_system import SystemTable, read_structure

    table = SystemTable(
        prmtop="alanine-dipeptide.prmtop", coordinates="alanine-dipeptide.crd",
        implicit_solvent="OBC2", hydrogen_mass=3.0, timestep=0.004, platform="Reference",
        minimize=False,
    )  # fmt: skip
    return table, read_structure(table, EXAMPLES / "alanine_dipeptide")


class _Alanine:
    """Alanine dipeptide in OpenMM."""

    def __init__(
        self, name: str, address: str | None, *, every: int = 1, select: Any = None
    ) -> None:
        from sim_adapters.openmm import link as link_openmm
        from sim_adapters.openmm_system import build_simulation

        table, structure = _alanine()
        self.simulation = build_simulation(structure, table, seed=5)
        self.reporter = None
        if address is not None:
            self.reporter = link_openmm(
                self.simulation,
                name,
                stager=address,
                every=every,
                select="all" if select is None else select,
                fields=("positions", "velocities", "forces", "energies"),
                driven=True,
                temperature=(250.0, 400.0),
            )

    @property
    def step(self) -> int:
        return int(self.simulation.currentStep)

    def advance(self, steps: int) -> bool:
        from sim_adapters.openmm import run

        if self.reporter is None:
            self.simulation.step(steps)
            return True
        if self.reporter.link.stopped:
            return False
        return run(self.simulation, self.reporter, last=self.step + steps)

    def _take(self) -> Any:
        return self.simulation.context.getState(
            positions=True, velocities=True, forces=True, energy=True
        )

    def state(self) -> dict[str, Any]:
        taken = self._take()
        return {
            "positions": taken.getPositions(asNumpy=True)._value.copy(),
            "velocities": taken.getVelocities(asNumpy=True)._value.copy(),
        }

    def frame(self) -> dict[str, Any]:
        from openmm import unit

        taken = self._take()
        length, energy = unit.nanometer, unit.kilojoule_per_mole
        return {
            "positions": taken.getPositions(asNumpy=True).value_in_unit(length),
            "velocities": taken.getVelocities(asNumpy=True).value_in_unit(length / unit.picosecond),
            "forces": taken.getForces(asNumpy=True).value_in_unit(energy / length),
            "potential_energy": np.array(taken.getPotentialEnergy().value_in_unit(energy)),
            "kinetic_energy": np.array(taken.getKineticEnergy().value_in_unit(energy)),
        }

    def read(self, parameter: str) -> float:
        assert parameter == "temperature"
        return float(self.simulation.integrator.getTemperature()._value)

    def close(self, *, finished: bool = True) -> None:
        if self.reporter is not None:
            self.reporter.close(finished=finished)


def _openmm_case() -> AdapterCase:
    pytest.importorskip("openmm")
    atoms = list(_alanine()[1].topology.atoms())
    return AdapterCase(
        make=_Alanine,
        units={
            "positions": "nm", "velocities": "nm/ps", "forces": "kJ/mol/nm",
            "potential_energy": "kJ/mol", "kinetic_energy": "kJ/mol",
        },
        timestep=0.004,
        select="heavy",
        rows=[a.index for a in atoms if a.element.symbol != "H"],
        settable=Settable(parameter="temperature", values=(310.0, 320.0), outside=900.0),
        restart="positions",
        atol=1e-4,
    )  # fmt: skip


CASES: dict[str, Callable[[], AdapterCase]] = {"link": link_case, "openmm": _openmm_case}
