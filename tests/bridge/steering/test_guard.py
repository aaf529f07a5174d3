"""Bounds, rate limits, dry runs and approval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest

from bridge.commands import Capability, Command
from bridge.config import to_struct
from bridge.errors import ConfigError
from bridge.steering import CapabilityBook, Guard, GuardRules, describe_command, find_fault

CAPABILITIES = (
    Capability("set", "temperature", minimum=250, maximum=400, unit="K"),
    Capability("set", "share", minimum=0, maximum=1, unit="1"),
    Capability("interval", minimum=1, maximum=1000, unit="steps"),
    Capability("restart"),
    Capability("stop"),
)


def command(kind: Any = "set", simulation: str = "walker", **fields: Any) -> Command:
    return Command(kind, simulation, **{"id": "p/o/walker@1", **fields})


def look_up(simulation: str) -> Sequence[Capability] | None:
    return CAPABILITIES if simulation.startswith("walker") else None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (command(parameter="temperature", value=900.0), "900 K is above the declared maximum"),
        (command(parameter="temperature", value=10.0), "10 K is below the declared minimum of 250"),
        # Codes that say "1" mean that there is no unit.
        (command(parameter="share", value=2.0), "share of 2 is above the declared maximum of 1."),
        (command(parameter="temperature", value=math.nan), "not a finite number"),
        (command(parameter="temperature"), "carries no value"),
        (command(parameter="pressure", value=1.0), "lets nobody set 'pressure'"),
        (command("interval", value=2.5), "whole number of steps above 0, not 2.5"),
        (command("interval", value=0.0), "whole number of steps above 0, not 0"),
        (command("interval", value=5000.0), "5000 steps is above the declared maximum of 1000"),
        (command("restart"), "names no frame and carries no state"),
        (command("pause"), "does not accept 'pause'; it declares interval, restart, set, stop."),
    ],
)
def test_a_command_outside_the_capabilities_is_refused_with_value_and_bound(
    given: Command, said: str
) -> None:
    decision = Guard(look_up).check(given, 1.0)
    assert decision.verdict == "refused"
    assert said in decision.reason
    assert decision.reason.endswith(".")


@pytest.mark.parametrize(
    "given",
    [
        command(parameter="temperature", value=250.0),
        command(parameter="temperature", value=400.0),
        command("interval", value=1000.0),
        command("restart", state=b"x"),
        command("stop"),
    ],
)
def test_a_command_within_the_bounds_is_sent(given: Command) -> None:
    decision = Guard(look_up).check(given, 2.5)
    assert (decision.verdict, decision.reason, decision.stamp) == ("sent", "", 2.5)
    assert find_fault(given, CAPABILITIES) == ""


def test_nothing_is_sent_to_a_simulation_that_nobody_knows() -> None:
    decision = Guard(look_up).check(command("stop", "stranger"), 0.0)
    assert decision.reason == "No simulation 'stranger' is known."


def test_the_rate_of_one_simulation_is_limited_in_a_sliding_window() -> None:
    guard = Guard(look_up, GuardRules(per_simulation=2, window=10.0))
    restart = command("restart", state=b"x")
    verdicts = [guard.check(restart, now).verdict for now in (0.0, 4.0, 9.0, 10.0, 11.0, 14.0)]
    assert verdicts == ["sent", "sent", "refused", "sent", "refused", "sent"]
    assert guard.check(command("restart", "walker-2", state=b"x"), 14.0).verdict == "sent"
    assert "was sent 2 commands within 10 s; the limit is 2" in guard.check(restart, 15.0).reason


def test_the_rate_of_all_is_limited_but_a_stop_always_passes() -> None:
    guard = Guard(look_up, GuardRules(total=1))
    assert guard.check(command("restart", state=b"x"), 0.0).verdict == "sent"
    other = guard.check(command("restart", "walker-2", state=b"x"), 1.0)
    assert "to all simulations; the limit is 1" in other.reason
    assert guard.check(command("stop", "walker-2"), 1.0).verdict == "sent"


def test_a_dry_run_gives_the_verdicts_of_the_real_run_but_sends_nothing() -> None:
    real = Guard(look_up, GuardRules(per_simulation=1))
    dry = Guard(look_up, GuardRules(per_simulation=1, dry_run=True))
    for given in (command("restart", state=b"x"), command("restart", state=b"y"), command("pause")):
        verdict = dry.check(given, 0.0).verdict
        assert {"dry_run": "sent"}.get(verdict, verdict) == real.check(given, 0.0).verdict
        assert verdict != "sent"


def test_rules_say_which_kinds_and_parameters_are_allowed_and_which_need_approval() -> None:
    rules = GuardRules(kinds=("set", "restart"), parameters=(), approval=("restart",))
    guard = Guard(look_up, rules)
    assert "do not allow 'stop'" in guard.check(command("stop"), 0.0).reason
    hot = command(parameter="temperature", value=300.0)
    assert "do not allow to set 'temperature'" in guard.check(hot, 0.0).reason
    assert guard.check(command("restart", state=b"x"), 0.0).verdict == "awaiting_approval"


def test_an_expired_command_is_not_sent() -> None:
    decision = Guard(look_up).check(command("stop", expires=10.0), 10.5)
    assert decision.reason == "The command expired 0.5 s before it could be sent."


def test_rules_come_from_a_table_and_refuse_what_makes_no_sense() -> None:
    assert to_struct(GuardRules, {"total": 3, "kinds": ["stop"]}, "[steering]").total == 3
    with pytest.raises(ConfigError, match="did you mean 'per_simulation'"):
        to_struct(GuardRules, {"per_simulaton": 3}, "[steering]")
    with pytest.raises(ConfigError, match=r"\[steering\].*window = 0"):
        to_struct(GuardRules, {"window": 0.0}, "[steering]")


def test_the_book_asks_again_when_its_answers_are_old_or_a_simulation_is_new() -> None:
    clock, asked = [0.0], []
    known: dict[str, Sequence[Capability]] = {"walker": CAPABILITIES}

    def ask() -> dict[str, Sequence[Capability]]:
        asked.append(clock[0])
        return dict(known)

    book = CapabilityBook(ask, max_age=2.0, now=lambda: clock[0])
    assert book("walker") == CAPABILITIES
    assert book("late") is None
    known["late"] = ()
    clock[0] = 0.1
    assert book("late") is None
    clock[0] = 0.3
    assert book("late") == ()
    assert book("walker") == CAPABILITIES
    clock[0] = 2.5
    book("walker")
    assert asked == [0.0, 0.3, 2.5]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (command(parameter="temperature", value=310.0), "set temperature = 310"),
        (command("interval", value=50.0, at_step=100), "output every 50 steps, at step 100"),
        (command("restart", state=b"x"), "restart from the enclosed state, redraw velocities"),
        (command("stop"), "stop"),
    ],
)
def test_commands_are_described_in_a_few_words(given: Command, words: str) -> None:
    assert describe_command(given) == words
