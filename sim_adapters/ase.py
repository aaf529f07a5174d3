"""ASE: an observer that streams frames, applies commands, and can be stopped and restarted.

Two lines link a simulation::

    dyn = Langevin(atoms, 2 * units.fs, temperature_K=300, friction=0.01 / units.fs, fixcm=False)
    dyn.attach(link(dyn, "melt", temperature=(250, 400)), interval=10)
    dyn.run(100_000)

The stream ends with the process; to end it earlier, keep the observer and call its `close`, or use
it in a ``with`` statement.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bridge.commands import Capability
from bridge.errors import ConfigError, MissingExtra
from bridge.staging.keys import find_keys
from bridge.staging.messages import FullPolicy, StreamOptions
from bridge.staging.rendezvous import resolve
from sim_adapters.ase_schema import Field, Selection, describe, select_atoms
from sim_adapters.ase_thermostats import NM, NM_PER_PS, PS, can_be_moved, find_thermostat, place
from sim_adapters.attached import Attached
from sim_adapters.link import Link

try:
    from ase import units
    from ase.md.md import MolecularDynamics
except ImportError as error:
    raise MissingExtra("ASE", "ase", "ASE simulations") from error

__all__ = ["HeadraceObserver", "link", "list_capabilities"]

_KJ = units.kJ / units.mol
_FORCE = _KJ / NM


class HeadraceObserver(Attached):
    """Streams the frames of an ASE simulation and applies commands to it; attach it.

    Made by `link`, or from a link whose schema `sim_adapters.ase_schema.describe` made. ASE calls
    it between two steps. What it asks the calculator for was computed for the step already, so
    that a simulation that is only watched goes on as if it were not.

    Parameters
    ----------
    link
        The open link.
    dynamics
        An ASE molecular dynamics object.
    select
        As the schema was made with.
    seed
        Seed of redrawn velocities; each restart draws its own from it.

    Attributes
    ----------
    link
        The open link; its ``stopped`` tells whether the simulation was stopped.
    """

    def __init__(
        self, link: Link, dynamics: Any, *, select: Selection = "all", seed: int = 0
    ) -> None:
        super().__init__(link, len(dynamics.atoms), seed)
        self._dynamics = dynamics
        schema = link.producer.schema
        atoms, names = dynamics.atoms, schema.names
        n = len(atoms)
        rows = select_atoms(atoms, select)
        self._rows: Any = slice(None) if len(rows) == n else rows
        self._vectors = [
            (name, getter, unit, np.empty((len(rows), 3), schema.variable(name).numpy_dtype))
            for name, getter, unit in _GETTERS
            if name in names
        ]
        self._scalars = [x for x in _SCALARS if x[0] in names]
        self._box = "box" in names
        self._attached = False
        # ASE computes the time as steps times the present time step, which may be changed.
        goes_on = link.step >= 0 and link.step == dynamics.nsteps
        time = link.time if goes_on else float(dynamics.get_time()) / PS
        self._anchor = (int(dynamics.nsteps), time, float(dynamics.dt))

    def __call__(self) -> None:
        """Send a frame if one is due, and apply commands; ASE calls this after a step."""
        if not self._attached:
            self._attached = True
            self._watch_each_step()
        link, step = self.link, int(self._dynamics.nsteps)
        if not link.stopped:
            time = self._read_time(step)
            if step >= link.next_frame:
                self._send(step, time)
                link.service(step, time)
            elif link.next_command is not None and link.next_command <= step:
                link.service(step, time)
        if link.stopped:
            self._dynamics.max_steps = step

    def _watch_each_step(self) -> None:
        """Let ASE call at each step, so that commands are applied at the step that they name.

        The interval that the observer was attached with becomes the one between frames.
        """
        observers = self._dynamics.observers
        for place_, entry in enumerate(observers):
            if entry[0] is self and entry[1] > 1:
                self.link.every = int(entry[1])
                observers[place_] = (self, 1, *entry[2:])

    def _read_time(self, step: int) -> float:
        origin, time, dt = self._anchor
        time += (step - origin) * dt / PS
        if self._dynamics.dt != dt:
            self._anchor = (step, time, float(self._dynamics.dt))
        return time

    def _send(self, step: int, time: float) -> None:
        atoms = self._dynamics.atoms
        values: dict[str, Any] = {}
        for name, getter, unit, buffer in self._vectors:
            np.divide(getter(atoms)[self._rows], unit, out=buffer, casting="same_kind")
            values[name] = buffer
        for name, read, unit in self._scalars:
            values[name] = np.float64(read(atoms) / unit)
        if self._box:
            values["box"] = np.asarray(atoms.cell) / NM
        self.link.put(step, time, **values)
        if self._vectors:
            self._look_at(self._vectors[0][3], step)

    # Commands ----------------------------------------------------------------------------------

    def _heat(self, value: float) -> None:
        thermostat = find_thermostat(self._dynamics)
        assert thermostat is not None, "The capability is declared with a thermostat only."
        thermostat[1](value)

    def _place(
        self, arrays: Mapping[str, npt.NDArray[np.float64]], *, redraw: bool, seed: int
    ) -> None:
        place(self._dynamics, arrays, redraw=redraw, seed=seed)

    @property
    def stopped(self) -> bool:
        """Whether a stop was applied: ``dyn.run`` has returned early, and should not go on."""
        return self.link.stopped


def _read_forces(atoms: Any) -> Any:
    return atoms.get_forces(md=True)


_GETTERS: tuple[tuple[str, Any, float], ...] = (
    ("positions", lambda atoms: atoms.positions, NM),
    ("velocities", lambda atoms: atoms.get_velocities(), NM_PER_PS),
    ("forces", _read_forces, _FORCE),
)

_SCALARS: tuple[tuple[str, Any, float], ...] = (
    ("potential_energy", lambda atoms: atoms.get_potential_energy(), _KJ),
    ("kinetic_energy", lambda atoms: atoms.get_kinetic_energy(), _KJ),
    ("temperature", lambda atoms: atoms.get_temperature(), 1.0),
)


def list_capabilities(
    dynamics: Any,
    *,
    restart: bool,
    temperature: tuple[float, float] | None,
    longest_interval: float = 1e9,
) -> list[Capability]:
    """Return what others may do to an ASE simulation.

    Parameters
    ----------
    restart
        It sends whole frames, from which it can restart; declared only where the integrator takes
        positions and velocities from the atoms at each step.
    temperature
        Bounds in K within which the temperature may be set; None forbids it.
    longest_interval
        Upper bound of the steps between frames.

    Raises
    ------
    ConfigError
        If bounds are given and the integrator has no temperature that can be set.
    """
    out = [Capability(kind) for kind in ("pause", "resume", "stop")]
    out.append(Capability("interval", minimum=1, maximum=longest_interval, unit="steps"))
    name = type(dynamics).__name__
    if temperature is not None:
        if find_thermostat(dynamics) is None:
            raise ConfigError(
                f"The temperature of {name} cannot be set while it runs; leave 'temperature' out, "
                "or use a thermostat such as Langevin or Bussi."
            )
        low, high = temperature
        out.append(Capability("set", "temperature", minimum=low, maximum=high, unit="K"))
    if restart and can_be_moved(dynamics):
        out.append(Capability("restart", description="From positions of all atoms, in nm."))
    return out


def link(
    dynamics: Any,
    name: str,
    *,
    stager: str | None = None,
    run_directory: Path | str | None = None,
    every: int = 1,
    select: Selection = "all",
    fields: Sequence[Field] = ("positions",),
    dtype: str = "<f4",
    when_full: FullPolicy = "block",
    capacity: int = 256 << 20,
    temperature: tuple[float, float] | None = None,
    restart: bool = True,
    seed: int = 0,
    keys: Any = None,
    timeout: float = 10.0,
) -> HeadraceObserver:
    """Link an ASE simulation to a stager; returns an observer for ``dyn.attach``.

    Parameters
    ----------
    dynamics
        Any integrator of `ase.md`.
    name
        Name of the simulation; its stream is the topic ``frames/<name>``.
    stager, run_directory, when_full, capacity, keys, timeout
        See `sim_adapters.link.link`.
    every
        Steps between frames, if the observer is attached with an interval of 1; else that
        interval.
    select
        Atoms to send: ``"all"``, ``"heavy"``, a chemical symbol, or indices.
    fields
        Of ``positions``, ``velocities``, ``forces``, ``energies``, ``temperature`` and ``box``. A
        periodic system sends its box with the positions in any case.
    dtype
        Of the vectors.
    temperature
        Bounds in K within which others may set the thermostat's temperature; nobody may without.
    restart
        Whether others may restart the simulation from frames.
    seed
        Seed of the velocities that restarts draw.

    Raises
    ------
    ConfigError
        If `dynamics` is no molecular dynamics, or has no temperature to be set.
    NobodyListening
        If no stager answers in time.
    """
    if not isinstance(dynamics, MolecularDynamics):
        raise ConfigError(
            f"An ASE simulation is linked by its integrator, one of ase.md; this is a "
            f"{type(dynamics).__name__}."
        )
    schema = describe(dynamics.atoms, select=select, fields=fields, dtype=dtype)
    whole = restart and "positions" in fields and not schema.selection
    capabilities = list_capabilities(dynamics, restart=whole, temperature=temperature)
    folder = None if run_directory is None else Path(run_directory)
    opened = Link(
        name,
        address=resolve(stager, folder, timeout=timeout),
        schema=schema,
        every=every,
        options=StreamOptions(when_full=when_full, capacity=capacity),
        capabilities=capabilities,
        keys=find_keys(keys),
        timeout=timeout,
    )
    return HeadraceObserver(opened, dynamics, select=select, seed=seed)
