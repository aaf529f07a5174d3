"""The engine gives the answers of the local one, whoever comes, goes, or fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bridge.commands import ApprovalWord, Decision
from bridge.engines.job import Job
from bridge.engines.local import LocalEngine
from bridge.engines.options import JobOptions
from bridge.engines.protocol import Engine, EngineStatistics
from bridge.engines.results import read_results
from bridge.engines.spark import SparkEngine
from bridge.errors import ConfigError, OperatorFailed
from bridge.frames import FrameBatch
from bridge.pipeline import Pipeline
from bridge.staging import Stager, StagerClient
from bridge.steering import GuardRules, KeeperMaker, read_ledger
from bridge.testing.sources import END, PAUSE, ScriptedSource, make_frames
from tests.bridge.engines.common import (
    check_commands,
    check_results,
    check_words,
    make_streams,
    play,
    read,
    read_events,
    read_status,
    say,
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

OPTIONS = JobOptions(save_every=0.2, checkpoint_every=0.2, status_every=0.1)
SHORT = {"headrace.lease": "0.5"}


@pytest.fixture(autouse=True)
def _one_spark(session: Any) -> None:
    """Engines find the session that the tests share."""


@contextmanager
def running(engine: SparkEngine, until: Any = "finished") -> Iterator[list[Any]]:
    """Run an engine in a thread; what it returned or raised is in the list in the end."""
    outcome: list[Any] = []

    def target() -> None:
        try:
            outcome.append(engine.run(until))
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    yield outcome
    thread.join(150)
    assert not thread.is_alive(), "The engine did not come to its end."


def local(stager: Stager, pipeline: Pipeline, streams: dict[str, FrameBatch]) -> dict[str, Any]:
    """Return the local engine's results over the same frames."""
    with Stager("tcp://127.0.0.1:0") as other:
        other.start()
        play(other.address, streams)
        with StagerClient(other.address) as client:
            LocalEngine(pipeline, client).run()
            return {name: read_results(client, pipeline.name, name) for name in streams}


@pytest.mark.parametrize("kind", ["frame", "keyed"])
def test_results_are_those_of_the_local_engine_to_the_bit(
    stager: Stager, reader: StagerClient, kind: str
) -> None:
    operators: list[Any] = [("norm", Norm())]
    if kind == "keyed":
        operators.append(("running", Running()))
    pipeline = Pipeline("test", operators)
    streams = make_streams(300)
    play(stager.address, streams)
    statistics = SparkEngine(Job(pipeline, stager.address, options=OPTIONS), settings=SHORT).run()
    assert statistics.state == "finished"
    assert statistics.frames == 900
    for name, wanted in local(stager, pipeline, streams).items():
        found = read_results(reader, "test", name)
        assert found is not None
        assert found.offsets.tolist() == wanted.offsets.tolist()
        assert found.columns.keys() == wanted.columns.keys()
        for column in wanted.columns:
            assert np.array_equal(found[column], wanted[column])
    ended = sorted(event.simulation for event in read_events(reader, "ended"))
    assert ended == (["a", "b", "c"] if kind == "keyed" else [])


def test_every_scope_and_commands(stager: Stager, reader: StagerClient) -> None:
    streams = make_streams(200)
    play(stager.address, streams)
    seen: list[EngineStatistics] = []
    engine: Engine = SparkEngine(
        Job(make_pipeline(("tenth", EachTenth())), stager.address, options=OPTIONS),
        settings=SHORT,
        on_status=seen.append,
    )
    statistics = engine.run()
    assert check_results(reader, streams) == 600
    check_commands(reader, streams, every=10, frames=600)
    assert statistics.decisions == statistics.sent == 60
    assert seen[-1] == engine.statistics() == statistics
    assert read_status(reader)[-1].state == "finished"
    assert read_status(reader)[-1].engine == "spark"
    (total,) = read_events(reader, "total")
    assert total.data == {"frames": 600}
    assert all(t.groups["test"] == 200 for t in reader.topics("frames/"))


def test_people_are_asked_and_the_job_hears_them(stager: Stager, reader: StagerClient) -> None:
    sources = [
        ScriptedSource(n, [f, PAUSE, END], address=stager.address, capabilities=TUNABLE).start()
        for n, f in make_streams(60).items()
    ]
    guard = KeeperMaker(GuardRules(approval=("set",)))
    job = Job(
        make_pipeline(("tenth", EachTenth())), stager.address, options=OPTIONS, guard=guard,
        expected=tuple("abc"),
    )  # fmt: skip
    words: dict[str, ApprovalWord] = {}
    with running(SparkEngine(job, settings=SHORT)) as outcome:
        deadline = time.monotonic() + 90
        while not (heard := [x for x in read_ledger(reader) if x.id in words and x.outcome]):
            assert not outcome, outcome
            assert time.monotonic() < deadline
            time.sleep(0.05)
            asked = [d.command.id for d in read(reader, "decisions", Decision)]
            if len(asked) >= 18 and not words:
                words = {asked[4]: "approve", asked[7]: "deny"}
                for name, word in words.items():
                    say(reader, name, word)
        for source in sources:
            source.resume()
    assert outcome[0].state == "finished"
    assert [line.outcome for line in heard] == ["applied"]
    check_words(reader, words)


