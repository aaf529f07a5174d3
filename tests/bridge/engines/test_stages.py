"""The two parts of a job, hosted here by hand, as Flink and Spark host them in processes."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import numpy as np
import pytest

from bridge.commands import Approval, Command, Decision
from bridge.engines.coordinator import Coordinator
from bridge.engines.job import Job
from bridge.engines.local import LocalEngine
from bridge.engines.options import JobOptions
from bridge.engines.partials import PartitionReport
from bridge.engines.partition import PartitionStage
from bridge.engines.results import read_results
from bridge.errors import OperatorFailed, PipelineError
from bridge.frames import FrameBatch
from bridge.pipeline import Pipeline
from bridge.staging import Stager, StagerClient
from bridge.staging.messages import StreamOptions
from bridge.steering import Desk, GuardMaker, GuardRules, KeeperMaker
from bridge.testing.sources import END, PAUSE, ScriptedSource
from tests.bridge.engines.common import (
    check_commands,
    check_results,
    make_streams,
    play,
    read,
    read_events,
)
from tests.bridge.engines.mortal import TUNABLE
from tests.bridge.engines.pipelines import (
    EachTenth,
    Failing,
    Norm,
    Running,
    StopAt,
    make_pipeline,
)

SMALL = JobOptions(max_frames=16, status_every=0.01, batch_seconds=60.0)


class Host:
    """Hosts a job in this thread, and restarts its parts from what they saved."""

    def __init__(self, job: Job, *, seed: int = 0) -> None:
        self.job = job
        self.random = random.Random(seed)
        self.saved: dict[str, bytes] = {}
        self.merged: bytes | None = None
        self.held: dict[str, int] = {}
        self.gathered: dict[str, int] = {}
        self.stage = PartitionStage(job)
        self.coordinator = Coordinator(job, engine="test")
        self.crashes = 0

    def close(self) -> None:
        self.stage.end()
        self.coordinator.end()

    def turn(self) -> None:
        for name in self.stage.discover():
            if not self.stage.is_open(name):
                self.stage.open(name, self.saved.get(name))
        self.stage._looked = 0.0
        for report in self.stage.pump(wait=0.001, budget=0.0):
            self.coordinator.hear(PartitionReport.decode(report.encode()))
        self.coordinator.pump(wait=0.0, budget=0.0)

    def checkpoint(self) -> None:
        for name in self.stage.discover():
            if self.stage.is_open(name):
                saved = self.stage.save(name)
                if saved is not None:
                    self.saved[name] = saved
                    self.held[name] = self.stage.position(name)
        self.merged, self.gathered = self.coordinator.save(), self.coordinator.positions()

    def complete(self) -> None:
        """The checkpoint is safe: what lies before it may be released."""
        self.stage.commit(self.held)
        self.coordinator.commit(self.gathered)

    def kill_worker(self) -> None:
        self.crashes += 1
        self.stage.end()
        self.stage = PartitionStage(self.job)

    def kill_coordinator(self) -> None:
        self.crashes += 1
        self.coordinator.end()
        self.coordinator = Coordinator(self.job, engine="test", saved=self.merged)
        for report in self.stage.reports():
            self.coordinator.hear(report)

    def run(self, *, disturb: bool = False, turns: int = 20_000) -> None:
        for _ in range(turns):
            self.turn()
            if disturb:
                match self.random.randrange(12):
                    case 0:
                        self.kill_worker()
                    case 1:
                        self.kill_coordinator()
                    case 2 | 3 | 4:
                        self.checkpoint()
                        if self.random.random() < 0.5:
                            self.complete()
            for report in self.stage.reports():
                self.coordinator.hear(report)
            if self.coordinator.over:
                self.coordinator.finish()
                return
        raise AssertionError("The job did not come to its end.")


@pytest.fixture
def host(stager: Stager) -> Iterator[Callable[..., Host]]:
    made: list[Host] = []

    def make(pipeline: Pipeline, *, seed: int = 0, **fields: Any) -> Host:
        options = fields.pop("options", SMALL)
        made.append(Host(Job(pipeline, stager.address, options=options, **fields), seed=seed))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_results_are_those_of_the_local_engine(
    stager: Stager, reader: StagerClient, host: Callable[..., Host]
) -> None:
    streams = make_streams()
    play(stager.address, streams)
    host(make_pipeline(("tenth", EachTenth()))).run()
    assert check_results(reader, streams) == 600
    check_commands(reader, streams, every=10, frames=600)
    local = make_pipeline(("tenth", EachTenth()), name="local")
    with StagerClient(stager.address) as client:
        LocalEngine(local, client, group="local").run()
    for name in streams:
        ours, theirs = (read_results(reader, p, name) for p in ("test", "local"))
        assert ours is not None
        assert theirs is not None
        assert list(ours.columns) == list(theirs.columns)
        for column in ("norm", "running"):
            assert ours[column].tobytes() == theirs[column].tobytes()


def test_the_bytes_of_states_on_workers_reach_the_status(
    stager: Stager, host: Callable[..., Host]
) -> None:
    streams = make_streams(50)
    for name, frames in streams.items():
        # The streams go on: states of those that end are let go.
        ScriptedSource(name, [frames], address=stager.address).play()
    hosted = host(make_pipeline(("tenth", EachTenth())))

    def sizes() -> dict[str, int]:
        for _ in range(200):
            hosted.turn()
            for report in hosted.stage.reports():
                hosted.coordinator.hear(PartitionReport.decode(report.encode()))
            if hosted.coordinator.statistics().frames == 50 * len(streams):
                break
        return hosted.coordinator.statistics().states

    assert sizes() == {}
    hosted.checkpoint()
    found = sizes()
    one = hosted.stage.reports()[0].states["running"]
    assert one > 0
    assert found["running"] == one * len(streams)
    assert found["place"] > 0
    assert found["tenth"] == 0
    # Whoever takes the partitions up tells the same at once.
    hosted.kill_worker()
    hosted.kill_coordinator()
    assert sizes() == found


@pytest.mark.parametrize("seed", range(8))
def test_parts_that_are_killed_do_everything_once(
    stager: Stager, reader: StagerClient, host: Callable[..., Host], seed: int
) -> None:
    streams = make_streams()
    play(stager.address, streams)
    one = host(make_pipeline(("tenth", EachTenth())), seed=seed)
    one.run(disturb=True)
    assert one.crashes
    assert check_results(reader, streams) == 600
    check_commands(reader, streams, every=10, frames=600)
    sums = {e.simulation: e.message for e in read_events(reader, "ended")}
    assert len(sums) == len(read_events(reader, "ended")) == 3


@pytest.mark.parametrize("seed", range(4))
def test_a_simulation_that_had_ended_and_comes_back_is_known_again(
    stager: Stager, reader: StagerClient, host: Callable[..., Host], seed: int
) -> None:
    streams = make_streams()
    play(stager.address, {"a": streams["a"], "b": streams["b"].take(slice(0, 120))})
    one = host(make_pipeline(("tenth", EachTenth())), seed=seed, expected=("a", "b", "c"))
    for _ in range(2000):
        one.turn()
        if one.coordinator._finished == {"a", "b"}:
            break
    one.checkpoint()
    play(stager.address, {"b": streams["b"], "c": streams["c"]})
    one.run(disturb=True)
    assert check_results(reader, streams, ended={"b": 120}) == 600
    check_commands(reader, streams, every=10, frames=600)


def test_a_target_reached_does_not_leave_frames_behind(
    stager: Stager, reader: StagerClient, host: Callable[..., Host]
) -> None:
    frames = make_streams(names=("a",))["a"]
    options = msgspec.structs.replace(SMALL, linger=0.001)
    one = host(make_pipeline(("stop", StopAt(20))), until="stopped", options=options)
    with ScriptedSource("a", [frames, PAUSE, END], address=stager.address) as source:
        source.wait_until_paused()
        while not reader.topics("commands/a"):
            one.turn()
        source.join()
        # The worker is slow: the simulation has answered, and ended, long before it comes on.
        for _ in range(30):
            one.coordinator.pump(wait=0.001)
            assert not one.coordinator.over
    one.run()
    assert check_results(reader, {"a": frames}) == 200
    assert len(read_events(reader, "ended")) == 1


@pytest.mark.parametrize("seed", range(4))
def test_without_global_operators_workers_store_results(
    stager: Stager, reader: StagerClient, host: Callable[..., Host], seed: int
) -> None:
    streams = make_streams()
    play(stager.address, streams)
    pipeline = Pipeline("test", [("norm", Norm()), ("running", Running())])
    one = host(pipeline, seed=seed)
    one.run(disturb=True)
    for name, frames in streams.items():
        results = read_results(reader, "test", name)
        assert results is not None
        assert results.offsets.tolist() == frames.offsets.tolist()
        assert list(results.columns) == ["norm", "running"]
        norm = results["norm"].tolist()
        np.testing.assert_allclose(results["running"], np.cumsum(norm), rtol=1e-12)
    assert not [t for t in reader.topics("partials/") if t.end]


class Deciding(Running):
    """Decides at each fiftieth frame of its simulation."""

    def process(self, batch: FrameBatch, context: Any) -> FrameBatch:
        for offset in batch.offsets[batch.offsets % 50 == 49]:
            context.command("stop", context.simulation, reason="So far.", at=int(offset))
        return super().process(batch, context)


@pytest.mark.parametrize("seed", range(4))
def test_commands_of_workers_go_through_the_coordinator(
    stager: Stager, reader: StagerClient, host: Callable[..., Host], seed: int
) -> None:
    streams = make_streams()
    play(stager.address, streams)
    pipeline = Pipeline("test", [("norm", Norm()), ("deciding", Deciding())])
    host(pipeline, seed=seed).run(disturb=True)
    decisions = read(reader, "decisions", Decision)
    assert sorted(d.command.id for d in decisions) == sorted(
        f"test/deciding/{name}@{offset}#0" for name in streams for offset in (49, 99, 149, 199)
    )
    for name in streams:
        assert len(read(reader, f"commands/{name}", Command)) == 4


def test_a_full_stream_goes_on_when_a_checkpoint_is_complete(
    reader: StagerClient, stager: Stager, host: Callable[..., Host]
) -> None:
    """What no checkpoint holds stays; a producer that blocks waits for one."""
    import threading

    options = StreamOptions(capacity=64 << 10, segment=8 << 10, keep=0)
    streams = make_streams(3000, names=("a",))
    one = host(make_pipeline())
    thread = threading.Thread(
        target=play, args=(stager.address, streams), kwargs={"options": options}, daemon=True
    )
    thread.start()
    turns = 0
    while not one.coordinator.over:
        one.turn()
        turns += 1
        if turns % 20 == 0:
            one.checkpoint()
            one.complete()
        for report in one.stage.reports():
            one.coordinator.hear(report)
        assert turns < 100_000
    thread.join(10)
    one.coordinator.finish()
    assert check_results(reader, streams) == 3000


def test_a_target_ends_the_job_when_all_have_answered(
    stager: Stager, reader: StagerClient, host: Callable[..., Host]
) -> None:
    streams = make_streams()
    play(stager.address, streams)
    one = host(make_pipeline(("stop", StopAt(100))), until="stopped")
    one.run()
    assert len(read_events(reader, "target_reached")) == 1
    assert {d.command.simulation for d in read(reader, "decisions", Decision)} <= set(streams)


def test_an_operator_that_fails_is_named(stager: Stager, host: Callable[..., Host]) -> None:
    play(stager.address, make_streams())
    pipeline = Pipeline("test", [("norm", Norm()), ("fail", Failing((30,)))])
    with pytest.raises(OperatorFailed, match=r"'fail'.*not to my taste"):
        host(pipeline).run()


def test_advance_stops_exactly(stager: Stager, reader: StagerClient) -> None:
    streams = make_streams(names=("a",))
    play(stager.address, streams)
    job = Job(make_pipeline(), stager.address, options=SMALL)
    stage, coordinator = PartitionStage(job), Coordinator(job, engine="test")
    stage.open("a")
    for stop in (1, 70, 133, 200):
        report = stage.advance("a", stop)
        assert report.position == stop
        coordinator.hear(report)
        coordinator.upto({"a": stop})
        results = read_results(reader, "test", "a")
        assert results is not None
        assert results.stop == stop
    report = stage.advance("a", 200, end=True)
    assert report.finished
    coordinator.upto({"a": 200})
    coordinator._next_status = 0.0
    coordinator.pump(wait=0.0)
    assert coordinator.over
    coordinator.finish()
    assert check_results(reader, streams) == 200
    stage.end()
    coordinator.end()


def test_the_state_of_another_pipeline_is_refused(
    stager: Stager, host: Callable[..., Host]
) -> None:
    play(stager.address, make_streams())
    one = host(make_pipeline())
    one.turn()
    one.checkpoint()
    other = Pipeline("test", [("norm", Norm()), ("sum", Running()), ("tenth", EachTenth())])
    job = Job(other, stager.address)
    stage = PartitionStage(job)
    with pytest.raises(PipelineError, match="belongs to another pipeline"):
        stage.open("a", one.saved["a"])
    stage.end()
    with pytest.raises(PipelineError, match="belongs to another pipeline"):
        Coordinator(job, engine="test", saved=one.merged)


def test_people_are_asked_once_whatever_becomes_of_the_job(
    stager: Stager, reader: StagerClient, host: Callable[..., Host]
) -> None:
    streams = make_streams(100)
    sources = [
        ScriptedSource(n, [f, PAUSE, END], address=stager.address, capabilities=TUNABLE).start()
        for n, f in streams.items()
    ]
    for source in sources:
        source.wait_until_paused()
    rules = GuardRules(approval=("set",))
    pipeline = make_pipeline(("policy", EachTenth()))
    job = host(pipeline, seed=3, guard=GuardMaker(rules, kept=True))
    while len(asked := read(reader, "decisions", Decision)) < 30:
        job.turn()
    assert {d.verdict for d in asked} == {"awaiting_approval"}
    words: dict[str, Any] = {}
    with Desk(lambda: StagerClient(stager.address)) as desk:
        for number, decision in enumerate(desk.waiting()):
            words[decision.command.id] = ("approve", "deny")[number % 2]
            desk.decide(decision.command.id, words[decision.command.id], author="Ada")
        # Nothing was saved: all of it is computed, and decided on, again.
        job.kill_worker()
        job.kill_coordinator()
        for source in sources:
            source.resume()
        job.run(disturb=True)
        assert desk.tick() == 0
    for source in sources:
        source.join()
    sent = [c.id for n in streams for c in read(reader, f"commands/{n}", Command)]
    assert sorted(sent) == sorted(name for name, word in words.items() if word == "approve")
    assert len(read(reader, "decisions", Decision)) == 60
    check_results(reader, streams)


@pytest.mark.parametrize("limit", [0.2, 600.0], ids=["time limit", "end of the job"])
def test_a_job_carries_out_words_and_defaults_by_itself(
    stager: Stager, reader: StagerClient, host: Callable[..., Host], limit: float
) -> None:
    streams = make_streams(100)
    sources = [
        ScriptedSource(n, [f, PAUSE, END], address=stager.address, capabilities=TUNABLE).start()
        for n, f in streams.items()
    ]
    for source in sources:
        source.wait_until_paused()
    rules = GuardRules(approval=("set",), approval_timeout=limit, approval_default="approve")
    job = host(make_pipeline(("policy", EachTenth())), seed=5, guard=KeeperMaker(rules))
    while len(asked := [d for d in read(reader, "decisions", Decision) if not d.by]) < 30:
        job.turn()
    for number, decision in enumerate(asked[:20]):
        # Of people who are gone before they could carry out what they said.
        name, word = decision.command.id, ("approve", "deny")[number % 2]
        said = msgspec.msgpack.encode(Approval(name, word, "Ada"))
        reader.append("approvals", [said], writer=name, first=0, stop=1)
    job.kill_coordinator()
    deadline = time.monotonic() + 60
    while len(read(reader, "decisions", Decision)) < (60 if limit < 1 else 50):
        assert time.monotonic() < deadline
        job.turn()
    for source in sources:
        source.resume()
    job.run(disturb=True)
    for source in sources:
        source.join()
    # One word, one decision that followed, and one command for each that was approved.
    words = {w.command: w for w in read(reader, "approvals", Approval)}
    later = [d for d in read(reader, "decisions", Decision) if d.by]
    assert len(read(reader, "approvals", Approval)) == len(later) == len(words) == 30
    sent = [c.id for n in streams for c in read(reader, f"commands/{n}", Command)]
    assert sorted(sent) == sorted(n for n, w in words.items() if w.word == "approve")
    last = {words[d.command.id].by for d in asked[20:]}
    assert last == ({"time limit"} if limit < 1 else {"the engine"})
    for decision in later:
        if decision.by == "the engine":
            assert decision.verdict == "denied"
            assert decision.reason.endswith("The job ended before anybody decided.")
