"""The ledger: who decided what, on which frames, and what became of it.

It is not stored anywhere: it is the topics ``decisions``, ``approvals``, ``commands/*`` and
``acks/*`` of the log, joined by the commands' ids.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, Protocol

import msgspec

from bridge.commands import (
    Acknowledgement,
    Approval,
    ApprovalWord,
    Command,
    Decision,
    FrameReference,
    Outcome,
    Verdict,
)
from bridge.steering.approvals import APPROVALS, DECISIONS
from bridge.steering.bounds import describe_command
from bridge.steering.unreadable import Unreadable

__all__ = [
    "ApprovalState",
    "Ledger",
    "LedgerLine",
    "LedgerReader",
    "read_ledger",
    "state_of",
    "word_of",
]

COMMANDS = "commands/"
ACKNOWLEDGEMENTS = "acks/"

_approvals = msgspec.msgpack.Decoder(Approval)
_decisions = msgspec.msgpack.Decoder(Decision)
_commands = msgspec.msgpack.Decoder(Command)
_acknowledgements = msgspec.msgpack.Decoder(Acknowledgement)


class ApprovalState(msgspec.Struct, frozen=True, kw_only=True):
    """How it stands with the approval of a command.

    Attributes
    ----------
    state
        Whether somebody has spoken. An approved command may be refused all the same: see the
        verdict.
    by, reason
        Who spoke and why; empty while nobody has. ``time limit`` is nobody within it.
    at
        Unix time in seconds of the word; 0 while there is none.
    until
        Unix time in seconds at which the default holds; 0 if unknown.
    default
        What becomes of the command if nobody speaks.
    """

    state: Literal["awaiting", "approved", "denied"] = "awaiting"
    by: str = ""
    reason: str = ""
    at: float = 0.0
    until: float = 0.0
    default: ApprovalWord = "deny"


class LedgerLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One command from decision to acknowledgement.

    Attributes
    ----------
    id, kind, simulation
        The command, and whom it is for.
    what
        What it does, in a few words.
    why
        The reason that its author gave.
    evidence
        The numbers behind it.
    frame
        The frame that it refers to.
    author
        Who decided.
    verdict, verdict_reason
        What the guard said, or whoever spoke after it; empty for a command that was sent without a
        guard.
    outcome, outcome_reason
        What the simulation said, or the stager for one that ended before it looked at the
        command; empty while there is no answer.
    step, time
        Where the simulation stood when it answered; None while there is no answer.
    incarnation
        Which life of the simulation answered.
    decided, answered
        Unix times in seconds; 0 where unknown.
    latency
        Seconds from the decision, or the approval, to the acknowledgement; None while there is no
        answer.
    answers
        Acknowledgements seen; more than one would mean that the command was applied again.
    approval
        How it stands with a person's approval; None if nobody is asked.
    """

    id: str
    kind: str = ""
    simulation: str = ""
    what: str = ""
    why: str = ""
    evidence: dict[str, Any] = {}
    frame: FrameReference | None = None
    author: str = ""
    verdict: Verdict | None = None
    verdict_reason: str = ""
    outcome: Outcome | None = None
    outcome_reason: str = ""
    step: int | None = None
    time: float | None = None
    incarnation: int = 0
    decided: float = 0.0
    answered: float = 0.0
    latency: float | None = None
    answers: int = 0
    approval: ApprovalState | None = None


