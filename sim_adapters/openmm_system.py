"""An OpenMM simulation from a configuration table: Amber files, or a structure and force fields."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from bridge.errors import ConfigError, MissingExtra

try:
    import openmm
    from openmm import app, unit
except ImportError as error:
    raise MissingExtra("openmm", "openmm", "OpenMM simulations") from error

__all__ = ["Structure", "SystemTable", "build_simulation", "read_structure"]


class SystemTable(msgspec.Struct, frozen=True, kw_only=True):
    """What is simulated, and how.

    Attributes
    ----------
    prmtop, coordinates
        Amber topology, and coordinates (``.crd``, ``.rst7`` or ``.pdb``).
    pdb, forcefield
        A structure with all its atoms, and force field files that OpenMM knows or that lie
        beside it; instead of the two above.
    implicit_solvent
        Of an Amber topology; force fields bring their own.
    nonbonded, cutoff
        Method, and its cutoff in nm.
    constraints
        Which bonds are rigid.
    hydrogen_mass
        In unified atomic mass units, taken from the heavy atom; 0 leaves masses alone.
    temperature, friction, timestep
        Of the Langevin middle integrator, in K, 1/ps and ps.
    minimize
        Minimise the energy before the first step.
    platform, properties
        OpenMM platform, such as ``Reference`` (the fastest below a hundred atoms) or ``CPU``;
        empty for the one that OpenMM prefers. And its properties.
    """

    prmtop: str = ""
    coordinates: str = ""
    pdb: str = ""
    forcefield: tuple[str, ...] = ()
    implicit_solvent: Literal["", "HCT", "OBC1", "OBC2", "GBn", "GBn2"] = ""
    nonbonded: Literal["NoCutoff", "CutoffNonPeriodic", "CutoffPeriodic", "Ewald", "PME"] = (
        "NoCutoff"
    )
    cutoff: float = 1.0
    constraints: Literal["", "HBonds", "AllBonds", "HAngles"] = "HBonds"
    hydrogen_mass: float = 0.0
    temperature: float = 300.0
    friction: float = 1.0
    timestep: float = 0.002
    minimize: bool = True
    platform: str = ""
    properties: dict[str, str] = {}

    def __post_init__(self) -> None:
        amber, other = (self.prmtop, self.coordinates), (self.pdb, self.forcefield)
        if not (all(amber) and not any(other)) and not (all(other) and not any(amber)):
            raise ConfigError(
                "The system is given by 'prmtop' and 'coordinates', or by 'pdb' and 'forcefield'."
            )
        if self.implicit_solvent and not self.prmtop:
            raise ConfigError(
                "The key 'implicit_solvent' belongs to 'prmtop'; with 'pdb', add a file such as "
                "'amber99_obc.xml' to 'forcefield'."
            )
        if not (self.temperature >= 0 and self.friction > 0 and self.timestep > 0):
            raise ConfigError(
                "The keys 'friction' and 'timestep' must be above 0, and 'temperature' not below."
            )

    def check_files(self, base: Path) -> None:
        """Raise a `ConfigError` if a file is missing, or the platform is not there."""
        for name in ("prmtop", "coordinates", "pdb"):
            value = getattr(self, name)
            if value and not (base / value).is_file():
                raise ConfigError(f"The file that {name!r} names does not exist: {base / value}.")
        names = [
            openmm.Platform.getPlatform(i).getName()
            for i in range(openmm.Platform.getNumPlatforms())
        ]
        if self.platform and self.platform not in names:
            raise ConfigError(
                f"This OpenMM has no platform {self.platform!r}; it has {', '.join(names)}."
            )


@dataclass(frozen=True, slots=True)
class Structure:
    """What was read: topology, system, and positions in nm."""

    topology: Any
    system: Any
    positions: Any


def read_structure(table: SystemTable, base: Path) -> Structure:
    """Read the files of a table and create the system.

    Raises
    ------
    ConfigError
        If OpenMM cannot make sense of them.
    """
    arguments: dict[str, Any] = {
        "nonbondedMethod": getattr(app, table.nonbonded),
        "nonbondedCutoff": table.cutoff * unit.nanometer,
        "constraints": getattr(app, table.constraints) if table.constraints else None,
    }
    if table.hydrogen_mass:
        arguments["hydrogenMass"] = table.hydrogen_mass * unit.amu
    if table.nonbonded == "NoCutoff":
        del arguments["nonbondedCutoff"]
    try:
        if table.prmtop:
            return _read_amber(table, base, arguments)
        pdb = app.PDBFile(str(base / table.pdb))
        names = [str(base / f) if (base / f).is_file() else f for f in table.forcefield]
        system = app.ForceField(*names).createSystem(pdb.topology, **arguments)
        return Structure(pdb.topology, system, pdb.positions)
    except (OSError, ValueError, TypeError, openmm.OpenMMException) as error:
        raise ConfigError(f"OpenMM cannot build the system: {str(error).rstrip('.')}.") from error


def _read_amber(table: SystemTable, base: Path, arguments: dict[str, Any]) -> Structure:
    path = str(base / table.coordinates)
    read = app.PDBFile(path) if path.endswith(".pdb") else app.AmberInpcrdFile(path)
    box = getattr(read, "boxVectors", None)
    prmtop = app.AmberPrmtopFile(
        str(base / table.prmtop), **({"periodicBoxVectors": box} if box is not None else {})
    )
    if table.implicit_solvent:
        arguments["implicitSolvent"] = getattr(app, table.implicit_solvent)
    return Structure(prmtop.topology, prmtop.createSystem(**arguments), read.positions)


def build_simulation(structure: Structure, table: SystemTable, seed: int) -> Any:
    """Return an `openmm.app.Simulation` at its first step, with velocities drawn.

    Parameters
    ----------
    seed
        Of the thermostat's noise; that of the velocities is derived from it.
    """
    integrator = openmm.LangevinMiddleIntegrator(
        table.temperature * unit.kelvin,
        table.friction / unit.picosecond,
        table.timestep * unit.picosecond,
    )
    integrator.setRandomNumberSeed(seed)
    arguments: tuple[Any, ...] = ()
    if table.platform:
        arguments = (openmm.Platform.getPlatformByName(table.platform), dict(table.properties))
    simulation = app.Simulation(structure.topology, structure.system, integrator, *arguments)
    simulation.context.setPositions(structure.positions)
    if table.minimize:
        simulation.minimizeEnergy()
    simulation.context.setVelocitiesToTemperature(table.temperature, seed ^ 0x2545F491)
    return simulation
