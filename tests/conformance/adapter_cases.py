"""The adapters that the conformance suite runs over: one entry an adapter, by name.

To add one, write a specimen and append a maker of its case to `CASES`; a case is made when its
tests run, so that it may skip where the simulation code is not installed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bridge.commands import Capability
from bridge.testing.adapters import AdapterCase, ProcessMaker, Settable
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
            self.stream = self.link(
                name,
                address,
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

    def link(self, name: str, address: str, **more: Any) -> Link:
        return link(name, stager=address, **more)

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


# ASE ---------------------------------------------------------------------------------------------


class _Copper:
    """Eight atoms of copper and gold in ASE, with a Langevin thermostat."""

    def __init__(
        self, name: str, address: str | None, *, every: int = 1, select: Any = None
    ) -> None:
        from ase import units
        from ase.build import bulk
        from ase.calculators.emt import EMT
        from ase.md.langevin import Langevin

        from sim_adapters.ase import link as link_ase

        noise = np.random.default_rng(3)
        self.atoms = bulk("Cu", cubic=True) * (2, 1, 1)
        self.atoms.symbols[2] = self.atoms.symbols[5] = "Au"
        self.atoms.rattle(0.05, seed=1)
        self.atoms.calc = EMT()
        self.atoms.set_velocities(noise.normal(scale=0.02, size=(8, 3)))
        self.dynamics = Langevin(
            self.atoms, 2.0 * units.fs, temperature_K=300.0, friction=0.02 / units.fs,
            fixcm=False, rng=noise,
        )  # fmt: skip
        self.stream = None
        if address is not None:
            self.stream = link_ase(
                self.dynamics,
                name,
                stager=address,
                select="all" if select is None else select,
                fields=("positions", "velocities", "forces", "energies", "temperature"),
                temperature=(250.0, 400.0),
            )
            self.dynamics.attach(self.stream, interval=every)

    @property
    def step(self) -> int:
        return int(self.dynamics.nsteps)

    def advance(self, steps: int) -> bool:
        if self.stream is not None and self.stream.stopped:
            return False
        self.dynamics.run(steps)
        return self.stream is None or not self.stream.stopped

    def state(self) -> dict[str, Any]:
        noise = np.frombuffer(str(self.dynamics.rng.bit_generator.state).encode(), np.uint8)
        return {
            "positions": self.atoms.get_positions(),
            "momenta": self.atoms.get_momenta(),
            "noise": noise,
        }

    def frame(self) -> dict[str, Any]:
        # CODATA 2014: 1 eV = 96.48533 kJ/mol, and one ASE unit of time 10.180506 fs.
        energy, per_ps = 96.48533289, 1000.0 / 10.18050571
        return {
            "positions": self.atoms.get_positions() / 10.0,
            "velocities": self.atoms.get_velocities() / 10.0 * per_ps,
            "forces": self.atoms.get_forces() * energy * 10.0,
            "potential_energy": np.array(self.atoms.get_potential_energy() * energy),
            "kinetic_energy": np.array(self.atoms.get_kinetic_energy() * energy),
            "temperature": np.array(
                self.atoms.get_kinetic_energy() / (1.5 * len(self.atoms) * 8.6173303e-5)
            ),
            "box": np.asarray(self.atoms.cell) / 10.0,
        }

    def read(self, parameter: str) -> float:
        from ase import units

        assert parameter == "temperature"
        return float(self.dynamics.temp / units.kB)

    def close(self, *, finished: bool = True) -> None:
        if self.stream is not None:
            self.stream.close(finished=finished)


def _ase_case() -> AdapterCase:
    pytest.importorskip("ase")
    return AdapterCase(
        make=_Copper,
        units={
            "positions": "nm", "velocities": "nm/ps", "forces": "kJ/mol/nm",
            "potential_energy": "kJ/mol", "kinetic_energy": "kJ/mol", "temperature": "K",
            "box": "nm",
        },
        timestep=0.002,
        select="Au",
        rows=[2, 5],
        settable=Settable(parameter="temperature", values=(310.0, 320.0), outside=900.0),
        restart="positions",
        rtol=1e-5,
        atol=1e-3,
    )  # fmt: skip


# MPI ---------------------------------------------------------------------------------------------


def _mpi_case() -> AdapterCase:
    pytest.importorskip("mpi4py", exc_type=ImportError)
    from sim_adapters.mpi_launch import find_mpiexec

    script = Path(__file__).with_name("mpi_adapter_specimen.py")
    command = [find_mpiexec(), "-n", "2", sys.executable, str(script)]
    return AdapterCase(
        make=ProcessMaker(command, environment={"PYTHONPATH": str(Path(__file__).parents[2])}),
        units={"x": "nm", "energy": "kJ/mol"},
        timestep=0.5,
        settable=Settable(parameter="temperature", values=(310.0, 320.0), outside=900.0),
        restart="x",
    )


CASES: dict[str, Callable[[], AdapterCase]] = {
    "ase": _ase_case,
    "link": link_case,
    "mpi": _mpi_case,
    "openmm": _openmm_case,
}
