"""Who follows a run: what is broken in the log neither ends it nor hides what comes after."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import msgspec
import pytest

from bridge.commands import Acknowledgement, Command, Decision, Event
from bridge.runs.records import read_events
from bridge.runs.watch import Snapshot, Watcher
from bridge.staging import Stager, StagerClient
from bridge.steering import Desk, GuardRules

ASK = GuardRules(approval=("set",), approval_default="deny")


@pytest.fixture
def stager() -> Iterator[Stager]:
    """A stager in a thread, on a port."""
    with Stager("tcp://127.0.0.1:0") as service:
        yield service.start()


@pytest.fixture
def watcher(stager: Stager) -> Iterator[Watcher]:
    """Somebody who follows a run, and carries out what is said in it."""
    made = Watcher(
        lambda: StagerClient(stager.address),
        pipeline="p",
        every=0.05,
        desk=Desk(lambda: StagerClient(stager.address), ASK),
    )
    made.start()
    yield made
    made.stop()
    made.conclude("The test is over.", "test")


def wait_for(watcher: Watcher, what: Callable[[Snapshot], bool]) -> Snapshot:
    deadline = time.monotonic() + 60
    while not what(watcher.snapshot):
        assert time.monotonic() < deadline, watcher.snapshot
        time.sleep(0.02)
    return watcher.snapshot


def encode(value: msgspec.Struct) -> bytes:
    return msgspec.msgpack.encode(value)


def test_garbage_in_any_topic_is_passed_over_counted_and_told_of(
    stager: Stager, watcher: Watcher
) -> None:
    topics = ("decisions", "approvals", "events", "status/p", "acks/w")
    asked = Decision(
        Command("set", "w", id="p/x"), "awaiting_approval", stamp=1.0, until=2.0, default="deny"
    )
    with StagerClient(stager.address) as client:
        for topic in topics:
            client.append(topic, [b"\xc1\xff not a message", encode(Event("of another", "kind."))])
        client.append("decisions", [encode(asked)])
        client.append("acks/w", [encode(Acknowledgement("p/y", "w", "applied"))])
        client.append("events", [encode(Event("target_reached", "There."))])
        # What lies behind is read, and what is due carried out.
        seen = wait_for(watcher, lambda s: s.target is not None and "decided: denied" in s.counts)
        assert seen.counts["applied"] == 1
        assert seen.error == ""
        # An event is an event, whoever wrote it.
        assert seen.unreadable == 2 * len(topics) - 1
        events = read_events(client)
        told = {e.data["topic"]: e for e in events if e.kind == "unreadable_record"}
        assert set(told) == set(topics)
        assert told["approvals"].message.startswith(
            "Record 0 of the topic 'approvals' cannot be read and is passed over: "
        )
        last: Decision = read_decisions(client)[-1]
        assert (last.command.id, last.verdict, last.by) == ("p/x", "denied", "time limit")


def read_decisions(client: StagerClient) -> list[Decision]:
    with client.fetch({"decisions": 2}, wait=5.0) as got:
        return [msgspec.msgpack.decode(r.data, type=Decision) for r in got.records]
