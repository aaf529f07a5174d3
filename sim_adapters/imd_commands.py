"""Commands as an engine takes them over IMD, and when each is known to have had its effect.

IMD answers nothing. What the engine sends next tells: after it was told to go on, the next frame;
after another rate, the first frames that far apart; after a pause, that nothing comes any more;
after a kill, the end. Forces hold at the latest in the second frame that the engine sent after they
had been sent to it, for it looks for requests in between. An acknowledgement names that frame's
step, and what has no such effect in time is refused.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from bridge.commands import Capability, Command
from bridge.errors import CommandRefused, ConfigError, TransportError
from bridge.schema import check_name
from bridge.steering import CommandChannel
from bridge.transports.imd import EngineConnection, Kind

__all__ = ["EngineCommands", "PullGroup", "list_capabilities"]

QUIET = 0.25
"""Seconds without a frame, at least, after which an engine is taken for paused."""

_AXES = "xyz"


class PullGroup(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Atoms that others may pull at.

    Attributes
    ----------
    atoms
        Their indices, from 0, among those that the engine sends.
    minimum, maximum
        Bounds of each component of the force on each atom, in kJ/mol/nm.
    """

    atoms: tuple[int, ...]
    minimum: float
    maximum: float

    def __post_init__(self) -> None:
        if not self.atoms or min(self.atoms) < 0 or len(set(self.atoms)) < len(self.atoms):
            raise ConfigError(f"The atoms {list(self.atoms)} to pull at are no set of indices.")
        if not self.minimum <= 0.0 <= self.maximum:
            raise ConfigError("The bounds of a pull must include 0, or it could not be ended.")


def list_capabilities(
    pull: Mapping[str, PullGroup], *, numbered: bool, unit: str
) -> list[Capability]:
    """Return what others may do; a new interval only where the engine numbers its frames."""
    out = [Capability("pause"), Capability("resume"), Capability("stop")]
    if numbered:
        out.append(Capability("interval", minimum=1, maximum=2**31 - 1, unit="steps"))
    for name, group in pull.items():
        check_name(name, "group of atoms")
        for axis in _AXES:
            text = f"Force on each of {len(group.atoms)} atoms."
            bounds = (group.minimum, group.maximum)
            out.append(Capability("set", f"{name}.f{axis}", *bounds, unit, description=text))
    return out


@dataclass(slots=True)
class _Asked:
    """A command that the engine was told of."""

    command: Command
    since: float
    before: int = 0
    """Frames that may still come without its effect."""
    frames: int = 0
    """Frames that have come since."""


