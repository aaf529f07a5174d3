"""Whatever is killed, every frame counts once, and every command is sent once."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from bridge.engines.protocol import EngineStatistics
from bridge.engines.spark import SparkEngine
from bridge.frames import FrameBatch
from bridge.staging import Stager, StagerClient
from bridge.testing.sources import END, PAUSE, ScriptedSource
from tests.bridge.engines.common import (
    check_commands,
    check_results,
    make_streams,
    read_events,
    read_status,
)
from tests.spark.driver import make_job

ROOT = Path(__file__).parents[2]
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
            self.sources.append(
                ScriptedSource(name, [*script, END], address=address, time_limit=100.0).start()
            )

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

    def start(cluster: str = "") -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tests.spark.driver", stager.address, str(checkpoint)]
        begun.append(subprocess.Popen([*command, cluster], cwd=ROOT))
        return begun[-1]

    yield start
    for process in begun:
        if process.poll() is None:
            for child in [*psutil.Process(process.pid).children(recursive=True), process]:
                child.kill()
        process.wait()


def wait_for(
    reader: StagerClient, what: Callable[[EngineStatistics], bool], *, limit: float = 100.0
) -> None:
    """Wait until the engine tells of something in its status."""
    end = time.monotonic() + limit
    position = 0
    while time.monotonic() < end:
        fetched = reader.fetch({"status/test": position}, wait=0.5)
        position = fetched.positions.get("status/test", position)
        told = read_status(reader)
        if told and what(told[-1]):
            return
    raise AssertionError("The engine did not get so far.")


def check(reader: StagerClient, streams: dict[str, FrameBatch]) -> None:
    total = FRAMES * len(streams)
    assert check_results(reader, streams) == total
    check_commands(reader, streams, every=10, frames=total)
    assert [event.data["frames"] for event in read_events(reader, "total")] == [total]
    assert len(read_events(reader, "ended")) == len(streams)


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
    thread.join(60)
    assert not thread.is_alive()
    assert not failures
    check(reader, streams)
    told = read_events(reader, "spark_progress")
    assert told
    assert told[-1].data["milliseconds"]["triggerExecution"] > 0


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
    assert driver.wait(100) == 0
    check(reader, streams)
    resumed = read_events(reader, "resumed")
    assert len(resumed) == 2
    assert all(event.data["downtime"] > 0 for event in resumed)


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
    assert driver.wait(100) == 0
    check(reader, streams)
