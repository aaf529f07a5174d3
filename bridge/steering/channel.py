"""The simulation's end of the command channel, as a state machine without I/O.

::

    deliver ──▶ waiting ──due──▶ handed out ──applied / refuse──▶ answered
                   │                  (set, restart, interval)        ▲
                   ├── expired, out of bounds, step passed ───────────┤
                   └── pause, resume, stop (carried out here, ────────┘
                       or handed out as well)

Each command id is answered exactly once, however often it is delivered.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bridge.commands import Acknowledgement, Capability, Command, Outcome
from bridge.steering.bounds import find_fault

__all__ = ["ChannelStatistics", "CommandChannel"]

_REMEMBERED = 100_000  # ids; a command that comes again comes soon after a reconnect


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelStatistics:
    """What became of the commands so far.

    Attributes
    ----------
    delivered
        Commands that arrived, repeats included.
    repeated
        Of these, commands whose id had come before; they had no effect.
    waiting
        Commands that wait for their step, or for the next occasion.
    applied, refused, expired
        Answers by outcome.
    """

    delivered: int
    repeated: int
    waiting: int
    applied: int
    refused: int
    expired: int


class CommandChannel:
    """Decides for one simulation which command is to be applied when.

    One thread, the simulation's, uses it. Steps passed to its methods never decrease.

    Parameters
    ----------
    simulation
        Name of the simulation.
    capabilities
        What it lets others do.
    incarnation
        Its present life, for the acknowledgements.
    answered
        Ids that earlier lives answered; they have no effect any more.
    hand_out_all
        Hand out pause, resume and stop as well, to be answered once an engine elsewhere has
        carried them out.
    """

    def __init__(
        self,
        simulation: str,
        capabilities: Sequence[Capability] = (),
        *,
        incarnation: int = 0,
        answered: Iterable[str] = (),
        hand_out_all: bool = False,
    ) -> None:
        self._hand_out_all = hand_out_all
        self.simulation = simulation
        self.capabilities = tuple(capabilities)
        self.incarnation = incarnation
        self._seen: dict[str, None] = dict.fromkeys(answered)
        self._waiting: list[Command] = []
        self._open: dict[str, Command] = {}
        self._answers: list[Acknowledgement] = []
        self._counts: dict[Outcome, int] = {"applied": 0, "refused": 0, "expired": 0}
        self._delivered = self._repeated = 0
        self._paused = self._stopped = False

    @property
    def paused(self) -> bool:
        """Whether a pause was applied that no resume or stop has ended yet."""
        return self._paused and not self._stopped

    @property
    def stopped(self) -> bool:
        """Whether a stop was applied."""
        return self._stopped

    @property
    def next_step(self) -> int | None:
        """Earliest step that a waiting command asks for; the simulation should halt there."""
        return min((c.at_step for c in self._waiting if c.at_step is not None), default=None)

    def deliver(self, commands: Iterable[Command]) -> None:
        """Take in what arrived, in order; a known id is dropped."""
        for command in commands:
            self._delivered += 1
            if command.id in self._seen:
                self._repeated += 1
                continue
            self._seen[command.id] = None
            if len(self._seen) > _REMEMBERED:
                del self._seen[next(iter(self._seen))]
            self._waiting.append(command)

    def stop_waits(self, step: int, now: float) -> bool:
        """Return whether the next look at this step will apply a stop; changes nothing."""
        return self.stopped or any(
            command.kind == "stop"
            and not (command.expires and now > command.expires)
            and (command.at_step is None or command.at_step == step)
            and not self._find_fault(command, step)
            for command in self._waiting
        )

    def due(self, step: int, time: float, now: float) -> list[Command]:
        """Return the commands to apply at this step, in the order in which they came.

        Pause, resume and stop are carried out and answered here, unless all are handed out, as is
        every refusal; set, restart and interval commands are handed out once, to be answered with
        `applied` or `refuse`.

        Parameters
        ----------
        step, time
            Where the simulation stands.
        now
            Unix time in seconds, for expiry.
        """
        if not self._waiting:
            return []
        waiting, self._waiting = self._waiting, []
        out = []
        for command in waiting:
            fault = self._find_fault(command, step)
            if command.expires and now > command.expires:
                late = f"The command expired {now - command.expires:.3g} s before step {step}."
                self._answer(command, "expired", late, step, time, now)
            elif fault:
                self._answer(command, "refused", fault, step, time, now)
            elif command.at_step is not None and command.at_step > step:
                self._waiting.append(command)
            elif self._hand_out_all or command.kind in ("set", "restart", "interval"):
                self._open[command.id] = command
                out.append(command)
            else:
                self._note(command)
                self._answer(command, "applied", "", step, time, now)
        return out

    def _note(self, command: Command) -> None:
        if command.kind in ("pause", "resume", "stop"):
            self._paused = command.kind == "pause"
            self._stopped = command.kind == "stop"

    def applied(self, command: Command, step: int, time: float, now: float) -> None:
        """Answer a command that was handed out: it took effect at this step."""
        if self._open.pop(command.id, None) is not None:
            self._note(command)
            self._answer(command, "applied", "", step, time, now)

    def refuse(self, command: Command, reason: str, step: int, time: float, now: float) -> None:
        """Answer a command that was handed out: it had no effect, and why."""
        if self._open.pop(command.id, None) is not None:
            self._answer(command, "refused", reason, step, time, now)

    def close(self, step: int, time: float, now: float) -> None:
        """Refuse whatever has no answer yet, because the simulation ends at this step."""
        for command in (*self._open.values(), *self._waiting):
            reason = f"The simulation ended at step {step} before it could apply the command."
            self._answer(command, "refused", reason, step, time, now)
        self._open.clear()
        self._waiting.clear()

    def take_answers(self) -> list[Acknowledgement]:
        """Return the acknowledgements made since the last call, in order."""
        out, self._answers = self._answers, []
        return out

    def statistics(self) -> ChannelStatistics:
        """Return a snapshot of the counts."""
        return ChannelStatistics(
            delivered=self._delivered,
            repeated=self._repeated,
            waiting=len(self._waiting),
            **self._counts,
        )

    def _find_fault(self, command: Command, step: int) -> str:
        if command.simulation != self.simulation:
            return f"The command is for {command.simulation!r}; this is {self.simulation!r}."
        if self._stopped:
            return f"The simulation {self.simulation!r} was stopped."
        if command.at_step is not None and command.at_step < step:
            return (
                f"The command was to be applied at step {command.at_step}; the simulation is at "
                f"step {step} already."
            )
        if command.kind == "pause" and self._paused and command.at_step in (None, step):
            return "The simulation is paused already."
        if command.kind == "resume" and not self._paused and command.at_step in (None, step):
            return "The simulation is not paused."
        return find_fault(command, self.capabilities)

    def _answer(
        self, command: Command, outcome: Outcome, reason: str, step: int, time: float, now: float
    ) -> None:
        self._counts[outcome] += 1
        self._answers.append(
            Acknowledgement(
                command.id,
                self.simulation,
                outcome,
                step=step,
                time=time,
                reason=reason,
                incarnation=self.incarnation,
                stamp=now,
            )
        )
