"""What is sent when, without sockets and clocks."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bridge.dashboard.channels import CHANNELS, Answer, Options, convert_options
from bridge.dashboard.sockets import Subscription
from bridge.dashboard.wire import Body
from bridge.errors import ConfigError


def make(channel: str = "overview", every: float = 0.1) -> Subscription:
    return Subscription(1, CHANNELS[channel], Options(), every)


def answer(cursor: Any = None, **more: Any) -> Answer:
    return Answer(Body(b"{}"), cursor, **more)


def test_the_cursor_moves_when_the_message_is_acknowledged() -> None:
    s = make("points")
    assert s.take(answer("c1"), 1.0)
    assert s.in_flight
    assert s.cursor is None
    assert not s.acknowledge(7)
    assert s.acknowledge(1)
    assert (s.in_flight, s.cursor) == (False, "c1")
    assert not s.acknowledge(1)


def test_what_is_empty_or_the_same_is_not_sent() -> None:
    s = make()
    assert s.take(answer(mark=5), 1.0)
    s.acknowledge(1)
    assert not s.take(answer(mark=5), 2.0)
    assert s.take(answer(mark=6), 3.0)
    s.acknowledge(2)
    assert not s.take(answer("c2", empty=True), 4.0)
    assert s.cursor == "c2"


def test_an_update_forgets_what_was_sent_even_while_it_is_in_flight() -> None:
    s = make("points")
    s.take(answer("old"), 1.0)
    s.update(Options(at=3.0), 0.1)
    assert s.acknowledge(1)
    assert s.cursor is None
    assert s.take(answer("new"), 2.0)
    s.acknowledge(2)
    assert s.cursor == "new"


def test_the_first_is_due_at_once_and_later_ones_on_a_beat_that_all_share() -> None:
    s, t = make(every=0.5), make(every=0.5)
    assert s.due(10.1) == 10.1
    s.take(answer(mark=1), 10.1)
    t.take(answer(mark=1), 10.3)
    assert s.due(10.3) == t.due(10.3) == 10.5


def test_more_of_it_is_due_at_once() -> None:
    s = make("events")
    s.take(answer(500, more=True), 10.0)
    s.acknowledge(1)
    assert s.due(10.0) == 10.0


@pytest.mark.parametrize(
    ("channel", "options", "word"),
    [
        ("points", {"x": "a"}, "y"),
        ("points", {"x": "a", "y": "b", "limit": 0}, "limit"),
        ("points", {"x": "a", "y": "b", "nearest": 1}, "nearest"),
        ("series", {"columns": []}, "columns"),
        ("series", {"columns": ["a"], "x": "clock"}, "clock"),
        ("molecule", {"simulation": "a", "offset": "first"}, "first"),
        ("histogram", {"x": "a", "bins": 10**9}, "bins"),
        ("overview", {"at": "now"}, "at"),
    ],
)
def test_options_that_are_wrong_are_refused_in_a_sentence(
    channel: str, options: dict[str, Any], word: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        convert_options(CHANNELS[channel].options, options)
    assert word in str(caught.value)
    assert str(caught.value).endswith(".")


class OfALog(RuleBasedStateMachine):
    """A page, a subscription and a log that grows, in every order of events."""

    def __init__(self) -> None:
        super().__init__()
        self.subscription = make("points")
        self.log: list[int] = []
        self.seen: list[int] = []
        self.flying: list[tuple[int, bool, list[int]]] = []
        self.now = 0.0

    @rule(count=st.integers(1, 5))
    def grow(self, count: int) -> None:
        self.log += range(len(self.log), len(self.log) + count)

    @precondition(lambda self: not self.subscription.in_flight)
    @rule(limit=st.integers(1, 4))
    def send(self, limit: int) -> None:
        self.now += 1.0
        first = self.subscription.cursor or 0
        rows = self.log[first : first + limit]
        reset = self.subscription.cursor is None
        found = answer(first + len(rows), empty=not rows and not reset)
        if self.subscription.take(found, self.now):
            self.flying.append((self.subscription.seq, reset, rows))

    @precondition(lambda self: self.flying)
    @rule()
    def acknowledge(self) -> None:
        seq, reset, rows = self.flying.pop()
        self.seen = rows if reset else self.seen + rows
        assert self.subscription.acknowledge(seq)

    @rule()
    def ask_for_something_else(self) -> None:
        self.subscription.update(Options(), 0.1)

    @invariant()
    def one_is_in_flight_at_most(self) -> None:
        assert len(self.flying) == self.subscription.in_flight <= 1

    @invariant()
    def nothing_is_missing_and_nothing_comes_twice(self) -> None:
        assert self.seen == self.log[: len(self.seen)]


TestOfALog = OfALog.TestCase
TestOfALog.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
