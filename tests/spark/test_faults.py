"""Whatever is killed, every frame counts once, and every command is sent once."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from bridge.engines.job import Job
from bridge.engines.protocol import EngineStatistics
from bridge.engines.spark import SparkEngine
from bridge.frames import FrameBatch
from bridge.staging import Stager, StagerClient
from bridge.testing.sources import ABORT, END, PAUSE, ScriptedSource, make_frames
from tests.bridge.engines.common import (
    check_commands,
    check_results,
    make_streams,
    play,
    read_events,
)
from tests.bridge.engines.mortal import (
    TUNABLE,
    MortalStager,
    MortalWalker,
    check_answers,
    wait_for,
)
from tests.bridge.engines.pressure import Pressure, make_slow_job
from tests.bridge.engines.trickle import Trickle
from tests.spark.driver import make_job

ROOT = Path(__file__).parents[2]
SHORT = {"headrace.lease": "0.5"}
FRAMES = 240
SLICES = 4


class Walkers:
    """Simulations that go on when they are told to."""

    def __init__(self, address: str, streams: dict[str, FrameBatch]) -> None:
        step = FRAMES // SLICES
        self.sources = []
        for name, frames in streams.items():
            script: list[Any] = []
            for i in range(SLICES):
                script += [frames.take(slice(i * step, (i + 1) * step)), PAUSE]
            source = ScriptedSource(
                name, [*script, END], address=address, capabilities=TUNABLE, time_limit=250.0
            )
            self.sources.append(source.start())

    def go_on(self) -> None:
        for source in self.sources:
            source.resume()


@pytest.fixture
def streams() -> dict[str, FrameBatch]:
    return make_streams(FRAMES)


@pytest.fixture
def walkers(stager: Stager, streams: dict[str, FrameBatch]) -> Walkers:
    return Walkers(stager.address, streams)


@pytest.fixture
def drive(stager: Stager, checkpoint: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts drivers, all with the same checkpoint."""
    begun: list[subprocess.Popen[bytes]] = []

    def start(cluster: str = "", **environment: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tests.spark.driver", stager.address, str(checkpoint)]
        env = {**os.environ, **environment}
        begun.append(subprocess.Popen([*command, cluster], cwd=ROOT, env=env))
        return begun[-1]

    yield start
    for process in begun:
        if process.poll() is None:
            for child in [*psutil.Process(process.pid).children(recursive=True), process]:
                child.kill()
        process.wait()


def check(reader: StagerClient, streams: dict[str, FrameBatch]) -> None:
    total = FRAMES * len(streams)
    assert check_results(reader, streams) == total
    check_commands(reader, streams, every=10, frames=total)
    assert [event.data["frames"] for event in read_events(reader, "total")] == [total]
    assert len(read_events(reader, "ended")) == len(streams)


def check_lost(reader: StagerClient) -> None:
    """Assert that lost workers were told of, and that none merely moved."""
    lost = read_events(reader, "worker_lost")
    assert lost
    assert all(0 < event.data["downtime"] < 60 for event in lost)
    assert not read_events(reader, "worker_changed")


def at_least(frames: int) -> Callable[[EngineStatistics], bool]:
    return lambda status: status.frames >= frames


def workers_of(reader: StagerClient) -> list[int]:
    """Return the processes that served partitions last, newest first."""
    import msgspec

    from bridge.engines.spark.news import News, _topic

    out: dict[int, None] = {}
    fetched = reader.fetch({_topic("test"): 0}, wait=0.0)
    for record in reversed(fetched.records):
        for report in msgspec.msgpack.decode(record.data, type=News).reports:
            out[int(report.worker.rpartition(":")[2])] = None
    return list(out)


def executors_of(driver: int) -> list[psutil.Process]:
    """Return the executors' Java processes."""
    out = []
    for child in psutil.Process(driver).children(recursive=True):
        # Processes come and go while we look.
        with contextlib.suppress(psutil.NoSuchProcess):
            if "CoarseGrainedExecutorBackend" in " ".join(child.cmdline()):
                out.append(child)
    return out


def test_a_python_worker_is_killed(
    session: Any,
    stager: Stager,
    reader: StagerClient,
    streams: dict[str, FrameBatch],
    walkers: Walkers,
    checkpoint: Path,
) -> None:
    engine = SparkEngine(
        make_job(stager.address), checkpoint=checkpoint, settings={"headrace.lease": "1.0"}
    )
    failures: list[BaseException] = []

    def run() -> None:
        try:
            engine.run()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    for i in range(SLICES):
        wait_for(reader, at_least(3 * FRAMES // SLICES * (i + 1)))
        if i < 2:
            victims = [pid for pid in workers_of(reader) if psutil.pid_exists(pid)]
            os.kill(victims[0], signal.SIGKILL)
        walkers.go_on()
    thread.join(150)
    assert not thread.is_alive()
    assert not failures
    check(reader, streams)
    check_answers(reader, streams)
    check_lost(reader)


def test_the_driver_is_killed_twice(
    reader: StagerClient,
    streams: dict[str, FrameBatch],
    walkers: Walkers,
    drive: Callable[..., subprocess.Popen[bytes]],
) -> None:
    for i in (1, 2):
        driver = drive()
        wait_for(reader, at_least(3 * FRAMES // SLICES * i))
        # In the middle of what comes now.
        walkers.go_on()
        driver.kill()
        driver.wait()
    driver = drive()
    wait_for(reader, at_least(3 * FRAMES // SLICES * 3))
    walkers.go_on()
    walkers.go_on()
    assert driver.wait(150) == 0
    check(reader, streams)
    resumed = read_events(reader, "resumed")
    assert len(resumed) == 2
    assert all(event.data["downtime"] > 0 for event in resumed)


SLUGGISH = """#!/bin/sh
case "$*" in *python_streaming_source_runner*)
    if mkdir "{mark}" 2>/dev/null; then sleep 14; fi ;;
esac
exec "{python}" "$@"
"""


def test_a_python_that_is_slow_to_start_is_waited_for(
    reader: StagerClient,
    streams: dict[str, FrameBatch],
    walkers: Walkers,
    drive: Callable[..., subprocess.Popen[bytes]],
    tmp_path: Path,
) -> None:
    """Spark allows the Python that plans 10 s to start; a busy machine takes longer at times."""
    python = tmp_path / "python"
    python.write_text(SLUGGISH.format(mark=tmp_path / "once", python=sys.executable))
    python.chmod(0o755)
    driver = drive(PYSPARK_PYTHON=str(python))
    wait_for(reader, at_least(3 * FRAMES // SLICES))
    for _ in range(SLICES):
        walkers.go_on()
    assert driver.wait(150) == 0
    # Once, or as often as the machine is that slow by itself.
    restarts = [event.data["restarts"] for event in read_events(reader, "engine_restarted")]
    assert restarts == list(range(1, len(restarts) + 1))
    assert restarts
    check(reader, streams)
    check_answers(reader, streams)


def test_an_executor_is_killed(
    reader: StagerClient,
    streams: dict[str, FrameBatch],
    walkers: Walkers,
    drive: Callable[..., subprocess.Popen[bytes]],
) -> None:
    driver = drive("local-cluster[2,1,600]")
    wait_for(reader, at_least(3 * FRAMES // SLICES))
    java = executors_of(driver.pid)
    assert len(java) == 2
    walkers.go_on()
    java[0].kill()
    wait_for(reader, at_least(3 * FRAMES // SLICES * 2))
    for _ in range(SLICES - 1):
        walkers.go_on()
    assert driver.wait(150) == 0
    check(reader, streams)
    check_answers(reader, streams)
    check_lost(reader)


def run_aside(engine: SparkEngine) -> Callable[[], EngineStatistics]:
    """Run an engine in a thread; what is returned waits for its end."""
    outcome: list[Any] = []

    def target() -> None:
        try:
            outcome.append(engine.run())
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=target, daemon=True)
    thread.start()

    def join() -> EngineStatistics:
        thread.join(150)
        assert not thread.is_alive(), "The engine did not come to its end."
        if isinstance(outcome[0], BaseException):
            raise outcome[0]
        statistics: EngineStatistics = outcome[0]
        return statistics

    return join


def make_steered(address: str, *expected: str) -> Job:
    """Return the job of these tests, which waits for certain simulations."""
    return replace(make_job(address), expected=expected)


def test_the_stager_is_killed_twice(session: Any, tmp_path: Path, checkpoint: Path) -> None:
    streams = make_streams(3000)
    mortal = MortalStager(tmp_path / "topics")
    try:
        job = make_steered(mortal.address, *streams)
        join = run_aside(SparkEngine(job, checkpoint=checkpoint, settings=SHORT))
        trickle = Trickle(mortal.address, streams, step=5, capabilities=TUNABLE, time_limit=250.0)
        with StagerClient(mortal.address, timeout=30.0) as reader:
            for frames in (150, 900):
                wait_for(reader, at_least(frames))
                mortal.kill()
                mortal.start()
            trickle.finish()
            assert join().frames == 9000
            assert check_results(reader, streams) == 9000
            check_commands(reader, streams, every=10, frames=9000)
            # Every tenth frame of those that came before the second kill, at least.
            assert check_answers(reader, streams) > 50
            away = read_events(reader, "stager_away")
            assert away
            assert all(event.data["downtime"] > 0 for event in away)
    finally:
        mortal.kill()


def test_simulations_die_and_come_back(
    session: Any, stager: Stager, reader: StagerClient, checkpoint: Path
) -> None:
    streams = make_streams(400)
    # One is killed, one closes its stream without a word, one had come to its end.
    killed = MortalWalker(stager.address, "a", 400)
    others = []
    for name, goodbye in (("b", ABORT), ("c", END)):
        first, rest = streams[name].take(slice(0, 200)), streams[name].take(slice(200, 400))
        script: list[Any] = [first, goodbye, PAUSE, rest, END]
        more: dict[str, Any] = {"capabilities": TUNABLE, "time_limit": 250.0}
        others.append(ScriptedSource(name, script, address=stager.address, **more).start())
    try:
        job = make_steered(stager.address, *streams)
        join = run_aside(SparkEngine(job, checkpoint=checkpoint, settings=SHORT))
        wait_for(reader, lambda s: "c" in s.simulations and s.simulations["c"].finished)
        killed.go_on()
        wait_for(reader, lambda s: "a" in s.simulations and s.simulations["a"].position > 0)
        killed.go_on()
        killed.kill()
        for source in others:
            source.resume()
        wait_for(reader, lambda s: s.simulations["c"].position == 400)
        killed.start()
        killed.finish()
    finally:
        killed.end()
    for source in others:
        source.join()
    assert join().frames == 1200
    assert check_results(reader, streams, ended={"c": 200}) == 1200
    check_commands(reader, streams, every=10, frames=1200)
    check_answers(reader, streams)


def test_more_workers_go_on_from_a_checkpoint(
    session: Any, stager: Stager, reader: StagerClient, checkpoint: Path
) -> None:
    streams = make_streams(3000)
    job = make_steered(stager.address, *streams)
    trickle = Trickle(stager.address, streams, step=5, capabilities=TUNABLE, time_limit=250.0)
    one = SparkEngine(job, checkpoint=checkpoint, parallelism=1, settings=SHORT)
    join = run_aside(one)
    wait_for(reader, at_least(100))
    one.stop()
    assert join().state == "stopped"
    # The session is shared here; the worker of the one task is not the only one any more.
    alone = set(workers_of(reader))
    assert len(alone) == 1
    join = run_aside(SparkEngine(job, checkpoint=checkpoint, parallelism=2, settings=SHORT))
    wait_for(reader, lambda s: len(workers_of(reader)) >= 2)
    trickle.finish()
    assert join().state == "finished"
    assert check_results(reader, streams) == 9000
    check_commands(reader, streams, every=10, frames=9000)
    assert check_answers(reader, streams) > 5
    (resumed,) = read_events(reader, "resumed")
    assert resumed.data["downtime"] > 0


def test_a_slow_operator_holds_the_simulation_up(
    session: Any, stager: Stager, reader: StagerClient, checkpoint: Path
) -> None:
    engine = SparkEngine(make_slow_job(stager.address), checkpoint=checkpoint, settings=SHORT)

    def memory() -> list[int]:
        out = [0]
        for pid in workers_of(reader):
            with contextlib.suppress(psutil.NoSuchProcess):
                out.append(psutil.Process(pid).memory_info().rss)
        return out

    play(stager.address, {"first": make_frames("first", 5, {"x": (10_000, 3)})})
    join = run_aside(engine)
    wait_for(reader, at_least(5))
    pressure = Pressure(stager.address, memory)
    wait_for(reader, pressure.look)
    pressure.check(reader, join())
    told = read_events(reader, "spark_progress")
    assert told
    assert told[-1].data["milliseconds"]["triggerExecution"] > 0
    # The lag of each simulation that had any just then.
    assert all("lag" in event.data for event in told)