class EngineCommands:
    """Tells an engine what is due, and answers once the effect is seen; free of waiting.

    Parameters
    ----------
    engine
        The session.
    channel
        A channel that hands out all commands.
    pull
        Groups of atoms by name.
    force
        The engine's unit of force, in kJ/mol/nm.
    patience
        Seconds after which a command that had no effect is refused, if frames go on coming.
    """

    def __init__(
        self,
        engine: EngineConnection,
        channel: CommandChannel,
        *,
        pull: Mapping[str, PullGroup],
        force: float,
        patience: float = 10.0,
    ) -> None:
        self._engine = engine
        self._channel = channel
        self._pull = dict(pull)
        self._forces = {name: np.zeros(3) for name in pull}
        self._force = force
        self._patience = patience
        self._asked: list[_Asked] = []
        self._last: tuple[int, float] = (-1, 0.0)
        self._seen = time.monotonic()
        self._interval = 0.0
        self.paused = False
        self.counted = False
        """Whether steps of frames had to be counted, so that the interval must stay as it is."""

    @property
    def waiting(self) -> bool:
        """Whether something was asked for whose effect is not known yet."""
        return bool(self._asked)

    @property
    def stopping(self) -> bool:
        """Whether the engine was told to end."""
        return any(asked.command.kind == "stop" for asked in self._asked)

    def ask(self) -> None:
        """Tell the engine whatever is due after the newest frame."""
        step, at = self._last
        for command in self._channel.due(step, at, time.time()):
            try:
                self._tell(command)
            except (CommandRefused, TransportError) as error:
                self._channel.refuse(command, str(error), step, at, time.time())

    def _tell(self, command: Command) -> None:
        quiet = self.paused
        match command.kind:
            case "pause":
                self._pause()
            case "resume":
                self._resume()
            case "stop":
                self._engine.send(Kind.KILL)
                if self.paused:
                    # GROMACS takes note of a kill, and ends only once it goes on.
                    self._go_on()
            case "interval":
                if self.counted:
                    raise CommandRefused(
                        "The engine numbers only some of its frames, so nobody knows the steps of "
                        "the others at another rate; set it in the engine, and give --every."
                    )
                self._engine.send(Kind.RATE, int(command.value or 1))
            case "set":
                self._set(command.parameter, float(command.value or 0.0))
            case _:
                raise CommandRefused(f"IMD has no way to {command.kind}.")
        # A paused engine sends nothing more before it has seen all requests.
        before = 0 if quiet else self._engine.count_arrived() + 1
        self._asked.append(_Asked(command, time.monotonic(), before))

    def _pause(self) -> None:
        if self.paused:
            raise CommandRefused("The engine was told to pause already.")
        self._engine.send(Kind.PAUSE)
        self.paused = True

    def _resume(self) -> None:
        if not self.paused:
            raise CommandRefused("The engine is not paused.")
        for asked in [a for a in self._asked if a.command.kind == "pause"]:
            self._applied(asked, *self._last)
        self._go_on()

    def _go_on(self) -> None:
        # In version 2 a second pause ends the first.
        self._engine.send(Kind.PAUSE if self._engine.info.version == 2 else Kind.RESUME)
        self.paused = False

    def _set(self, parameter: str, value: float) -> None:
        name, _, axis = parameter.rpartition(".f")
        forces = {k: v.copy() for k, v in self._forces.items()}
        forces[name][_AXES.index(axis)] = value
        self._send_forces(forces)
        self._forces = forces

    def _send_forces(self, forces: Mapping[str, npt.NDArray[np.float64]]) -> None:
        # An atom that is in several groups feels the sum: the protocol wants each atom once.
        total: dict[int, npt.NDArray[np.float64]] = {}
        for name, force in forces.items():
            if force.any():
                for atom in self._pull[name].atoms:
                    total[atom] = total.get(atom, 0.0) + force / self._force
        indices = np.fromiter(total, np.int64, len(total))
        values = np.array(list(total.values())).reshape(-1, 3)
        self._engine.send_forces(indices, values)

    # -------------------------------------------------------------- what is seen

    def saw(self, steps: npt.NDArray[np.int64], times: npt.NDArray[np.float64]) -> None:
        """Note frames that came; answer what they show."""
        now = time.monotonic()
        count = len(steps)
        before = self._last[0]
        self._interval += 0.3 * ((now - self._seen) / count - self._interval)
        self._seen = now
        self._last = (int(steps[-1]), float(times[-1]))
        for asked in list(self._asked):
            row = asked.before - asked.frames
            asked.frames += count
            match asked.command.kind:
                case "set" | "resume":
                    if row < count:
                        self._applied(asked, int(steps[row]), float(times[row]))
                case "interval":
                    spaced = np.diff(steps, prepend=before) == int(asked.command.value or 1)
                    if spaced.any():
                        row = int(spaced.argmax())
                        self._applied(asked, int(steps[row]), float(times[row]))

    def look(self) -> None:
        """Answer what silence, time or the end show."""
        now = time.monotonic()
        quiet = max(QUIET, 5.0 * self._interval)
        for asked in list(self._asked):
            kind = asked.command.kind
            late = now - asked.since > self._patience and asked.frames > 1
            if (kind == "pause" and now - max(self._seen, asked.since) > quiet) or (
                kind == "stop" and self._engine.ended
            ):
                self._applied(asked, *self._last)
            elif late and kind in ("pause", "stop", "interval"):
                self.paused = self.paused and kind != "pause"
                self._refuse(asked)

    def _refuse(self, asked: _Asked) -> None:
        self._asked.remove(asked)
        hint = {"stop": "; GROMACS takes it only when started with -imdterm"}
        reason = (
            f"The engine goes on as before {self._patience:.3g} s after it was told to "
            f"{asked.command.kind}{hint.get(asked.command.kind, '')}."
        )
        self._channel.refuse(asked.command, reason, *self._last, time.time())

    def _applied(self, asked: _Asked, step: int, at: float) -> None:
        self._asked.remove(asked)
        self._channel.applied(asked.command, step, at, time.time())

    def let_go(self) -> None:
        """Leave an engine as it was: going on, and without forces of ours."""
        if self._engine.ended:
            return
        if any(force.any() for force in self._forces.values()):
            self._send_forces({})
        if self.paused:
            self._go_on()
