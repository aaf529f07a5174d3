"""What an engine sends over IMD, in which units; declared, because the wire does not tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from bridge.errors import ConfigError
from sim_adapters.lammps_units import UnitStyle, unit_style

__all__ = ["ENGINES", "EngineName", "EngineUnits", "engine_units"]

EngineName = Literal["gromacs", "namd", "lammps", "protocol"]
ENGINES: tuple[EngineName, ...] = get_args(EngineName)

_KCAL = 4.184
_ANGSTROM = 0.1  # nm
_PER_ANGSTROM = 10.0  # kJ/mol/Å in kJ/mol/nm

# What version 3 prescribes: Å, ps, Å/ps, kJ/mol/Å and kJ/mol.
_PROTOCOL = UnitStyle(
    name="IMD version 3", length=_ANGSTROM, velocity=_ANGSTROM, force=_PER_ANGSTROM
)
_KCAL_ENERGIES = UnitStyle(name="IMD version 2", length=_ANGSTROM, energy=_KCAL)
# GROMACS sends energies in its own unit under version 2, and takes forces in VMD's.
_GROMACS = UnitStyle(name="GROMACS over IMD version 2", length=_ANGSTROM)


@dataclass(frozen=True, slots=True)
class EngineUnits:
    """What comes and goes."""

    frames: UnitStyle
    """Of positions, velocities, forces, energies, times and boxes."""
    pull: float
    """One unit of the forces that the engine takes, in kJ/mol/nm."""
    ahead: int = 0
    """By how much the step in the energies is more than that of the positions beside them."""


def engine_units(engine: str, style: str, version: int) -> EngineUnits:
    """Return the units of an engine.

    Parameters
    ----------
    engine
        One of `ENGINES`; ``protocol`` for any other that keeps to the protocol's text.
    style
        LAMMPS's unit style; empty for the others.
    version
        2 or 3.

    Raises
    ------
    ConfigError
        If the units are not known from that; the sentence says which option to give.
    """
    if engine not in ENGINES:
        given = f"Nobody knows the engine {engine!r}" if engine else "The engine is not named"
        raise ConfigError(
            f"{given}, and IMD does not tell in which units it sends: give --engine gromacs, "
            "namd, lammps (with --units), or protocol for another one that keeps to the units of "
            "the protocol."
        )
    if engine == "lammps":
        if not style:
            raise ConfigError(
                "LAMMPS sends the units of its own style over IMD, and does not tell which that "
                "is: give --units real, metal, lj or what the command 'units' of its input says."
            )
        found = unit_style(style)
        return EngineUnits(found, found.force)
    if style:
        raise ConfigError(
            f"--units {style} is for LAMMPS; {engine} sends what the protocol prescribes."
        )
    if version == 3:
        return EngineUnits(_PROTOCOL, _PER_ANGSTROM)
    if engine == "gromacs":
        # It counts on before it sends: what comes with step 1 is what its trajectory has as step 0.
        return EngineUnits(_GROMACS, _KCAL * _PER_ANGSTROM, ahead=1)
    return EngineUnits(_KCAL_ENERGIES, _KCAL * _PER_ANGSTROM)
