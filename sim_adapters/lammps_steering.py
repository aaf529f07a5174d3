"""What others may do to a LAMMPS simulation, and how it is done on every rank."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from bridge.commands import Capability, Command
from bridge.errors import CommandRefused, ConfigError, MemberFailed
from sim_adapters.lammps_frames import BlockReader, read_box
from sim_adapters.member import derive_seed
from sim_adapters.mpi import MpiLink

__all__ = ["FIX", "Bounds", "Steering", "Thermostat", "lammps_seed"]

Bounds = tuple[float, float]

FIX = "headrace"
"""Id of the fix external that carries forces, and frames of runs that others drive."""


class Thermostat(msgspec.Struct, frozen=True):
    """How to set the temperature: by giving a fix anew.

    Attributes
    ----------
    command
        The whole command, with ``{T}`` where the temperature stands, and ``{seed}`` where a seed
        does: ``fix 2 all langevin {T} {T} 1.0 {seed}``.
    minimum, maximum
        Bounds, in K; reduced with ``units lj``.
    temperature
        What the script has set; restarts redraw velocities at it. None takes the temperature that
        the atoms have then.
    """

    command: str
    minimum: float
    maximum: float
    temperature: float | None = None

    def __post_init__(self) -> None:
        words = self.command.split()
        if words[:1] != ["fix"] or "{T}" not in self.command:
            raise ConfigError(
                f"The thermostat {self.command!r} does not begin with 'fix', or has no {{T}} where "
                "the temperature stands."
            )


class Steering:
    """Applies commands to LAMMPS; every rank has one.

    Parameters
    ----------
    lmp
        LAMMPS.
    reader
        Of its frames.
    driven
        Commands come between runs; else they come within one, where LAMMPS takes no commands of
        its own: no thermostat can be changed, and no restart made.
    thermostat
        How to set the temperature; nobody may without.
    variables
        Names of equal-style or internal variables, with bounds.
    forces
        Names of groups on whose atoms a force may be put, with bounds of each component on each
        atom, in kJ/mol/nm.
    restart
        Allow restarts.
    seed
        Of noise and velocities.

    Attributes
    ----------
    changed
        The next run must be set up anew.
    temperature
        What a command has set; None before.
    """

    def __init__(
        self,
        lmp: Any,
        reader: BlockReader,
        *,
        driven: bool,
        thermostat: Thermostat | None = None,
        variables: Mapping[str, Bounds] | None = None,
        forces: Mapping[str, Bounds] | None = None,
        restart: bool = False,
        seed: int = 0,
    ) -> None:
        self._lmp = lmp
        self._reader = reader
        self._driven = driven
        self._thermostat = thermostat
        self._variables = dict(variables or {})
        self._forces = dict(forces or {})
        self._restart_allowed = restart
        self._seed = seed
        self._told = 0
        self._push: dict[str, npt.NDArray[np.float64]] = {}
        self.changed = False
        self.temperature: float | None = None
        if not driven and (thermostat is not None or restart):
            raise ConfigError(
                "A run that LAMMPS drives by itself takes no thermostat and no restarts: let "
                "sim_adapters.lammps.run drive it."
            )
        groups = lmp.available_ids("group")
        for group in self._forces:
            if group not in groups:
                raise ConfigError(f"LAMMPS has no group {group!r} to put forces on.")
        for name in self._variables:
            if not lmp.has_id("variable", name):
                raise ConfigError(f"LAMMPS has no variable {name!r} to be set.")
        self._bits = {g: 1 << groups.index(g) for g in self._forces}

    def list_capabilities(self) -> list[Capability]:
        """Return what others may do."""
        units = self._reader.units
        out = [
            Capability("pause"),
            Capability("resume"),
            Capability("stop"),
            Capability("interval", minimum=1, maximum=1e9, unit="steps"),
        ]
        if self._thermostat is not None:
            low, high = self._thermostat.minimum, self._thermostat.maximum
            out.append(Capability("set", "temperature", low, high, units.unit("temperature")))
        for name, (low, high) in self._variables.items():
            text = "A variable of the input script, in its units."
            out.append(Capability("set", name, low, high, description=text))
        for group, (low, high) in self._forces.items():
            for axis in "xyz":
                text = f"Force on each atom of the group {group}."
                unit = units.unit("force")
                name = f"{group}.f{axis}"
                out.append(Capability("set", name, low, high, unit, description=text))
        if self._restart_allowed:
            text = f"From positions of all atoms, in {units.unit('length')}."
            out.append(Capability("restart", description=text))
        return out

    def join(self, link: MpiLink) -> None:
        """Name the functions that the link calls."""
        if self._thermostat is not None:
            link.on("set", "temperature", self.heat)
        for name in self._variables:
            link.on("set", name, self._set_variable(name))
        for group in self._forces:
            for axis in range(3):
                link.on("set", f"{group}.f{'xyz'[axis]}", self._set_force(group, axis))
        if self._restart_allowed:
            n = self._reader.atoms
            optional = {"velocities": (n, 3), "box": (3, 3), "box_origin": (3,)}
            link.on_restart(self._restart, {"positions": (n, 3)}, optional)

    @property
    def pushes(self) -> bool:
        """Whether somebody has put a force on atoms."""
        return bool(self._push)

    @property
    def may_push(self) -> bool:
        """Whether others may put forces on atoms."""
        return bool(self._forces)

    def push(self, force: npt.NDArray[np.float64]) -> None:
        """Write the forces on this rank's atoms, in LAMMPS's units, into the array of a fix."""
        force[:] = 0.0
        mask = self._lmp.numpy.extract_atom("mask", nelem=len(force))
        for group, vector in self._push.items():
            force[mask & self._bits[group] != 0] += vector

    def heat(self, value: float) -> None:
        """Set the thermostat's temperature."""
        assert self._thermostat is not None
        seed = lammps_seed(self._seed, "heat", self._told)
        self._told += 1
        # LAMMPS has let go of the old fix when it finds a fault with the new one.
        _order(self._lmp, self._thermostat.command.format(T=repr(float(value)), seed=seed))
        self.temperature = value
        self.changed = True

    def place(self, arrays: Mapping[str, Any], *, redraw: bool, seed: int) -> None:
        """Put atoms at positions (nm), with velocities (nm/ps) and box (nm) where given.

        Parameters
        ----------
        arrays
            Of all atoms, in the order of the frames' rows.
        redraw
            Draw velocities at the thermostat's temperature instead.

        Raises
        ------
        CommandRefused
            If velocities are to be drawn, and nobody knows at which temperature.
        """
        lmp, units = self._lmp, self._reader.units
        temperature = self._now_temperature() if redraw else 0.0
        if "box" in arrays:
            self._set_box(arrays)
        rows, _ = self._reader.local_rows()
        count = len(rows)
        numpy = lmp.numpy
        numpy.extract_atom("x", nelem=count)[:] = arrays["positions"][rows] / units.length
        numpy.extract_atom("image", nelem=count)[:] = lmp.encode_image_flags(0, 0, 0)
        if redraw:
            pass
        elif "velocities" in arrays:
            numpy.extract_atom("v", nelem=count)[:] = arrays["velocities"][rows] / units.velocity
        # Atoms may have been put anywhere: this command, other than a setup, sends each to the
        # rank that owns the place, however far that is.
        _order(lmp, "displace_atoms all move 0.0 0.0 0.0 units box")
        if redraw:
            _order(lmp, f"velocity all create {temperature!r} {seed} loop geom")
        self.changed = True

    def _now_temperature(self) -> float:
        if self.temperature is not None:
            return self.temperature
        if self._thermostat is not None:
            if self._thermostat.temperature is not None:
                return self._thermostat.temperature
            found = float(self._lmp.get_thermo("temp"))
            low, high = self._thermostat.minimum, self._thermostat.maximum
            return min(max(found, low), high)
        raise CommandRefused(
            "Velocities cannot be redrawn: the link knows no thermostat; restart with "
            "velocities = 'keep'."
        )

    def _restart(self, arrays: Mapping[str, Any], command: Command) -> None:
        seed = lammps_seed(self._seed, command.id)
        self.place(arrays, redraw=command.velocities == "redraw", seed=seed)

    def _set_box(self, arrays: Mapping[str, Any]) -> None:
        box, origin = read_box(self._lmp)
        wanted = np.asarray(arrays["box"]) / self._reader.units.length
        corner = np.asarray(arrays.get("box_origin", origin * self._reader.units.length))
        corner = corner / self._reader.units.length
        if np.allclose(wanted, box, rtol=1e-12) and np.allclose(corner, origin, rtol=1e-12):
            return
        lengths = np.diag(wanted)
        if np.any(np.triu(wanted, 1)) or lengths.min() <= 0:
            raise CommandRefused("The box's vectors are not as LAMMPS needs them: lower triangle.")
        ends = np.column_stack([corner, corner + lengths]).tolist()
        words = [f"{axis} final {a!r} {b!r}" for axis, (a, b) in zip("xyz", ends, strict=True)]
        tilts = {"xy": wanted[1, 0], "xz": wanted[2, 0], "yz": wanted[2, 1]}
        if self._lmp.extract_setting("triclinic"):
            words += [f"{name} final {float(tilt)!r}" for name, tilt in tilts.items()]
        elif any(tilts.values()):
            raise CommandRefused("The frame's box is tilted, and that of LAMMPS has right angles.")
        # The library's own function refuses to change a box that has atoms.
        _order(self._lmp, f"change_box all {' '.join(words)} units box")

    def _set_variable(self, name: str) -> Callable[[float], None]:
        def put(value: float) -> None:
            if self._lmp.set_internal_variable(name, value) == 0:
                return
            if not self._driven:
                raise CommandRefused(
                    f"The variable {name!r} is not of style internal; only those can be set while "
                    "LAMMPS drives the run."
                )
            try:
                self._lmp.command(f"variable {name} equal {float(value)!r}")
            except Exception as error:
                raise CommandRefused(f"LAMMPS does not set {name!r}: {_say(error)}.") from error

        return put

    def _set_force(self, group: str, axis: int) -> Callable[[float], None]:
        def put(value: float) -> None:
            vector = self._push.setdefault(group, np.zeros(3))
            vector[axis] = value / self._reader.units.force

        return put


def lammps_seed(seed: int, name: str, life: int = 0) -> int:
    """Return a seed as `derive_seed` does, not above what LAMMPS's generators take."""
    return derive_seed(seed, name, life) % 900_000_000 + 1


def _order(lmp: Any, command: str) -> None:
    """Give a command that may leave LAMMPS unusable if it fails."""
    try:
        lmp.command(command)
    except Exception as error:
        raise MemberFailed(f"LAMMPS failed at {command!r}: {_say(error)}.") from error


def _say(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")