class Ledger:
    """Joins decisions, commands and acknowledgements, in whatever order they are read."""

    def __init__(self) -> None:
        self._lines: dict[str, LedgerLine] = {}

    def __len__(self) -> int:
        return len(self._lines)

    def __iter__(self) -> Iterator[LedgerLine]:
        return iter(self.lines())

    def lines(self) -> list[LedgerLine]:
        """Return the lines in the order of their decisions."""
        return sorted(self._lines.values(), key=lambda line: line.decided)

    def add_decision(self, decision: Decision) -> None:
        """Take in what the guard said; a later word on the same command replaces it."""
        line = self._lines.get(decision.command.id)
        more: dict[str, Any] = {}
        if decision.until:
            state = (line and line.approval) or ApprovalState()
            more["approval"] = msgspec.structs.replace(
                state, until=decision.until, default=decision.default
            )
        if not (decision.by and line is not None and line.verdict is not None):
            # Who speaks later does not change when the command was thought of.
            more["decided"] = decision.stamp
        self._describe(
            decision.command, verdict=decision.verdict, verdict_reason=decision.reason, **more
        )

    def add_approval(self, approval: Approval) -> None:
        """Take in a word on a command that waits; the first one holds."""
        line = self._lines.get(approval.command) or LedgerLine(id=approval.command)
        state = line.approval or ApprovalState()
        if state.state == "awaiting":
            self._put(
                line,
                approval=msgspec.structs.replace(
                    state,
                    state="approved" if approval.word == "approve" else "denied",
                    by=approval.by,
                    reason=approval.reason,
                    at=approval.stamp,
                ),
            )

    def add_command(self, command: Command, stamp: float) -> None:
        """Take in a command that was sent; the guard's word on it, where there is one, stays."""
        line = self._lines.get(command.id)
        if line is None or line.verdict is None:
            self._describe(command, decided=stamp)

    def add_acknowledgement(self, answer: Acknowledgement) -> None:
        """Take in what a simulation said; the first word counts, further ones are counted."""
        line = self._lines.get(answer.command) or LedgerLine(
            id=answer.command, simulation=answer.simulation
        )
        if line.answers:
            self._put(line, answers=line.answers + 1)
            return
        self._put(
            line,
            outcome=answer.outcome,
            outcome_reason=answer.reason,
            step=answer.step,
            time=answer.time,
            incarnation=answer.incarnation,
            answered=answer.stamp,
            answers=1,
        )

    def add_record(self, topic: str, data: bytes | memoryview, stamp: float) -> None:
        """Take in a record of the log; those of other topics are left alone."""
        if topic == DECISIONS:
            self.add_decision(_decisions.decode(data))
        elif topic == APPROVALS:
            self.add_approval(_approvals.decode(data))
        elif topic.startswith(COMMANDS):
            self.add_command(_commands.decode(data), stamp)
        elif topic.startswith(ACKNOWLEDGEMENTS):
            self.add_acknowledgement(_acknowledgements.decode(data))

    def _describe(self, command: Command, **more: Any) -> None:
        line = self._lines.get(command.id) or LedgerLine(id=command.id)
        self._put(
            line,
            kind=command.kind,
            simulation=command.simulation,
            what=describe_command(command),
            why=command.reason,
            evidence=command.evidence,
            frame=command.frame,
            author=command.author,
            **more,
        )

    def _put(self, line: LedgerLine, **changes: Any) -> None:
        line = msgspec.structs.replace(line, **changes)
        if line.decided and line.answers:
            since = line.approval.at if line.approval and line.approval.at else line.decided
            line = msgspec.structs.replace(line, latency=line.answered - since)
        self._lines[line.id] = line


def state_of(line: LedgerLine, *, over: bool = False) -> str:
    """Return what became of a command in one word; see `word_of`."""
    return word_of(line.outcome, line.verdict, over=over)


def word_of(outcome: str | None, verdict: str | None, *, over: bool = False) -> str:
    """Return what became of a command in one word: its outcome, or else its verdict.

    Parameters
    ----------
    outcome, verdict
        As a `LedgerLine` has them.
    over
        The run is over: what was sent and has no answer is ``unanswered``, and not ``sent``. Its
        simulation was killed, and nobody knows whether it had applied the command. (One that
        ended in good order has answered, or the stager for it.)
    """
    if outcome or verdict not in (None, "sent"):
        return outcome or verdict or ""
    return "unanswered" if over else "sent"


class _Record(Protocol):
    @property
    def topic(self) -> str: ...
    @property
    def data(self) -> Any: ...
    @property
    def offset(self) -> int: ...
    @property
    def stamp(self) -> float: ...


class _Topic(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def low(self) -> int: ...
    @property
    def end(self) -> int: ...


class LedgerReader:
    """Keeps a ledger up to date from the log.

    Parameters
    ----------
    client
        A `bridge.staging.client.StagerClient`; used by the thread that calls `update` alone.

    Attributes
    ----------
    ledger
        What was read.
    unreadable
        Records that were passed over.
    """

    def __init__(self, client: Any) -> None:
        self.ledger = Ledger()
        self.unreadable = Unreadable()
        self._client = client
        self._positions: dict[str, int] = {}

    def update(self) -> Ledger:
        """Read what is in the log by now, without waiting for more; returns the ledger."""
        ends = {}
        for prefix in (DECISIONS, APPROVALS, COMMANDS, ACKNOWLEDGEMENTS):
            topics: list[_Topic] = self._client.topics(prefix)
            for topic in topics:
                self._positions.setdefault(topic.name, topic.low)
                ends[topic.name] = topic.end
        while behind := {t: p for t, p in self._positions.items() if p < ends.get(t, 0)}:
            with self._client.fetch(behind, wait=0.0) as fetched:
                records: list[_Record] = fetched.records
                for record in records:
                    with self.unreadable.passed_over(record.topic, record.offset):
                        self.ledger.add_record(record.topic, record.data, record.stamp)
                if not records:
                    break
                self._positions.update(fetched.positions)
        return self.ledger


def read_ledger(client: Any) -> Ledger:
    """Read the whole ledger from the log once."""
    return LedgerReader(client).update()
