"""The state machine at the simulation's end: each command answered once, at the right step."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.commands import Acknowledgement, Capability, Command
from bridge.steering import CommandChannel

CAPABILITIES = (
    Capability("set", "temperature", minimum=250, maximum=400, unit="K"),
    Capability("interval", minimum=1, maximum=1000),
    Capability("restart"),
    Capability("pause"),
    Capability("resume"),
    Capability("stop"),
)


def command(name: str, kind: Any = "set", **fields: Any) -> Command:
    more: dict[str, Any] = {}
    if kind == "set":
        more = {"parameter": "temperature", "value": 300.0}
    if kind == "restart":
        more = {"state": b"x"}
    return Command(kind, "walker", **{"id": name, **more, **fields})


def make(**more: Any) -> CommandChannel:
    return CommandChannel("walker", CAPABILITIES, incarnation=3, **more)


def short(answers: list[Acknowledgement]) -> list[tuple[str, str, int]]:
    return [(a.command, a.outcome, a.step) for a in answers]


def test_a_command_is_handed_out_once_and_answered_once_however_often_it_comes() -> None:
    channel = make()
    first = command("a")
    channel.deliver([first, first])
    channel.deliver([first])
    assert channel.due(10, 0.1, 0.0) == [first]
    channel.applied(first, 10, 0.1, 5.0)
    channel.applied(first, 20, 0.2, 6.0)
    channel.refuse(first, "again", 20, 0.2, 6.0)
    channel.deliver([first])
    assert channel.due(30, 0.3, 0.0) == []
    (answer,) = channel.take_answers()
    assert answer == Acknowledgement(
        "a", "walker", "applied", step=10, time=0.1, incarnation=3, stamp=5.0
    )
    statistics = channel.statistics()
    assert (statistics.delivered, statistics.repeated, statistics.applied) == (4, 3, 1)


def test_what_an_earlier_life_answered_has_no_effect() -> None:
    channel = make(answered=["a"])
    channel.deliver([command("a"), command("b")])
    assert [c.id for c in channel.due(0, 0.0, 0.0)] == ["b"]


def test_a_command_waits_for_its_step_and_is_refused_when_that_is_past() -> None:
    channel = make()
    channel.deliver([command("at-100", at_step=100), command("at-40", at_step=40)])
    assert channel.next_step == 40
    assert [c.id for c in channel.due(40, 0.4, 0.0)] == ["at-40"]
    assert channel.next_step == 100
    assert channel.due(99, 0.99, 0.0) == []
    assert [c.id for c in channel.due(100, 1.0, 0.0)] == ["at-100"]
    assert channel.next_step is None
    channel.deliver([command("late", at_step=100)])
    assert channel.due(150, 1.5, 0.0) == []
    (answer,) = channel.take_answers()
    assert answer.reason == (
        "The command was to be applied at step 100; the simulation is at step 150 already."
    )


def test_a_command_expires_also_while_it_waits_for_its_step() -> None:
    channel = make()
    channel.deliver([command("now", expires=10.0), command("later", at_step=9, expires=10.0)])
    assert [c.id for c in channel.due(1, 0.0, 10.0)] == ["now"]
    assert channel.due(2, 0.0, 10.25) == []
    (answer,) = channel.take_answers()
    assert (answer.command, answer.outcome) == ("later", "expired")
    assert answer.reason == "The command expired 0.25 s before step 2."


def test_bounds_hold_at_the_simulation_as_well() -> None:
    channel = make()
    channel.deliver([command("hot", value=900.0), Command("stop", "other", id="lost")])
    assert channel.due(5, 0.0, 0.0) == []
    hot, lost = channel.take_answers()
    assert "900 K is above the declared maximum of 400 K" in hot.reason
    assert lost.reason == "The command is for 'other'; this is 'walker'."


def test_pause_resume_and_stop_are_carried_out_in_order() -> None:
    channel = make()
    channel.deliver([command("p", "pause"), command("q", "pause"), command("s")])
    assert [c.id for c in channel.due(5, 0.0, 0.0)] == ["s"]
    assert channel.paused
    channel.deliver([command("r", "resume"), command("again", "resume")])
    channel.due(5, 0.0, 0.0)
    assert not channel.paused
    channel.deliver([command("p2", "pause"), command("x", "stop"), command("after")])
    channel.due(6, 0.0, 0.0)
    assert channel.stopped
    assert not channel.paused
    assert short(channel.take_answers()) == [
        ("p", "applied", 5),
        ("q", "refused", 5),
        ("r", "applied", 5),
        ("again", "refused", 5),
        ("p2", "applied", 6),
        ("x", "applied", 6),
        ("after", "refused", 6),
    ]


def test_a_pause_may_be_ordered_for_a_later_step_while_the_simulation_is_paused() -> None:
    channel = make()
    channel.deliver([command("p", "pause"), command("p9", "pause", at_step=9)])
    channel.due(5, 0.0, 0.0)
    channel.deliver([command("r", "resume")])
    channel.due(5, 0.0, 0.0)
    channel.due(9, 0.0, 0.0)
    assert channel.paused
    assert [a.outcome for a in channel.take_answers()] == ["applied"] * 3


def test_the_end_of_the_simulation_answers_everything() -> None:
    channel = make()
    channel.deliver([command("open"), command("later", at_step=99)])
    channel.due(5, 0.0, 0.0)
    channel.close(7, 0.7, 1.0)
    answers = channel.take_answers()
    assert short(answers) == [("open", "refused", 7), ("later", "refused", 7)]
    assert "ended at step 7 before it could apply" in answers[0].reason


KINDS = ("set", "restart", "interval", "pause", "resume", "stop")
orders = st.lists(
    st.tuples(
        st.integers(0, 12),
        st.sampled_from(KINDS),
        st.none() | st.integers(0, 40),
        st.sampled_from([0.0, 5.0, 1e9]),
    ),
    max_size=40,
)


@settings(deadline=None, max_examples=200)
@given(orders, st.lists(st.integers(0, 6), min_size=1, max_size=40))
def test_whatever_the_order_of_events_each_id_has_one_answer(
    arrivals: list[tuple[int, str, int | None, float]], moves: list[int]
) -> None:
    channel = make()
    step, handed = 0, []
    todo = list(arrivals)
    for move in moves:
        for _ in range(min(move, len(todo))):
            number, kind, at_step, expires = todo.pop(0)
            fields = {"value": 10.0} if kind == "interval" else {}
            channel.deliver(
                [command(f"{number}", kind, at_step=at_step, expires=expires, **fields)]
            )
        before = channel.paused or channel.stopped
        for due in channel.due(step, 0.0, float(step)):
            handed.append(due.id)
            assert due.at_step in (None, step)
            assert not due.expires or due.expires >= step
            channel.applied(due, step, 0.0, 0.0)
        if not before and not channel.paused:
            step += move
    channel.deliver([command("last")])
    channel.close(step, 0.0, 0.0)
    answers = channel.take_answers()
    ids = [a.command for a in answers]
    assert len(ids) == len(set(ids))
    assert len(handed) == len(set(handed))
    delivered = {f"{n}" for n, *_ in arrivals[: len(arrivals) - len(todo)]} | {"last"}
    assert set(ids) == delivered
    statistics = channel.statistics()
    assert statistics.applied + statistics.refused + statistics.expired == len(ids)
    assert statistics.waiting == 0


def test_an_engine_elsewhere_is_handed_all() -> None:
    channel = make(hand_out_all=True)
    pause, stop = command("p", "pause"), command("s", "stop")
    channel.deliver([pause, command("r", "resume")])
    assert channel.due(1, 0.1, 0.0) == [pause]
    assert not channel.paused
    channel.applied(pause, 3, 0.3, 1.0)
    assert channel.paused
    channel.deliver([stop, command("r2", "resume")])
    handed = channel.due(3, 0.3, 2.0)
    assert [c.id for c in handed] == ["s", "r2"]
    assert not channel.stopped
    channel.refuse(handed[1], "not now", 3, 0.3, 2.0)
    channel.applied(stop, 3, 0.3, 2.0)
    assert channel.stopped
    answers = [("r", "refused", 1), ("p", "applied", 3), ("r2", "refused", 3), ("s", "applied", 3)]
    assert short(channel.take_answers()) == answers
