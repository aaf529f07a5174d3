"""OpenMM: a reporter that streams frames, and a driver that lets others steer the simulation.

To watch a simulation, append a reporter; it can be paused, and its temperature and output
interval set::

    simulation.reporters.append(link(simulation, "villin", every=500))
    simulation.step(10_000_000)

To let others stop it and restart it as well, let `run` drive it::

    with link(simulation, "villin", every=500, driven=True) as reporter:
        run(simulation, reporter, last=10_000_000)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bridge.commands import Capability
from bridge.errors import CommandRefused, MemberFailed, MissingExtra
from bridge.staging.keys import find_keys
from bridge.staging.messages import FullPolicy, StreamOptions
from bridge.staging.rendezvous import resolve
from sim_adapters.attached import Attached
from sim_adapters.link import Link
from sim_adapters.openmm_schema import Field, Selection, describe, select_atoms

try:
    import openmm
except ImportError as error:
    raise MissingExtra("openmm", "openmm", "OpenMM simulations") from error

__all__ = ["HeadraceReporter", "link", "list_capabilities", "place", "run"]

_THERMOSTATS = ("AndersenTemperature", "MonteCarloTemperature")


class HeadraceReporter(Attached):
    """Streams the frames of an OpenMM simulation and applies commands to it.

    Made by `link`, or from a link whose schema `sim_adapters.openmm_schema.describe` made.

    Parameters
    ----------
    link
        The open link.
    simulation
        An `openmm.app.Simulation` with a context.
    select, wrapped
        As the schema was made with.
    driven
        `run` drives the simulation and applies commands; else the reporter does, after frames.
    seed
        Seed of redrawn velocities; each restart draws its own from it.
    """

    def __init__(
        self,
        link: Link,
        simulation: Any,
        *,
        select: Selection = "all",
        wrapped: bool = False,
        driven: bool = False,
        seed: int = 0,
    ) -> None:
        n = simulation.topology.getNumAtoms()
        super().__init__(link, n, seed)
        self.driven = driven
        self._simulation = simulation
        self._wrapped = wrapped
        schema = link.producer.schema
        rows = select_atoms(simulation.topology, select)
        self._rows = None if len(rows) == n else rows
        names = schema.names
        self._vectors = [
            (name, getter, np.empty((len(rows), 3), schema.variable(name).numpy_dtype))
            for name, getter in _GETTERS
            if name in names
        ]
        self._energies = "potential_energy" in names
        self._box = "box" in names
        self._include = [name for name, _, _ in self._vectors] + ["energy"] * self._energies
        self._watched = next((b for name, _, b in self._vectors if name == "positions"), None)
        link.count_from(simulation.currentStep)

    # What OpenMM calls -------------------------------------------------------------------------

    def describeNextReport(self, simulation: Any) -> dict[str, Any]:  # noqa: N802
        """Tell OpenMM when the next frame, or a command, is due and what it needs."""
        now = simulation.currentStep
        frame = max(self.link.next_frame, now + 1)
        command = self.link.next_command
        if command is None or self.driven or not now < command < frame:
            return {"steps": frame - now, "periodic": self._wrapped, "include": self._include}
        return {"steps": command - now, "periodic": self._wrapped, "include": []}

    def report(self, simulation: Any, state: Any) -> None:
        """Send a frame, and apply commands where nobody else does."""
        step, time = state.getStepCount(), state.getTime()._value
        if step >= self.link.next_frame:
            self._send(step, time, state)
        if not self.driven:
            self.link.service(step, time)

    def _send(self, step: int, time: float, state: Any) -> None:
        values: dict[str, Any] = {}
        for name, getter, buffer in self._vectors:
            array = getter(state, asNumpy=True)._value
            np.copyto(buffer, array if self._rows is None else array[self._rows], "same_kind")
            values[name] = buffer
        if self._energies:
            values["potential_energy"] = np.float64(state.getPotentialEnergy()._value)
            values["kinetic_energy"] = np.float64(state.getKineticEnergy()._value)
        if self._box:
            values["box"] = state.getPeriodicBoxVectors(asNumpy=True)._value
        self.link.put(step, time, **values)
        if self._watched is not None:
            self._look_at(self._watched, step)

    # Commands ----------------------------------------------------------------------------------

    def _heat(self, value: float) -> None:
        simulation = self._simulation
        if hasattr(simulation.integrator, "setTemperature"):
            simulation.integrator.setTemperature(value)
        for name in _THERMOSTATS:
            if name in simulation.context.getParameters():
                simulation.context.setParameter(name, value)

    def _place(
        self, arrays: Mapping[str, npt.NDArray[np.float64]], *, redraw: bool, seed: int
    ) -> None:
        place(self._simulation, arrays, redraw=redraw, seed=seed)


_GETTERS: tuple[tuple[Field, Any], ...] = (
    ("positions", openmm.State.getPositions),
    ("velocities", openmm.State.getVelocities),
    ("forces", openmm.State.getForces),
)


def place(
    simulation: Any,
    arrays: Mapping[str, npt.NDArray[np.float64]],
    *,
    redraw: bool,
    seed: int,
) -> None:
    """Set positions (nm), and where given box (nm) and velocities (nm/ps), of a simulation.

    Parameters
    ----------
    redraw
        Draw velocities at the thermostat's temperature with this seed instead.

    Raises
    ------
    CommandRefused
        If velocities are to be drawn and the simulation has no temperature.
    """
    context, integrator = simulation.context, simulation.integrator
    temperature = _read_temperature(simulation)
    if redraw and temperature is None:
        raise CommandRefused(
            "Velocities cannot be redrawn: the simulation has no thermostat that tells its "
            "temperature; restart with velocities = 'keep'."
        )
    if "box" in arrays and simulation.system.usesPeriodicBoundaryConditions():
        context.setPeriodicBoxVectors(*arrays["box"])
    context.setPositions(arrays["positions"])
    # Frames carry float32: bonds are longer or shorter by as much as that rounds.
    context.applyConstraints(integrator.getConstraintTolerance())
    if redraw:
        context.setVelocitiesToTemperature(temperature, seed)
        return
    if "velocities" in arrays:
        context.setVelocities(arrays["velocities"])
    context.applyVelocityConstraints(integrator.getConstraintTolerance())


def _read_temperature(simulation: Any) -> float | None:
    if hasattr(simulation.integrator, "getTemperature"):
        return float(simulation.integrator.getTemperature()._value)
    parameters = simulation.context.getParameters()
    return next((float(parameters[n]) for n in _THERMOSTATS if n in parameters), None)


def list_capabilities(
    *,
    driven: bool,
    restart: bool,
    temperature: tuple[float, float] | None,
    longest_interval: float = 1e9,
) -> list[Capability]:
    """Return what others may do to an OpenMM simulation.

    Parameters
    ----------
    driven
        `run` drives it, so that it can be stopped and restarted.
    restart
        It sends whole frames, from which it can restart.
    temperature
        Bounds in K within which the temperature may be set; None forbids it.
    longest_interval
        Upper bound of the steps between frames.
    """
    out = [
        Capability("pause"),
        Capability("resume"),
        Capability("interval", minimum=1, maximum=longest_interval, unit="steps"),
    ]
    if temperature is not None:
        low, high = temperature
        out.append(Capability("set", "temperature", minimum=low, maximum=high, unit="K"))
    if driven:
        out.append(Capability("stop"))
    if driven and restart:
        out.append(Capability("restart", description="From positions of all atoms, in nm."))
    return out


def link(
    simulation: Any,
    name: str,
    *,
    stager: str | None = None,
    run_directory: Path | str | None = None,
    every: int = 50,
    select: Selection = "all",
    fields: Sequence[Field] = ("positions",),
    dtype: str = "<f4",
    wrapped: bool = False,
    when_full: FullPolicy = "block",
    capacity: int = 256 << 20,
    driven: bool = False,
    temperature: tuple[float, float] | None = None,
    seed: int = 0,
    keys: Any = None,
    timeout: float = 10.0,
) -> HeadraceReporter:
    """Link an OpenMM simulation to a stager; returns a reporter to append, or to `run` with.

    Parameters
    ----------
    simulation
        An `openmm.app.Simulation`.
    name
        Name of the simulation; its stream is the topic ``frames/<name>``.
    stager, run_directory, when_full, capacity, keys, timeout
        See `sim_adapters.link.link`.
    every
        Steps between frames.
    select
        Atoms to send: ``"all"``, ``"heavy"``, ``"protein"``, ``"CA"`` or indices.
    fields
        Of ``positions``, ``velocities``, ``forces``, ``energies`` and ``box``. A periodic system
        sends its box with the positions in any case.
    dtype
        Of the vectors.
    wrapped
        Send molecules moved into the periodic box.
    driven
        `run` will drive the simulation: it can then be stopped, and restarted if whole frames
        are sent.
    temperature
        Bounds in K within which others may set the temperature; nobody may without them.
    seed
        Seed of the velocities that restarts draw.

    Raises
    ------
    NobodyListening
        If no stager answers in time.
    """
    topology, system = simulation.topology, simulation.system
    schema = describe(topology, system, select=select, fields=fields, dtype=dtype, wrapped=wrapped)
    folder = None if run_directory is None else Path(run_directory)
    whole = "positions" in fields and not schema.selection
    opened = Link(
        name,
        address=resolve(stager, folder, timeout=timeout),
        schema=schema,
        every=every,
        options=StreamOptions(when_full=when_full, capacity=capacity),
        capabilities=list_capabilities(driven=driven, restart=whole, temperature=temperature),
        keys=find_keys(keys),
        timeout=timeout,
    )
    return HeadraceReporter(
        opened, simulation, select=select, wrapped=wrapped, driven=driven, seed=seed
    )


def run(simulation: Any, reporter: HeadraceReporter, *, last: int) -> bool:
    """Run a simulation up to a step, applying commands after frames and at the steps they name.

    Other reporters of the simulation are served as usual.

    Parameters
    ----------
    simulation
        The one that the reporter was made for.
    reporter
        Appended to the simulation's reporters if it is not among them.
    last
        Step at which to end.

    Returns
    -------
    bool
        Whether the simulation came to `last`; False if it was stopped before.

    Raises
    ------
    MemberFailed
        If OpenMM raised, for instance because the simulation blew up.
    """
    if reporter not in simulation.reporters:
        simulation.reporters.append(reporter)
    stream = reporter.link
    while (now := simulation.currentStep) < last:
        target = min(last, max(stream.next_frame, now + 1))
        command = stream.next_command
        if command is not None and now < command < target:
            target = command
        try:
            simulation.step(target - now)
        except openmm.OpenMMException as error:
            message = f"OpenMM ended {stream.simulation!r} after step {now}: {error}."
            stream.event("failed", message, level="error", step=now)
            raise MemberFailed(message) from error
        if not stream.service(target, simulation.context.getTime()._value):
            return False
    return True
