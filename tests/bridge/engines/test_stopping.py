"""Who was told to stop, who has answered, and what comes too late."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.codec import decode_state, encode_state
from bridge.commands import Command, CommandKind, Event
from bridge.engines.outcome import Numbered, Outcome
from bridge.engines.stopping import TARGET, Stops


def make_outcome(*commands: tuple[CommandKind, str, int], target: bool = False) -> Outcome:
    """Return what ten frames of `a` brought: commands with whom they are for, and their causes."""
    outcome = Outcome("a", 0, 10)
    outcome.commands = [
        Numbered(at, Command(kind, whom, id=f"{kind}-{whom}@{at}")) for kind, whom, at in commands
    ]
    outcome.events = [Event(TARGET, "That is it.")] if target else []
    return outcome


REACHED: list[tuple[CommandKind, str, int]] = [
    ("restart", "a", 3), ("restart", "a", 4), ("restart", "b", 6), ("restart", "c", 7),
    ("stop", "a", 4), ("stop", "b", 4),
]  # fmt: skip


def test_nothing_is_late_without_a_target() -> None:
    stops = Stops()
    outcome = make_outcome(*REACHED)
    assert stops.find_late(outcome) == {}
    stops.watch(outcome, [n.command for n in outcome.commands])
    assert stops.find_late(make_outcome(("restart", "a", 9))) == {}
    assert stops.save() is None


@pytest.mark.parametrize("on_worker", [False, True])
def test_what_follows_the_cause_of_the_stop_is_late(on_worker: bool) -> None:
    stops = Stops()
    outcome = make_outcome(*REACHED, target=not on_worker)
    late = stops.find_late(outcome, target=on_worker)
    # Nobody told c to stop.
    assert sorted(late) == ["restart-a@4", "restart-b@6"]
    assert late["restart-b@6"] == (
        "A target was reached, and 'b' is to stop; it gets no other command."
    )


@pytest.mark.parametrize("verdict", ["sent", "dry_run"])
def test_it_holds_for_good_and_is_kept(verdict: str) -> None:
    stops = Stops()
    outcome = make_outcome(*REACHED, target=True)
    stops.watch(outcome, [n.command for n in outcome.commands if verdict == "sent"])
    saved: Any = stops.save()
    other = Stops()
    other.restore(decode_state(encode_state({"stops": saved}))["stops"])
    for one in (stops, other):
        assert list(one.find_late(make_outcome(("set", "a", 1)))) == ["set-a@1"]
        assert one.find_late(make_outcome(("stop", "a", 1), ("set", "c", 1))) == {}
