"""What cannot be done for one command holds up no other, and has its sentence."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from itertools import count, permutations
from typing import Any

import msgspec
import numpy as np
import pytest

from bridge.commands import Approval, Command, Decision, FrameReference
from bridge.errors import CommandRefused, ConnectionLost, MessageTooLarge, SteeringError
from bridge.schema import StreamSchema
from bridge.staging import Producer, Stager, StagerClient
from bridge.staging.client import AppendResult
from bridge.staging.ownership import owner
from bridge.staging.spread import SpreadClient
from bridge.steering import TIME_LIMIT, Desk, GuardMaker, GuardRules, read_ledger
from tests.bridge.engines.common import read, read_events
from tests.bridge.steering.world import CAPABILITIES, NOW, World

SAID = ("decisions", "approvals")
ASK = GuardRules(approval=("set",), approval_timeout=1e6)


class Picky(StagerClient):
    """A client of a stager that refuses some commands."""

    refused: Callable[[Command], bool]

    def append(self, topic: str, records: Any, **more: Any) -> AppendResult:
        if topic.startswith("commands/"):
            command = msgspec.msgpack.decode(records[0], type=Command)
            if self.refused(command):
                raise MessageTooLarge(f"{topic} holds no records of that size.")
        return super().append(topic, records, **more)


def test_a_command_that_cannot_be_sent_holds_up_no_other(world: World) -> None:
    refused = {"p/warm/a"}

    def connect() -> StagerClient:
        client = Picky(world.address)
        client.refused = lambda command: command.id in refused
        return client

    world.ask("a", "b", "c", rules=ASK)
    with Desk(connect, ASK, retry=1e6) as desk:
        told = desk.decide("p/warm/a", "approve", author="Ada")
        assert (told["state"], told["verdict"]) == ("approved", "sent")
        assert "commands/walker holds no records of that size." in told["problem"]
        assert told["verdict_reason"] == f"Approved by Ada. {told['problem']}"
        told = desk.decide("p/warm/b", "approve", author="Ada")
        assert (told["problem"], told["verdict_reason"]) == ("", "Approved by Ada.")
        paused = desk.send("pause", "walker", author="Ada", key="k")
        assert (paused["verdict"], paused["problem"]) == ("sent", "")
        assert world.sent() == ["p/warm/b", "manual/k"]
        # People are told once, however often it is tried, and by how many.
        with Desk(connect, ASK) as other:
            assert other.tick() == desk.tick() == 1
        [held] = read_events(world.client, "command_held")
        assert held.message.startswith("The command 'p/warm/a' (set temperature = 300) to 'walker'")
        assert (held.simulation, held.level) == ("walker", "warning")
        # Somebody who asks again has it tried at once.
        refused.clear()
        told = desk.decide("p/warm/a", "approve", author="Ada")
        assert (told["already"], told["problem"]) == (True, "")
    assert world.sent() == ["p/warm/b", "manual/k", "p/warm/a"]


class Counting(StagerClient):
    """A client that counts the commands that it offers."""

    offered = 0

    def append(self, topic: str, records: Any, **more: Any) -> AppendResult:
        Counting.offered += topic.startswith("commands/")
        return super().append(topic, records, **more)


def test_who_comes_late_does_not_offer_all_commands_again(world: World) -> None:
    names = [f"c{number}" for number in range(20)]
    world.ask(*names, "last", rules=ASK)
    with world.desk(ASK) as desk:
        for name in names:
            desk.decide(f"p/warm/{name}", "approve", author="Ada")
    Counting.offered = 0
    with Desk(lambda: Counting(world.address), ASK) as late:
        assert late.decide("p/warm/last", "approve", author="Ada")["problem"] == ""
    assert Counting.offered == 1
    assert world.sent() == [f"p/warm/{name}" for name in (*names, "last")]


def test_what_no_message_can_carry_is_refused_before_anything_is_stored(world: World) -> None:
    world.ask("a", rules=ASK)
    with world.desk(ASK) as desk:
        for author, reason in (("Ada\udcff", ""), ("Ada", "\ud800")):
            with pytest.raises(CommandRefused, match=r"cannot be written into the log: .*Unicode"):
                desk.decide("p/warm/a", "approve", author=author, reason=reason)
            with pytest.raises(CommandRefused, match="cannot be written into the log"):
                desk.send("pause", "walker", author=author, reason=reason)
        with pytest.raises(CommandRefused, match="cannot be written into the log"):
            desk.send("restart", "walker", author="Ada", frame=FrameReference("walker", 1 << 80))
        assert desk.tick() == 1
        [told] = desk.all("pause", author="\ud800")
        assert (told["simulation"], told["verdict"]) == ("walker", None)
        assert "cannot be written into the log" in told["problem"]
        assert desk.decide("p/warm/a", "approve", author="Ada")["verdict"] == "sent"
    assert world.sent() == ["p/warm/a"]


GARBAGE = (b"", b"\x00", b"\xff" * 40, msgspec.msgpack.encode({"command": 3}), b"\x91" * 5000)


def put_garbage(world: World, *topics: str) -> None:
    newer = {"command": "p/warm/a", "word": "perhaps", "by": "a later version"}
    for topic in topics:
        for data in (*GARBAGE, msgspec.msgpack.encode(newer)):
            world.client.append(topic, [data])


def test_unreadable_records_are_passed_over_counted_and_told_of_once(world: World) -> None:
    put_garbage(world, "decisions", "approvals")
    world.ask("a", "b", rules=ASK)
    put_garbage(world, "decisions", "approvals")
    with world.desk(ASK) as desk, world.desk(ASK) as other:
        assert [d.command.id for d in desk.waiting()] == ["p/warm/a", "p/warm/b"]
        assert desk.decide("p/warm/a", "approve", author="Ada")["verdict"] == "sent"
        assert other.decide("p/warm/b", "deny", author="Bob")["verdict"] == "denied"
        assert desk.unreadable == other.unreadable == {"decisions": 12, "approvals": 12}
    told = read_events(world.client, "unreadable_record")
    # The first of each topic, and the tenth.
    assert sorted((e.data["topic"], e.data["count"]) for e in told) == [
        ("approvals", 1), ("approvals", 10), ("decisions", 1), ("decisions", 10),
    ]  # fmt: skip
    assert told[0].message.startswith("Record 0 of the topic '")
    lines = {line.id: line for line in read_ledger(world.client)}
    assert {i: x.verdict for i, x in lines.items()} == {"p/warm/a": "sent", "p/warm/b": "denied"}


def test_a_word_that_cannot_be_read_ends_in_a_denial_at_the_time_limit(world: World) -> None:
    world.ask("a", "b", rules=ASK)
    # Somebody has spoken on "a", in a way that only another version understands.
    world.client.append("approvals", [b"\x00"], writer="p/warm/a", first=0, stop=1)
    with world.desk(ASK) as desk, world.desk(ASK) as other:
        with pytest.raises(SteeringError, match=r"'p/warm/a' is stored, but cannot be read"):
            desk.decide("p/warm/a", "approve", author="Ada")
        assert desk.decide("p/warm/b", "approve", author="Ada")["verdict"] == "sent"
        assert desk.tick(NOW + 1e6 - 1) == 1
        assert desk.tick(NOW + 1e6) == other.tick(NOW + 1e6) == 0
        told = other.decide("p/warm/a", "approve", author="Ada")
        assert (told["state"], told["by"], told["already"]) == ("denied", TIME_LIMIT, True)
    assert world.line("a").verdict == "denied"
    assert world.sent() == ["p/warm/b"]


def test_a_decision_that_cannot_be_read_holds_up_no_other(world: World) -> None:
    world.ask("a", "b", rules=ASK)
    world.client.append("decisions", [b"\x00"], writer="desk:p/warm/a", first=0, stop=1)
    with world.desk(ASK) as desk:
        told = desk.decide("p/warm/a", "approve", author="Ada")
        assert (told["state"], told["verdict"]) == ("approved", None)
        assert "is stored, but cannot be read" in told["problem"]
        assert desk.decide("p/warm/b", "approve", author="Ada")["verdict"] == "sent"
        assert desk.tick() == 0
    assert world.sent() == ["p/warm/b"]


def test_without_rules_that_can_be_read_nothing_of_a_pipeline_is_sent(world: World) -> None:
    world.ask("a", rules=ASK)
    world.client.append("rules/p", [b"\x00"])
    with world.desk() as desk:
        told = desk.decide("p/warm/a", "approve", author="Ada")
        assert told["verdict"] is None
        assert "The rules of the pipeline 'p' cannot be read" in told["problem"]
        with pytest.raises(SteeringError, match="The rules of the pipeline 'p' cannot be read"):
            desk.send("pause", "walker", author="Ada")
        # The engine that runs it announces them once more, as it does when it is started again.
        world.client.append("rules/p", [msgspec.msgpack.encode(ASK)])
        assert desk.decide("p/warm/a", "approve", author="Ada")["verdict"] == "sent"
    assert world.sent() == ["p/warm/a"]


def test_what_was_approved_and_can_never_be_sent_is_refused_at_the_end(world: World) -> None:
    world.ask("a", rules=ASK)
    world.client.append("rules/p", [b"\x00"])
    with world.desk() as desk:
        desk.decide("p/warm/a", "approve", author="Ada")
        assert desk.conclude("headrace run", "The run ended.", pipeline="q") == 0
        assert world.line("a").verdict == "awaiting_approval"
        assert desk.conclude("headrace run", "The run ended.", pipeline="p") == 0
    assert world.line("a").verdict == "refused"
    assert "Approved by Ada, but it could not be sent: The rules" in world.line("a").verdict_reason


def test_the_end_of_a_pipeline_denies_what_it_asked_for_alone(world: World) -> None:
    world.ask("a", rules=ASK)
    other = Decision(
        Command("pause", "walker", id="q/x"), "awaiting_approval", stamp=NOW, until=NOW + 1e6
    )
    world.client.append("decisions", [msgspec.msgpack.encode(other)])
    with world.desk(ASK) as desk:
        assert desk.conclude("the engine", "The job ended.", pipeline="q") == 1
        assert [d.command.id for d in desk.waiting()] == ["p/warm/a"]


@contextlib.contextmanager
def two_stagers() -> Iterator[tuple[Stager, Stager]]:
    """Open two stagers, of which the first holds all that people say."""
    with contextlib.ExitStack() as stack:
        opened: list[Stager] = []
        while True:
            # Ports are as they come, and with them who holds what.
            opened.append(stack.enter_context(Stager("tcp://127.0.0.1:0")).start())
            for pair in permutations(opened, 2):
                owners = {owner(topic, [s.address for s in pair]) for topic in SAID}
                if owners == {pair[0].address}:
                    yield pair
                    return


def walker_of(stager: Stager, addresses: list[str]) -> str:
    """Return a name that belongs to one of the stagers."""
    names = (f"walker-{number}" for number in count())
    return next(name for name in names if owner(name, addresses) == stager.address)


def test_a_stager_that_is_gone_holds_up_only_its_own_simulations() -> None:
    schema = StreamSchema.from_arrays({"x": np.zeros(3)})
    with two_stagers() as (home, gone), contextlib.ExitStack() as stack:
        addresses = [home.address, gone.address]

        def connect() -> SpreadClient:
            return SpreadClient(addresses, timeout=1.0)

        here, there = (walker_of(stager, addresses) for stager in (home, gone))
        with connect() as client, Desk(connect, ASK) as desk:
            for simulation, stager in ((there, gone), (here, home)):
                producer = Producer(
                    simulation, schema, address=stager.address, capabilities=CAPABILITIES
                )
                stack.enter_context(producer).put(0, 0.0, {"x": np.zeros(3)})
                producer.flush()
                # It stays open for another life; nobody waits for the stager that is gone.
                producer.close(finished=False)
            guard = GuardMaker(ASK)(lambda name: client)
            for simulation in (there, here):
                command = Command(
                    "set", simulation, id=f"p/{simulation}", parameter="temperature", value=300.0
                )
                decision = guard.check(command, NOW)
                assert decision.verdict == "awaiting_approval", decision.reason
                client.append("decisions", [msgspec.msgpack.encode(decision)])
            assert desk.tick() == 2
            gone.stop()
            told = desk.decide(f"p/{there}", "approve", author="Ada")
            assert (told["state"], told["verdict"]) == ("approved", None)
            assert f"The stager at {gone.address} has not answered" in told["problem"]
            told = desk.decide(f"p/{here}", "approve", author="Ada")
            assert (told["verdict"], told["problem"]) == ("sent", "")
            assert desk.send("pause", here, author="Ada")["verdict"] == "sent"
            with pytest.raises(ConnectionLost, match="has not answered"):
                desk.send("pause", there, author="Ada")
            assert desk.conclude("headrace run", "The run ended.") == 0
            with StagerClient(home.address) as one:
                sent: list[Command] = read(one, f"commands/{here}", Command)
                said: list[Decision] = read(one, "decisions", Decision)
                words: list[Approval] = read(one, "approvals", Approval)
        assert [c.kind for c in sent] == ["set", "pause"]
        assert len(words) == 2
        last = {d.command.id: d for d in said}
        assert last[f"p/{there}"].verdict == "refused"
        assert "could not be sent: The stager at" in last[f"p/{there}"].reason
