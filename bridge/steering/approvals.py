"""Commands that wait for a person: who may still be asked, who has spoken, what is to be done.

::

    decisions: awaiting_approval ──▶ waiting ──word of a person──▶ spoken ──▶ decisions: sent,
                                        │                            ▲        denied, refused
                                        └──time limit: the default───┘          └──▶ commands/…

The first word on a command in the topic ``approvals`` holds. Each word is appended by a writer of
the command's id, from 0 to 1, so the stager stores only one, however many people, dashboards and
clocks speak at once; and so are the decision and the command that follow. Whoever sees a word may
therefore carry it out, and whoever was killed in between is stood in for.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import msgspec

from bridge.commands import Approval, Command, Decision

__all__ = ["APPROVALS", "DECISIONS", "ApprovalBook", "Case"]

APPROVALS = "approvals"
DECISIONS = "decisions"

_REMEMBERED = 100_000  # commands whose story is over

_approvals = msgspec.msgpack.Decoder(Approval)
_decisions = msgspec.msgpack.Decoder(Decision)


@dataclass(slots=True)
class Case:
    """What is known of one command."""

    asked: Decision | None = None
    """What the guard said."""
    approval: Approval | None = None
    """The first word on it."""
    said: Decision | None = None
    """The decision that somebody made in place of the guard."""


class ApprovalBook:
    """Follows the topics ``decisions`` and ``approvals``; a state machine without I/O."""

    def __init__(self) -> None:
        self._cases: OrderedDict[str, Case] = OrderedDict()
        self._words: dict[str, Approval] = {}
        self._waiting: dict[str, Decision] = {}
        self._unsent: dict[str, Command] = {}

    def add_record(self, topic: str, data: bytes | memoryview) -> Decision | None:
        """Take in a record, in the order of its topic; returns it if it is a decision."""
        if topic == APPROVALS:
            self._hear(_approvals.decode(data))
        elif topic == DECISIONS:
            decision = _decisions.decode(data)
            self._decide(decision)
            return decision
        return None

    def find(self, command: str) -> Case | None:
        """Return what is known of a command; None if nothing is."""
        return self._cases.get(command)

    def waiting(self) -> list[Decision]:
        """Return the decisions that wait for a word, oldest first."""
        return [d for name, d in self._waiting.items() if name not in self._words]

    def overdue(self, now: float) -> list[Decision]:
        """Return those of `waiting` whose time is up."""
        return [decision for decision in self.waiting() if decision.until <= now]

    def spoken(self) -> list[tuple[Decision, Approval]]:
        """Return what a word was said on that was not carried out yet, in the words' order."""
        return [(self._waiting[n], w) for n, w in self._words.items() if n in self._waiting]

    def is_spoken(self, command: str) -> bool:
        """Return whether a word was said on a command that was not carried out yet."""
        return command in self._words and command in self._waiting

    def unsent(self) -> list[Command]:
        """Return commands that somebody decided to send, and that may not be on their way yet."""
        return list(self._unsent.values())

    def note_sent(self, command: str) -> None:
        """Note that a command is in its topic."""
        self._unsent.pop(command, None)

    def _hear(self, approval: Approval) -> None:
        case = self._case(approval.command)
        if case.approval is None:
            case.approval = approval
            if case.said is None:
                self._words[approval.command] = approval

    def _decide(self, decision: Decision) -> None:
        name = decision.command.id
        case = self._case(name)
        if not decision.by:
            if case.asked is None:
                case.asked = decision
                if decision.verdict == "awaiting_approval" and case.said is None:
                    self._waiting[name] = decision
            return
        if case.said is not None:
            return
        case.said = decision
        self._waiting.pop(name, None)
        self._words.pop(name, None)
        if decision.verdict == "sent":
            self._unsent[name] = decision.command

    def _case(self, name: str) -> Case:
        case = self._cases.get(name)
        if case is None:
            case = self._cases[name] = Case()
            if len(self._cases) > _REMEMBERED:
                # Those that wait are never the oldest for long: each has a time limit.
                self._cases.popitem(last=False)
        return case
