"""What was stored once is not stored again, however much of it was."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from bridge.commands import Capability, Command, Decision, Event
from bridge.engines.outcome import Numbered, Outcome
from bridge.engines.patience import PatientClient
from bridge.engines.protocol import Guard, Unguarded
from bridge.engines.publisher import Publisher
from bridge.engines.results import read_results
from bridge.frames import FrameBatch
from bridge.staging import Stager, StagerClient
from bridge.staging.client import AppendResult
from bridge.steering import Desk, GuardMaker, GuardRules
from bridge.testing.sources import ScriptedSource
from tests.bridge.engines.common import make_streams, read, read_events


class Repeating(StagerClient):
    """A client whose every append is answered late: made twice, and the second answer counts."""

    def append(self, *args: Any, **more: Any) -> AppendResult:
        super().append(*args, **more)
        return super().append(*args, **more)


@pytest.fixture(params=[StagerClient, Repeating], ids=["once", "answers lost"])
def publisher(request: pytest.FixtureRequest, stager: Stager) -> Iterator[Publisher]:
    with request.param(stager.address) as client:
        yield make_publisher(client, Alternating())


def make_publisher(client: StagerClient, guard: Guard) -> Publisher:
    return Publisher(PatientClient(client, 1.0, lambda: False), "p", guard)


class Alternating:
    """Refuses each second command, and never says the same of the same command twice."""

    def __init__(self) -> None:
        self.asked = 0

    def check(self, command: Command, now: float) -> Decision:
        self.asked += 1
        return Decision(command, "refused" if self.asked % 2 else "sent", stamp=now)


def make_outcome(first: int, stop: int) -> Outcome:
    """Return results of each frame, and a command at each even one."""
    outcome = Outcome("a", first, stop)
    values = np.arange(first, stop, dtype=float)
    outcome.results = FrameBatch.from_arrays("a", {"y": values}, first_offset=first)
    outcome.commands = [
        Numbered(i, Command("pause", "bc"[i // 2 % 2], id=f"p/o/a@{i}#0", reason="r"))
        for i in range(first, stop)
        if i % 2 == 0
    ]
    outcome.events = [Event("told", f"Of {first}.")]
    return outcome


def stored(reader: StagerClient) -> tuple[list[float], list[str], list[str], int]:
    results = read_results(reader, "p", "a")
    decisions = read(reader, "decisions", Decision)
    commands = [c for name in "bc" for c in read(reader, f"commands/{name}", Command)]
    sent = sorted(d.command.id for d in decisions if d.verdict == "sent")
    assert sorted(c.id for c in commands) == sent
    return (
        [] if results is None else results["y"].tolist(),
        [d.command.id for d in decisions],
        sent,
        len(read_events(reader, "told")),
    )


def test_batches_are_stored_in_full(publisher: Publisher, reader: StagerClient) -> None:
    sent = [publisher.publish(make_outcome(i, i + 10)) for i in (0, 10)]
    values, decided, ids, events = stored(reader)
    assert values == list(range(20))
    assert decided == [f"p/o/a@{i}#0" for i in range(0, 20, 2)]
    assert ids == sorted(c.id for batch in sent for c in batch)
    assert len(ids) == 5
    assert events == 2
    assert publisher.verdicts == {"refused": 5, "sent": 5}
    assert publisher.decisions_end == 10


def test_the_same_batch_again_changes_nothing(
    publisher: Publisher, stager: Stager, reader: StagerClient
) -> None:
    for first in (0, 10):
        publisher.publish(make_outcome(first, first + 10))
    before = stored(reader)
    with StagerClient(stager.address) as client:
        # Another life, whose guard would say something else.
        again = make_publisher(client, Unguarded())
        again.recall(0)
        for first in (0, 10):
            again.publish(make_outcome(first, first + 10))
        assert stored(reader) == before
        assert again.verdicts == publisher.verdicts


def test_batches_cut_in_another_way_are_trimmed_to_what_is_new(
    publisher: Publisher, stager: Stager, reader: StagerClient
) -> None:
    publisher.publish(make_outcome(0, 7))
    with StagerClient(stager.address) as client:
        again = make_publisher(client, Unguarded())
        again.publish(make_outcome(0, 4))
        again.publish(make_outcome(4, 12))
    values, decided, sent, _ = stored(reader)
    assert values == list(range(12))
    assert decided == [f"p/o/a@{i}#0" for i in range(0, 12, 2)]
    assert sent == sorted(["p/o/a@2#0", "p/o/a@6#0", "p/o/a@8#0", "p/o/a@10#0"])


def test_a_command_whose_sending_was_cut_short_is_sent(
    stager: Stager, reader: StagerClient
) -> None:
    class Cut(StagerClient):
        def append(self, topic: str, *args: Any, **more: Any) -> AppendResult:
            if topic.startswith("commands/"):
                raise KeyboardInterrupt
            return super().append(topic, *args, **more)

    with Cut(stager.address) as client:
        cut = make_publisher(client, Unguarded())
        with pytest.raises(KeyboardInterrupt):
            cut.publish(make_outcome(0, 6))
    with StagerClient(stager.address) as client:
        again = make_publisher(client, Alternating())
        again.publish(make_outcome(0, 6))
    _, decided, sent, _ = stored(reader)
    assert decided == sent == ["p/o/a@0#0", "p/o/a@2#0", "p/o/a@4#0"]


def test_a_batch_without_rows_counts_as_done(publisher: Publisher, reader: StagerClient) -> None:
    empty = Outcome("a", 0, 5)
    publisher.publish(empty)
    assert reader.watermark("results/p/a", "p/a") == 5
    publisher.publish(make_outcome(3, 8))
    assert stored(reader)[0] == [5.0, 6.0, 7.0]


def test_a_cause_in_an_earlier_batch_counts_for_this_one(
    publisher: Publisher, reader: StagerClient
) -> None:
    publisher.publish(make_outcome(0, 10))
    late = make_outcome(10, 12)
    late.commands = [Numbered(3, Command("pause", "b", id="p/o/a@3#1", reason="r"))]
    publisher.publish(late)
    assert stored(reader)[1][-1] == "p/o/a@3#1"


def test_what_is_said_at_the_end_is_stored_once(stager: Stager, reader: StagerClient) -> None:
    with StagerClient(stager.address) as client:
        publisher = make_publisher(client, Unguarded())
        for _ in range(2):
            end = make_outcome(10, 11)
            end.results = None
            publisher.publish_end(end)
    assert stored(reader) == ([], ["p/o/a@10#0"], ["p/o/a@10#0"], 1)


def test_what_people_said_is_not_sent_again_by_an_engine_that_replays(
    stager: Stager, reader: StagerClient
) -> None:
    kinds = (Capability("pause"),)
    streams = make_streams(3, ["b", "c"])
    for name, frames in streams.items():
        # Not ended: an approval comes too late for those that are.
        ScriptedSource(name, [frames], address=stager.address, capabilities=kinds).play()
    rules = GuardRules(approval=("pause",), per_simulation=2)
    guard = GuardMaker(rules)(lambda name: reader)
    with StagerClient(stager.address) as client:
        publisher = make_publisher(client, guard)
        publisher.announce()
        assert publisher.publish(make_outcome(0, 10)) == []
        assert publisher.verdicts == {"awaiting_approval": 5}
    # The desk knows the rules from the log.
    with Desk(lambda: StagerClient(stager.address)) as desk:
        names = [d.command.id for d in desk.waiting()]
        said = [desk.decide(name, "approve", author="Ada")["verdict"] for name in names]
    # To b, c, b, c and b: the third one to b is one too many.
    assert said == ["sent", "sent", "sent", "sent", "refused"]
    with StagerClient(stager.address) as client:
        again = make_publisher(client, Unguarded())
        again.recall(0)
        assert again.publish(make_outcome(0, 10)) == []
        assert again.verdicts == {"awaiting_approval": 5}
    assert sorted(stored(reader)[2]) == sorted(names[:4])
