"""The half of a link that takes commands: functions that apply them, and their answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import numpy.typing as npt

from bridge.commands import Command, CommandKind
from bridge.errors import CommandRefused, SteeringError
from bridge.schema import StreamSchema
from bridge.steering import ChannelStatistics, SimulationEnd, read_restart

__all__ = ["Arrays", "Shapes", "Steered"]

Shapes = Mapping[str, tuple[int, ...]]
Arrays = dict[str, npt.NDArray[np.float64]]


class Steered:
    """Takes commands and answers them; the base of `sim_adapters.link.Link`.

    Attributes
    ----------
    simulation
        Name of the simulation.
    every
        Steps between two frames; an ``interval`` command changes it.
    epoch
        Which continuous piece of trajectory the next frame belongs to; each restart that was
        applied begins a new one.
    step, time
        Where the simulation stood when it last put a frame or took commands.
    """

    def __init__(self, simulation: str, every: int) -> None:
        if every < 1:
            raise SteeringError(f"Frames come every {every} steps; it must be at least 1.")
        self.simulation = simulation
        self.every = every
        self.epoch = 0
        self.step, self.time = -1, 0.0
        self._end: SimulationEnd | None = None
        self._schema: StreamSchema | None = None
        self._setters: dict[str, Callable[[float], object]] = {}
        self._restart: Callable[[Arrays, Command], object] | None = None
        self._shapes: tuple[Shapes, Shapes] = ({}, {})

    def _lack_schema(self) -> SteeringError:
        return SteeringError(
            f"The link of {self.simulation!r} has no schema yet: put a frame first, or give "
            "a schema or an example."
        )

    @property
    def next_command(self) -> int | None:
        """Earliest step that a waiting command asks for; serve commands there."""
        return None if self._end is None else self._end.channel.next_step

    @property
    def stopped(self) -> bool:
        """Whether a stop was applied: the simulation should end."""
        return self._end is not None and self._end.channel.stopped

    def hears_stop(self, step: int) -> bool:
        """Return whether a stop has come that holds at this step; `service` applies it.

        Never waits; for simulations that wait for something of their own.
        """
        return self._end is not None and self._end.hears_stop(step)

    def on(self, kind: CommandKind, parameter: str, function: Callable[..., object]) -> None:
        """Name the function that applies a command when `service` is called.

        Parameters
        ----------
        kind, parameter
            ``"set"`` and the parameter's name, or ``"restart"`` and an empty string.
        function
            Called with the value for ``set``, and with the arrays and the command for
            ``restart``, where the arrays have the names and shapes of the schema; see
            `on_restart` for others. It refuses by raising `CommandRefused`.
        """
        if kind == "set":
            self._setters[parameter] = function
        elif kind == "restart":
            self.on_restart(function)
        else:
            raise SteeringError(f"A link carries out {kind!r} by itself; it needs no function.")

    def on_restart(
        self,
        function: Callable[[Arrays, Command], object],
        required: Shapes | None = None,
        optional: Shapes | None = None,
    ) -> None:
        """Name the function that restarts the simulation, and the arrays that it needs."""
        self._restart = function
        self._shapes = (required or {}, optional or {})

    def commands(self, step: int | None = None, time: float | None = None) -> Iterator[Command]:
        """Yield the set and restart commands that are due; answer each before the next.

        Pause, resume, stop and interval are carried out here. While the simulation is paused the
        call waits for a resume or a stop; else it never waits.

        Parameters
        ----------
        step, time
            Where the simulation stands; by default where it last put a frame.
        """
        if self._end is None:
            return
        self.step = self.step if step is None else step
        self.time = self.time if time is None else time
        for command in self._end.commands(self.step, self.time):
            if command.kind == "interval":
                self.every = int(command.value or 1)
                self.applied(command)
            else:
                yield command

    def applied(self, command: Command, step: int | None = None, time: float | None = None) -> None:
        """Acknowledge that a command took effect, by default where `commands` was called."""
        if self._end is not None:
            if command.kind == "restart":
                self.epoch += 1
            self._end.applied(
                command,
                self.step if step is None else step,
                self.time if time is None else time,
            )

    def refuse(self, command: Command, reason: str) -> None:
        """Acknowledge that a command had no effect, and why."""
        if self._end is not None:
            self._end.refuse(command, reason, self.step, self.time)

    def read_restart(self, command: Command) -> Arrays:
        """Return the arrays of a restart, checked; raises `CommandRefused` if they do not fit."""
        if self._end is None or self._schema is None:
            raise CommandRefused("The simulation has put no frame yet.")
        required, optional = self._shapes
        if not required:
            required = {v.name: v.shape for v in self._schema.variables}
        return read_restart(command, required, self._end.read_frame, optional=optional)

    def service(self, step: int | None = None, time: float | None = None) -> bool:
        """Apply what is due with the functions named by `on`; returns whether to go on.

        A function's `CommandRefused` refuses the command; any other error refuses it as well, and
        is raised.
        """
        for command in self.commands(step, time):
            try:
                if command.kind == "restart":
                    if self._restart is None:
                        raise CommandRefused("The simulation has no function for restarts.")
                    self._restart(self.read_restart(command), command)
                else:
                    setter = self._setters.get(command.parameter)
                    if setter is None or command.value is None:
                        raise CommandRefused(
                            f"The simulation has no function that sets {command.parameter!r}."
                        )
                    setter(command.value)
            except CommandRefused as error:
                self.refuse(command, str(error))
            except BaseException as error:
                self.refuse(command, f"The simulation failed to apply it: {error}.")
                raise
            else:
                self.applied(command)
        return not self.stopped

    def statistics(self) -> ChannelStatistics | None:
        """Return what became of the commands so far; None before the first frame."""
        return None if self._end is None else self._end.statistics()
