"""Decisions, commands and acknowledgements joined into lines."""

from __future__ import annotations

import itertools
import math

import msgspec
import pytest

from bridge.commands import Acknowledgement, Command, Decision, FrameReference, Outcome, Verdict
from bridge.steering import Ledger, LedgerLine, state_of

RESTART = Command(
    "restart",
    "walker-1",
    id="p/restart/walker-1@40",
    frame=FrameReference("walker-2", 7),
    reason="Rare bin.",
    evidence={"count": 1},
    author="p/restart",
)
RECORDS = [
    ("decisions", Decision(RESTART, "sent", stamp=100.0), 100.0),
    ("commands/walker-1", RESTART, 100.001),
    (
        "acks/walker-1",
        Acknowledgement(RESTART.id, "walker-1", "applied", step=1250, time=5.0, stamp=100.004),
        100.005,
    ),
]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_a_line_is_the_same_in_whatever_order_it_was_read(order: tuple[int, ...]) -> None:
    ledger = Ledger()
    for index in order:
        topic, value, stamp = RECORDS[index]
        ledger.add_record(topic, msgspec.msgpack.encode(value), stamp)
    (line,) = ledger
    assert line.what == "restart from walker-2@7, redraw velocities"
    assert (line.why, line.evidence, line.author) == ("Rare bin.", {"count": 1}, "p/restart")
    assert (line.verdict, line.outcome, line.step, line.answers) == ("sent", "applied", 1250, 1)
    assert line.latency is not None
    assert math.isclose(line.latency, 0.004, abs_tol=1e-6)
    assert line.frame == FrameReference("walker-2", 7)


def test_a_refusal_of_the_guard_has_no_answer_and_is_json() -> None:
    ledger = Ledger()
    ledger.add_decision(Decision(RESTART, "refused", reason="Too many.", stamp=1.0))
    (line,) = ledger
    assert (line.verdict, line.verdict_reason, line.outcome) == ("refused", "Too many.", None)
    assert line.latency is None
    assert b"Too many." in msgspec.json.encode(line)


@pytest.mark.parametrize(
    ("verdict", "outcome", "now", "afterwards"),
    [
        ("sent", "applied", "applied", "applied"),
        ("sent", "refused", "refused", "refused"),
        ("sent", None, "sent", "unanswered"),
        (None, None, "sent", "unanswered"),
        ("denied", None, "denied", "denied"),
        ("awaiting_approval", None, "awaiting_approval", "awaiting_approval"),
    ],
)
def test_what_was_sent_and_never_answered_is_unanswered_when_the_run_is_over(
    verdict: Verdict | None, outcome: Outcome | None, now: str, afterwards: str
) -> None:
    line = LedgerLine(id="x", verdict=verdict, outcome=outcome)
    assert (state_of(line), state_of(line, over=True)) == (now, afterwards)


def test_commands_that_people_send_have_a_line_without_a_verdict() -> None:
    ledger = Ledger()
    ledger.add_command(Command("stop", "walker", id="me", author="somebody"), 9.0)
    (line,) = ledger
    assert (line.verdict, line.decided, line.author) == (None, 9.0, "somebody")


def test_a_second_answer_is_counted_and_changes_nothing() -> None:
    ledger = Ledger()
    for step in (10, 20):
        ledger.add_acknowledgement(Acknowledgement("a", "walker", "applied", step=step))
    (line,) = ledger
    assert (line.step, line.answers) == (10, 2)


def test_lines_come_in_the_order_of_their_decisions_and_other_topics_are_left_alone() -> None:
    ledger = Ledger()
    for name, stamp in (("b", 2.0), ("a", 1.0), ("c", 3.0)):
        ledger.add_decision(Decision(Command("stop", "w", id=name), "sent", stamp=stamp))
    ledger.add_record("results/p/w", b"anything", 0.0)
    assert [line.id for line in ledger.lines()] == ["a", "b", "c"]
    assert len(ledger) == 3
