"""When a target was reached: who was told to stop, and who has said yes."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import msgspec

from bridge.commands import Acknowledgement, Command, Event
from bridge.engines.outcome import Outcome
from bridge.staging.client import StoredRecord

__all__ = ["TARGET", "Stops", "has_target"]

TARGET = "target_reached"
"""Kind of the event by which an operator tells that nothing more needs to be simulated."""

_decoder = msgspec.msgpack.Decoder(Acknowledgement)


class Stops:
    """Follows the stop commands that were decided on since an operator told of a target reached.

    Attributes
    ----------
    positions
        Topics of acknowledgements to read, and where.
    """

    def __init__(self) -> None:
        self.positions: dict[str, int] = {}
        self._waiting: dict[str, str] | None = None
        self._told: set[str] = set()
        self._any = False
        self._settled = 0.0
        self._since = 0.0

    def save(self) -> dict[str, Any] | None:
        """Return who was told to stop, and who has not answered; None before a target."""
        if self._waiting is None:
            return None
        return {"waiting": dict(self._waiting), "told": sorted(self._told)}

    def restore(self, saved: Mapping[str, Any] | None) -> None:
        """Take up what `save` returned."""
        if saved is not None:
            self._begin()
            self._told.update(saved["told"])
            self._expect(saved["waiting"])
            self._any = True

    def find_late(self, outcome: Outcome, *, target: bool = False) -> dict[str, str]:
        """Return commands that come too late, as ids, and why.

        After a target was reached, whoever is to stop gets no other command: a policy that does not
        know of the target may decide on. In the batch that brought the target, that holds from the
        frame on that was its cause, so it does not matter how the stream was cut. The verdict on
        the stop itself makes no difference, so that a dry run is judged as the real one.

        Parameters
        ----------
        outcome
            What one batch brought.
        target
            An operator on a worker told of a target reached with it.
        """
        if self._waiting is None and not target and not has_target(outcome):
            return {}
        since: dict[str, float] = dict.fromkeys(self._told, -math.inf)
        for numbered in outcome.commands:
            if numbered.command.kind == "stop":
                since.setdefault(numbered.command.simulation, numbered.offset)
        return {
            n.command.id: (
                f"A target was reached, and {n.command.simulation!r} is to stop; it gets no other "
                "command."
            )
            for n in outcome.commands
            if n.command.kind != "stop" and n.offset >= since.get(n.command.simulation, math.inf)
        }

    def watch(self, outcome: Outcome, sent: Iterable[Command]) -> None:
        """Look at what one batch brought."""
        if has_target(outcome):
            self._begin()
        if self._waiting is not None:
            stops = (n.command for n in outcome.commands if n.command.kind == "stop")
            self._told.update(command.simulation for command in stops)
            self._expect({c.id: c.simulation for c in sent if c.kind == "stop"})

    def hear(self, records: Iterable[StoredRecord]) -> None:
        """Take up acknowledgements."""
        for record in records:
            if record.topic in self.positions:
                self.positions[record.topic] = record.offset + 1
                if self._waiting is not None:
                    self._waiting.pop(_decoder.decode(record.data).command, None)

    def is_over(self, finished: Collection[str], *, idle: bool, linger: float) -> bool:
        """Whether everybody who was told to stop has answered, and nothing more comes.

        Parameters
        ----------
        finished
            Simulations whose streams have ended; they need not answer.
        idle
            Nothing came with the last fetch.
        linger
            Seconds to wait, after the last answer, for frames that are on their way.
        """
        if self._waiting is None or not self._any:
            return False
        if any(simulation not in finished for simulation in self._waiting.values()) or not idle:
            self._settled = 0.0
            return False
        now = time.monotonic()
        self._settled = self._settled or now
        return now - self._settled >= linger

    def overdue(self, finished: Collection[str], timeout: float) -> Event | None:
        """Return an event that names who has not answered for `timeout` seconds, if so."""
        late = sorted(s for s in (self._waiting or {}).values() if s not in finished)
        if not late or time.monotonic() - self._since < timeout:
            return None
        return Event(
            "stop_unanswered",
            f"The target is reached, and {', '.join(map(repr, late))} did not answer the command "
            f"to stop for {timeout:.0f} s; the engine ends.",
            level="error",
            data={"simulations": late},
        )

    def _begin(self) -> None:
        if self._waiting is None:
            self._waiting = {}
            self._since = time.monotonic()

    def _expect(self, commands: dict[str, str]) -> None:
        if commands and self._waiting is not None:
            self._any = True
            self._since = time.monotonic()
            self._waiting.update(commands)
            for simulation in commands.values():
                self.positions.setdefault(f"acks/{simulation}", 0)


def has_target(outcome: Outcome) -> bool:
    """Return whether an operator told of a target reached."""
    return any(event.kind == TARGET for event in outcome.events)
