"""Words of people on commands: the first one holds, and is carried out once, whoever does it."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from bridge.commands import Approval, Decision
from bridge.errors import CommandRefused, ConfigError, ConnectionLost, UnknownCommand
from bridge.staging import Stager, StagerClient
from bridge.staging.client import AppendResult
from bridge.steering import TIME_LIMIT, Desk, GuardRules, read_ledger
from tests.bridge.engines.common import read
from tests.bridge.steering.world import NOW, World

ASK = GuardRules(approval=("set",), approval_timeout=1e6)


def test_an_approved_command_is_applied_and_a_denied_one_is_not(world: World) -> None:
    world.ask("good", "bad", rules=ASK)
    assert world.line("good").approval is not None
    assert world.sent() == []
    with world.desk(ASK) as desk:
        assert [d.command.id for d in desk.waiting()] == ["p/warm/good", "p/warm/bad"]
        told = desk.decide("p/warm/good", "approve", author="Ada", reason="Looks right.", key="1")
        assert (told["state"], told["by"], told["already"]) == ("approved", "Ada", False)
        assert told["verdict"] == "sent"
        # The same request again is no second word.
        again = desk.decide("p/warm/good", "approve", author="Ada", key="1")
        assert again == told
        told = desk.decide("p/warm/bad", "deny", author="Bob", reason="Too warm.", key="2")
        assert (told["state"], told["verdict"]) == ("denied", "denied")
        assert desk.tick() == 0
    assert world.let_apply() == world.sent() == ["p/warm/good"]
    good, bad = world.line("good"), world.line("bad")
    assert (good.verdict, good.outcome, good.step) == ("sent", "applied", 10)
    assert good.verdict_reason == "Approved by Ada: Looks right."
    assert good.approval is not None
    assert (good.approval.state, good.approval.by) == ("approved", "Ada")
    assert good.approval.until == NOW + 1e6
    # The latency is the simulation's, not the person's; the decision is the policy's.
    assert good.decided == NOW
    assert good.latency == good.answered - good.approval.at
    assert (bad.verdict, bad.verdict_reason) == ("denied", "Denied by Bob: Too warm.")
    assert bad.approval is not None
    assert (bad.approval.state, bad.approval.reason) == ("denied", "Too warm.")


def test_of_many_who_speak_at_once_one_holds_and_all_know_it(world: World) -> None:
    world.ask("a", "b", "c", rules=ASK)
    told: dict[str, list[dict[str, Any]]] = {name: [] for name in "abc"}
    begin = threading.Barrier(4)

    def speak(number: int) -> None:
        with world.desk(ASK) as desk:
            begin.wait(30)
            for name in "abc":
                word: Any = ("approve", "deny")[number % 2]
                key, author = str(number), f"person {number}"
                told[name].append(desk.decide(f"p/warm/{name}", word, author=author, key=key))

    threads = [threading.Thread(target=speak, args=(n,), daemon=True) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    approved = []
    for name, answers in told.items():
        assert len(answers) == 4
        assert len({(a["state"], a["by"], a["verdict"]) for a in answers}) == 1
        assert [a["already"] for a in answers].count(False) == 1
        approved += [f"p/warm/{name}"] * (answers[0]["state"] == "approved")
    assert sorted(world.let_apply()) == sorted(world.sent()) == approved
    words: list[Approval] = read(world.client, "approvals", Approval)
    assert sorted(w.command for w in words) == [f"p/warm/{name}" for name in "abc"]
    later = [d for d in read(world.client, "decisions", Decision) if d.by]
    assert sorted(d.command.id for d in later) == [f"p/warm/{name}" for name in "abc"]


class Killed(StagerClient):
    """A client of somebody who is killed when a topic is about to be, or has just been, written."""

    dies: Callable[[str], bool]
    late: bool

    def append(self, topic: str, *args: Any, **more: Any) -> AppendResult:
        if self.dies(topic) and not self.late:
            raise KeyboardInterrupt
        result = super().append(topic, *args, **more)
        if self.dies(topic):
            raise KeyboardInterrupt
        return result


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("topic", ["approvals", "decisions", "commands/walker"])
def test_who_is_killed_in_between_is_stood_in_for(world: World, topic: str, late: bool) -> None:
    world.ask("a", rules=ASK)

    def connect() -> StagerClient:
        client = Killed(world.address)
        client.dies, client.late = topic.__eq__, late
        return client

    with pytest.raises(KeyboardInterrupt), Desk(connect, ASK) as killed:
        killed.decide("p/warm/a", "approve", author="Ada", key="mine")
    spoke = late or topic != "approvals"
    with world.desk(ASK) as desk:
        assert desk.tick() == (0 if spoke else 1)
        assert world.sent() == ["p/warm/a"] * spoke
        told = desk.decide("p/warm/a", "approve", author="Ada", key="mine")
        assert (told["state"], told["by"], told["already"]) == ("approved", "Ada", False)
    assert world.let_apply() == world.sent() == ["p/warm/a"]
    assert len(read(world.client, "decisions", Decision)) == 2


@pytest.mark.parametrize("default", ["deny", "approve"])
def test_who_says_nothing_in_time_says_the_default_once(world: World, default: Any) -> None:
    rules = GuardRules(approval=("set",), approval_timeout=60.0, approval_default=default)
    world.ask("a", rules=rules)
    with world.desk() as desk, world.desk(rules) as other:
        assert desk.tick(NOW + 59) == 1
        assert world.sent() == []
        desk.tick(NOW + 60)
        other.tick(NOW + 61)
        desk.tick(NOW + 62)
        told = other.decide("p/warm/a", "deny", author="late", key="late")
        state = "approved" if default == "approve" else "denied"
        assert (told["state"], told["by"], told["already"]) == (state, TIME_LIMIT, True)
        assert "Nobody said anything within 60 s" in told["reason"]
    assert world.let_apply() == world.sent() == ["p/warm/a"] * (default == "approve")
    assert len(read(world.client, "approvals", Approval)) == 1
    assert len(read(world.client, "decisions", Decision)) == 2
    line = world.line("a")
    assert line.approval is not None
    assert (line.approval.state, line.approval.default) == (state, default)


def test_a_person_who_is_late_hears_the_default_although_nobody_ticked(world: World) -> None:
    world.ask("a", rules=ASK, now=NOW - 2e6)
    with world.desk(ASK) as desk:
        told = desk.decide("p/warm/a", "approve", author="late", key="k")
    assert (told["state"], told["by"], told["already"]) == ("denied", TIME_LIMIT, True)


def test_a_command_expires_while_it_waits(world: World) -> None:
    world.ask("a", rules=ASK, expires=NOW + 50.0)
    line = world.line("a")
    assert line.approval is not None
    assert line.approval.until == NOW + 50.0
    # What is approved by default is so a little earlier, to be in time.
    rules = GuardRules(approval=("set",), approval_default="approve")
    world.ask("b", "c", rules=rules, expires=NOW + 50.0)
    line = world.line("b")
    assert line.approval is not None
    assert line.approval.until == NOW + 45.0
    with world.desk(rules) as desk:
        # Somebody's clock is late, and nobody else looked.
        world.client.append(
            "approvals", [msgspec.msgpack.encode(Approval("p/warm/b", "approve", "Ada"))]
        )
        desk.tick(NOW + 51.0)
    assert world.line("a").verdict == "denied"
    assert world.line("b").verdict == "refused"
    assert "expired 1 s before it could be sent" in world.line("b").verdict_reason
    assert world.line("c").verdict == "refused"
    assert world.sent() == []


def test_bounds_rules_and_rates_are_checked_again(world: World) -> None:
    rules = msgspec.structs.replace(ASK, per_simulation=2, window=1000.0)
    world.ask("a", "b", "c", "d", rules=rules)
    with world.desk(rules) as desk:
        verdicts = [desk.decide(f"p/warm/{n}", "approve", author="Ada")["verdict"] for n in "abc"]
    assert verdicts == ["sent", "sent", "refused"]
    assert "was sent 2 commands within 1000 s; the limit is 2" in world.line("c").verdict_reason
    # Another desk knows of what was sent before it was opened.
    with world.desk(rules) as desk:
        assert desk.decide("p/warm/d", "approve", author="Ada")["verdict"] == "refused"
        assert world.sent() == ["p/warm/a", "p/warm/b"]
    world.ask("e", rules=ASK)
    with world.desk(msgspec.structs.replace(ASK, dry_run=True)) as desk:
        told = desk.decide("p/warm/e", "approve", author="Ada")
    assert (told["state"], told["verdict"]) == ("approved", "dry_run")
    world.ask("f", rules=ASK)
    world.producer.close(finished=True)
    with world.desk(ASK) as desk:
        told = desk.decide("p/warm/f", "approve", author="Ada")
    assert (told["verdict"], "'walker' has ended" in told["verdict_reason"]) == ("refused", True)
    assert len(world.sent()) == 2


def test_what_nobody_asked_about_cannot_be_decided_on(world: World) -> None:
    world.ask("free", rules=GuardRules())
    with world.desk(ASK) as desk:
        with pytest.raises(UnknownCommand, match="No command 'p/warm/none' was decided on"):
            desk.decide("p/warm/none", "approve", author="Ada")
        with pytest.raises(CommandRefused, match="the verdict was 'sent' at once"):
            desk.decide("p/warm/free", "deny", author="Ada")
        wrong: Any = "maybe"
        with pytest.raises(ConfigError, match="not 'maybe'"):
            desk.decide("p/warm/free", wrong, author="Ada")
    assert read(world.client, "approvals", Approval) == []


def test_what_waits_at_the_end_is_denied(world: World) -> None:
    world.ask("a", "b", rules=ASK)
    with world.desk(ASK) as desk:
        desk.decide("p/warm/a", "approve", author="Ada")
        assert desk.conclude("headrace run", "The run ended.") == 1
        assert desk.conclude("headrace run", "The run ended.") == 0
    line = world.line("b")
    assert (line.verdict, line.verdict_reason) == (
        "denied",
        "Denied by headrace run: The run ended.",
    )


def test_a_desk_goes_on_with_another_stager(world: World) -> None:
    addresses = [world.address]
    with Desk(lambda: StagerClient(addresses[0], timeout=5.0), ASK) as desk:
        world.ask("a", "b", rules=ASK)
        assert desk.tick() == 2
        desk.close()
        with Stager("memory://approvals-two") as second:
            second.start()
            addresses[0] = second.address
            # It holds nothing of the first one's.
            assert desk.tick() == 0
    with pytest.raises(ConnectionLost), Desk(_nobody, ASK) as desk:
        desk.tick()


def _nobody() -> StagerClient:
    raise ConnectionLost("Nobody is there.")


def test_a_persons_own_command_is_sent_once_a_key(world: World) -> None:
    with world.desk(ASK) as desk, world.desk(ASK) as other:
        given: dict[str, Any] = {"parameter": "temperature", "value": 310.0, "key": "k 1"}
        told = desk.send("set", "walker", author="Ada", reason="Warmer.", **given)
        assert (told["id"], told["verdict"], told["already"]) == ("manual/k 1", "sent", False)
        # Nobody is asked about it, though policies would be; the same key is the same command.
        assert other.send("set", "walker", author="Ada", **given) == {**told, "already": True}
        with pytest.raises(CommandRefused, match="was used to 'set temperature = 310'"):
            other.send("set", "walker", author="Ada", **{**given, "value": 320.0})
        hot = desk.send("set", "walker", author="Ada", parameter="temperature", value=9e9)
        assert hot["verdict"] == "refused"
        assert "above the declared maximum of 400 K" in hot["reason"]
        assert desk.send("pause", "nobody", author="Ada")["verdict"] == "refused"
        none = desk.send("set", "walker", author="Ada", parameter="temperature", value=math.nan)
        assert "nan of the temperature is not a finite number" in none["reason"]
        long = desk.send("pause", "walker", author="Ada", key="é" * 300)
        assert long["verdict"] == "sent"
        wrong: Any = "jump"
        with pytest.raises(ConfigError, match="There is no command 'jump'"):
            desk.send(wrong, "walker", author="Ada")
        with pytest.raises(CommandRefused, match="does not wait for approval"):
            desk.decide("manual/k 1", "approve", author="Ada")
    assert world.sent() == ["manual/k 1", long["id"]]
    line = next(x for x in read_ledger(world.client) if x.id == "manual/k 1")
    assert (line.author, line.why, line.approval) == ("Ada", "Warmer.", None)


def test_rules_hold_for_people_too(world: World) -> None:
    rules = GuardRules(kinds=("pause", "resume", "stop"), parameters=(), total=1)
    with world.desk(rules) as desk:
        warm = desk.send("set", "walker", author="Ada", parameter="temperature", value=300.0)
        assert "do not allow 'set'" in warm["reason"]
        # Rates are for policies: a person is not held up.
        for kind in ("pause", "resume"):
            [told] = desk.all(kind, author="Ada", key=f"all-{kind}")  # type: ignore[arg-type]
            assert (told["simulation"], told["verdict"]) == ("walker", "sent")
        [again] = desk.all("pause", author="Ada", key="all-pause")
        assert again["already"]
        wrong: Any = "set"
        with pytest.raises(ConfigError, match="All are told to pause, resume or stop"):
            desk.all(wrong, author="Ada")
    with world.desk(GuardRules(dry_run=True)) as desk:
        told = desk.send("stop", "walker", author="Ada")
        assert (told["verdict"], told["reason"]) == ("dry_run", "The run is a dry run.")
    assert world.sent() == ["manual/all-pause/walker", "manual/all-resume/walker"]
    world.producer.close(finished=True)
    with world.desk() as desk:
        assert desk.all("stop", author="Ada") == []


def test_who_is_killed_before_a_command_of_his_own_is_sent_is_stood_in_for(world: World) -> None:
    def connect() -> StagerClient:
        client = Killed(world.address)
        client.dies, client.late = "commands/walker".__eq__, False
        return client

    with pytest.raises(KeyboardInterrupt), Desk(connect) as killed:
        killed.send("pause", "walker", author="Ada", key="k")
    assert world.sent() == []
    with world.desk() as desk:
        desk.tick()
        assert world.sent() == ["manual/k"]
        assert desk.send("pause", "walker", author="Ada", key="k")["already"]
    assert world.sent() == ["manual/k"]
