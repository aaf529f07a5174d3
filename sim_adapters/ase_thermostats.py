"""What ASE's integrators let others do: their temperature, and whether atoms may be moved."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from bridge.errors import CommandRefused, MissingExtra

try:
    from ase import units
    from ase.md.andersen import Andersen
    from ase.md.bussi import Bussi
    from ase.md.langevin import Langevin
    from ase.md.nvtberendsen import NVTBerendsen
    from ase.md.verlet import VelocityVerlet
except ImportError as error:
    raise MissingExtra("ASE", "ase", "ASE simulations") from error

__all__ = ["NM", "NM_PER_PS", "PS", "can_be_moved", "find_thermostat", "place"]

NM = 10.0
"""One nanometre in ASE's unit of length, the ångström."""
PS = 1000.0 * units.fs
"""One picosecond in ASE's unit of time, Å·√(u/eV)."""
NM_PER_PS = NM / PS
"""One nm/ps in ASE's unit of velocity."""

Thermostat = tuple[Callable[[], float], Callable[[float], None]]


def find_thermostat(dynamics: Any) -> Thermostat | None:
    """Return functions that read and set the temperature in K that a thermostat keeps.

    None if the integrator has no thermostat, or keeps groups of atoms at several temperatures, or
    takes its temperature only when it is made (Nosé-Hoover chains, for instance).

    Parameters
    ----------
    dynamics
        An ASE molecular dynamics object. Any class of anybody counts that has a method
        ``set_temperature(temperature_K=…)`` and tells its temperature as ``temperature_K`` (K) or
        ``temp`` (eV), as ASE's own do.
    """
    if isinstance(dynamics, Bussi):

        def heat_bussi(value: float) -> None:
            dynamics.temp = value * units.kB
            dynamics.target_kinetic_energy = 0.5 * dynamics.temp * dynamics.ndof

        return lambda: float(dynamics.temp / units.kB), heat_bussi
    if not hasattr(dynamics, "set_temperature"):
        return None
    if isinstance(dynamics, NVTBerendsen):
        name, unit = "temperature", 1.0
    elif hasattr(dynamics, "temperature_K"):
        name, unit = "temperature_K", 1.0
    elif hasattr(dynamics, "temp"):
        name, unit = "temp", units.kB
    elif hasattr(dynamics, "desiredEkin"):
        # Melchionna's, whose attribute is an energy in eV.
        name, unit = "temperature", units.kB
    else:
        return None
    value = getattr(dynamics, name)
    if value is None or np.ndim(value):
        return None

    def heat(value: float) -> None:
        dynamics.set_temperature(temperature_K=value)

    return lambda: float(getattr(dynamics, name) / unit), heat


def can_be_moved(dynamics: Any) -> bool:
    """Return whether an integrator takes positions and velocities from its atoms at each step.

    Others keep copies or forces of their own from step to step, which a restart would not reach.
    """
    return isinstance(dynamics, VelocityVerlet | Langevin | Andersen | NVTBerendsen)


def place(
    dynamics: Any,
    arrays: Mapping[str, npt.NDArray[np.float64]],
    *,
    redraw: bool,
    seed: int,
) -> None:
    """Set positions (nm), and where given box (nm) and velocities (nm/ps), of a simulation.

    Constraints of the atoms are kept.

    Parameters
    ----------
    redraw
        Draw velocities at the thermostat's temperature with this seed instead.

    Raises
    ------
    CommandRefused
        If velocities are to be drawn and the simulation has no temperature.
    """
    atoms, thermostat = dynamics.atoms, find_thermostat(dynamics)
    if redraw and thermostat is None:
        raise CommandRefused(
            "Velocities cannot be redrawn: the simulation has no thermostat that tells its "
            "temperature; restart with velocities = 'keep'."
        )
    if "box" in arrays and atoms.pbc.any():
        atoms.set_cell(arrays["box"] * NM)
    atoms.set_positions(arrays["positions"] * NM)
    if redraw and thermostat is not None:
        # ASE's own function for this goes by different names in different versions.
        masses = atoms.get_masses()[:, None]
        noise = np.random.default_rng(seed).standard_normal(atoms.positions.shape)
        momenta = noise * np.sqrt(masses * units.kB * thermostat[0]())
        if getattr(dynamics, "fix_com", False):
            momenta -= masses * momenta.sum(axis=0) / masses.sum()
        atoms.set_momenta(momenta)
    elif "velocities" in arrays:
        atoms.set_velocities(arrays["velocities"] * NM_PER_PS)
