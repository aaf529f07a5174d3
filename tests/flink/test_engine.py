"""Pipelines on a Flink mini-cluster, whose workers are processes of their own."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from bridge.commands import Event
from bridge.engines.flink import FlinkEngine
from bridge.engines.job import Job
from bridge.engines.local import LocalEngine
from bridge.engines.options import JobOptions
from bridge.engines.protocol import EngineStatistics
from bridge.engines.results import read_results
from bridge.errors import OperatorFailed
from bridge.pipeline import Pipeline
from bridge.staging import Stager, StagerClient
from bridge.steering import GuardMaker
from bridge.testing.sources import make_frames
from tests.bridge.engines.common import (
    check_commands,
    check_results,
    make_streams,
    play,
    read_events,
)
from tests.bridge.engines.mortal import TUNABLE, check_answers
from tests.bridge.engines.pipelines import EachTenth, Failing, Norm, Running, make_pipeline
from tests.bridge.engines.trickle import Trickle

TAME: dict[str, Any] = {"capabilities": TUNABLE, "time_limit": 250.0}
QUICK = JobOptions(save_every=0.3, checkpoint_every=0.5, status_every=0.3, max_frames=64)


class Watched:
    """Runs an engine in a thread, and lets a test wait for what it tells of itself."""

    def __init__(self, job: Job, **more: Any) -> None:
        self.engine = FlinkEngine(job, on_status=self._hear, **more)
        self.result: EngineStatistics | None = None
        self.error: BaseException | None = None
        self._news = threading.Condition()
        self._last: EngineStatistics | None = None
        self._thread = threading.Thread(target=self._run, args=(job.until,), daemon=True)
        self._thread.start()

    def _run(self, until: Any) -> None:
        try:
            self.result = self.engine.run(until)
        except BaseException as error:
            self.error = error
        with self._news:
            self._news.notify_all()

    def _hear(self, status: EngineStatistics) -> None:
        with self._news:
            self._last = status
            self._news.notify_all()

    def wait_for(self, what: Callable[[EngineStatistics], bool], timeout: float = 200.0) -> None:
        deadline = time.monotonic() + timeout
        with self._news:
            while self._last is None or not what(self._last):
                if self.error is not None:
                    raise self.error
                assert self.result is None, f"The engine has ended before; last was {self._last}."
                assert time.monotonic() < deadline, f"Waited in vain; last was {self._last}."
                self._news.wait(0.5)

    def join(self, timeout: float = 250.0) -> EngineStatistics:
        self._thread.join(timeout)
        if self.error is not None:
            raise self.error
        assert self.result is not None, "The engine did not end."
        return self.result


def workers() -> list[psutil.Process]:
    """Return the Python workers of Flink that were started below this process."""
    return [
        child
        for child in psutil.Process().children(recursive=True)
        if "pyflink.fn_execution.beam.beam_boot" in " ".join(_command(child))
        or "beam_sdk_worker_main" in " ".join(_command(child))
    ]


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_results_are_those_of_the_local_engine(stager: Stager, reader: StagerClient) -> None:
    streams = make_streams(500)
    play(stager.address, streams)
    job = Job(make_pipeline(("tenth", EachTenth())), stager.address, options=QUICK)
    engine = FlinkEngine(job)
    statistics = engine.run()
    assert statistics.state == "finished"
    assert statistics.frames == 1500
    assert engine.submission is not None
    assert not Path(engine.submission.checkpoints).exists()
    assert check_results(reader, streams) == 1500
    check_commands(reader, streams, every=10, frames=1500)
    with StagerClient(stager.address) as client:
        LocalEngine(make_pipeline(name="local"), client, group="local").run()
    for name in streams:
        ours, theirs = (read_results(reader, p, name) for p in ("test", "local"))
        assert ours is not None
        assert theirs is not None
        for column in ("norm", "running"):
            assert ours[column].tobytes() == theirs[column].tobytes()


def test_a_killed_worker_and_a_new_simulation(stager: Stager, reader: StagerClient) -> None:
    streams = make_streams(2000)
    expected = tuple(streams)
    job = Job(
        make_pipeline(("tenth", EachTenth())),
        stager.address,
        options=QUICK,
        guard=GuardMaker(),
        expected=expected,
    )
    others = {worker.pid for worker in workers()}
    watched = Watched(job)
    watched.wait_for(lambda s: True)
    trickle = Trickle(stager.address, {name: streams[name] for name in "ab"}, **TAME)
    watched.wait_for(lambda s: s.frames >= 100 and s.checkpoints >= 1)
    # What operators keep is told, on workers and in the coordinator; and where Flink shows the job.
    watched.wait_for(lambda s: {"running", "place"} <= s.states.keys() and bool(s.page))
    # The third simulation begins only now.
    late = Trickle(stager.address, {"c": streams["c"]}, **TAME)
    # Not one that another job has left on the cluster.
    victim = next(worker for worker in workers() if worker.pid not in others)
    os.kill(victim.pid, signal.SIGKILL)
    trickle.finish()
    late.finish()
    statistics = watched.join()
    assert statistics.frames == 6000
    assert check_results(reader, streams) == 6000
    check_commands(reader, streams, every=10, frames=6000)
    assert check_answers(reader, streams) > 5
    resumed = read_events(reader, "resumed")
    assert resumed
    assert all(event.data["downtime"] >= 0 for event in resumed)
    assert read_events(reader, "engine_restarted")


def test_a_savepoint_goes_on_with_more_workers(
    stager: Stager, reader: StagerClient, tmp_path: Path
) -> None:
    streams = make_streams(2000)
    job = Job(
        make_pipeline(("tenth", EachTenth())),
        stager.address,
        options=QUICK,
        expected=tuple(streams),
    )
    first = Watched(job, parallelism=1, checkpoint=tmp_path)
    first.wait_for(lambda s: True)
    trickle = Trickle(stager.address, streams)
    first.wait_for(lambda s: s.frames >= 100)
    first.engine.stop()
    assert first.join().state == "stopped"
    assert first.engine.savepoint
    trickle.finish()
    second = FlinkEngine(job, parallelism=2, savepoint=first.engine.savepoint)
    assert second.run().state == "finished"
    assert check_results(reader, streams) == 6000
    check_commands(reader, streams, every=10, frames=6000)


def test_workers_alone_store_results(stager: Stager, reader: StagerClient) -> None:
    streams = make_streams(300)
    play(stager.address, streams)
    pipeline = Pipeline("test", [("norm", Norm()), ("running", Running())])
    statistics = FlinkEngine(Job(pipeline, stager.address, options=QUICK)).run()
    assert statistics.frames == 900
    assert {n: s.finished for n, s in statistics.simulations.items()} == dict.fromkeys("abc", True)
    for name, frames in streams.items():
        results = read_results(reader, "test", name)
        assert results is not None
        assert results.offsets.tolist() == frames.offsets.tolist()


def test_an_operator_that_fails_is_named(stager: Stager, reader: StagerClient) -> None:
    play(stager.address, {"a": make_frames("a", 50, {"x": (4, 3)})})
    pipeline = Pipeline("test", [("norm", Norm()), ("fail", Failing((30,)))])
    with pytest.raises(OperatorFailed, match=r"^Operator 'fail'.*step 30 is not to my taste") as e:
        FlinkEngine(Job(pipeline, stager.address, options=QUICK)).run()
    assert "java" not in str(e.value)
    told: list[Event] = read_events(reader, "engine_restarted")
    assert all("not to my taste" in event.message for event in told)