def test_a_simulation_that_comes_later_is_picked_up(stager: Stager, reader: StagerClient) -> None:
    streams = make_streams(60)
    first = ScriptedSource(
        "a", [streams["a"].take(slice(0, 30)), PAUSE, streams["a"].take(slice(30, 60)), END],
        address=stager.address,
    )  # fmt: skip
    came = threading.Event()
    job = Job(make_pipeline(), stager.address, options=OPTIONS, expected=("a", "b", "c"))

    def look(statistics: EngineStatistics) -> None:
        if statistics.frames >= 30:
            came.set()

    with first, running(SparkEngine(job, settings=SHORT, on_status=look)) as outcome:
        assert came.wait(150)
        play(stager.address, {name: streams[name] for name in "bc"})
        first.resume()
    assert outcome[0].state == "finished"
    assert check_results(reader, streams) == 180


def test_a_simulation_that_comes_back_is_taken_up_again(
    stager: Stager, reader: StagerClient
) -> None:
    frames = make_frames("a", 80, {"x": (4, 3)})
    half, whole = threading.Event(), threading.Event()
    job = Job(make_pipeline(), stager.address, options=OPTIONS, expected=("b",))

    def look(statistics: EngineStatistics) -> None:
        at = statistics.simulations.get("a")
        if at is not None:
            (half if at.finished and at.position == 40 else threading.Event()).set()
            (whole if at.position == 80 else threading.Event()).set()

    ScriptedSource("a", [frames.take(slice(0, 40)), END], address=stager.address).play()
    with running(SparkEngine(job, settings=SHORT, on_status=look)) as outcome:
        assert half.wait(150)
        with ScriptedSource("a", [frames, PAUSE, END], address=stager.address) as again:
            assert whole.wait(150)
            again.resume()
        play(stager.address, {"b": make_frames("b", 5, {"x": (4, 3)})})
    assert outcome[0].simulations["a"].position == 80
    results = read_results(reader, "test", "a")
    assert results is not None
    assert results.steps.tolist() == frames.steps.tolist()


def test_stopped_and_started_again_with_its_checkpoint(
    stager: Stager, reader: StagerClient, checkpoint: Path
) -> None:
    streams = make_streams(120)
    job = Job(make_pipeline(("tenth", EachTenth())), stager.address, options=OPTIONS)
    sources = [
        ScriptedSource(
            name, [frames.take(slice(0, 70)), PAUSE, frames.take(slice(70, 120)), END],
            address=stager.address,
        ).start()
        for name, frames in streams.items()
    ]  # fmt: skip
    engine = SparkEngine(job, settings=SHORT, checkpoint=checkpoint)

    def look(statistics: EngineStatistics) -> None:
        # Keyed operators' states lie on workers; the others' in the driver.
        if statistics.frames == 210 and {"running", "place"} <= statistics.states.keys():
            engine.stop()

    engine._on_status = look
    stopped = engine.run()
    assert stopped.state == "stopped"
    assert stopped.states["running"] > 0
    assert stopped.states["place"] > 0
    for source in sources:
        source.resume()
        source.join()
    statistics = SparkEngine(job, settings=SHORT, checkpoint=checkpoint).run()
    assert statistics.state == "finished"
    assert statistics.frames == 360
    assert check_results(reader, streams) == 360
    check_commands(reader, streams, every=10, frames=360)
    assert len(read_events(reader, "resumed")) == 1


def test_a_target_reached_ends_the_job(stager: Stager, reader: StagerClient) -> None:
    sources = [
        ScriptedSource(
            name, [frames.take(slice(0, 50)), PAUSE, END], address=stager.address
        ).start()
        for name, frames in make_streams(50).items()
    ]
    job = Job(make_pipeline(("stop", StopAt(40))), stager.address, options=OPTIONS, until="stopped")
    statistics = SparkEngine(job, settings=SHORT).run()
    assert statistics.state == "finished"
    for source in sources:
        source.join()
        assert [command.kind for command in source.commands] == ["stop"]


def test_a_failing_operator_is_named(stager: Stager, reader: StagerClient) -> None:
    streams = make_streams(50)
    play(stager.address, streams)
    job = Job(make_pipeline(("failing", Failing((200,)))), stager.address, options=OPTIONS)
    early = Job(
        Pipeline("early", [("failing", Failing((200,))), ("norm", Norm())]), stager.address,
        options=OPTIONS,
    )  # fmt: skip
    for one in (job, early):
        with pytest.raises(OperatorFailed) as caught:
            SparkEngine(one, settings=SHORT).run()
        said = str(caught.value)
        assert said.startswith(f"Operator 'failing' of pipeline {one.name!r} failed on the frames")
        assert said.endswith("ValueError: step 200 is not to my taste.")
        assert "java" not in said.lower()
        assert read_status(reader, one.name)[-1].state == "failed"
    assert len(read_events(reader, "engine_failed")) == 2


def test_arguments_are_checked() -> None:
    job = Job(make_pipeline(), "tcp://127.0.0.1:1")
    with pytest.raises(ConfigError, match="is not the address of a Spark cluster"):
        SparkEngine(job, cluster="127.0.0.1:7077")
    with pytest.raises(ConfigError, match=r"headrace\.lease is 0\.05 to 60"):
        SparkEngine(job, settings={"headrace.lease": "0"})
    with pytest.raises(ConfigError, match="'parallelism' is 0"):
        SparkEngine(job, parallelism=0)
