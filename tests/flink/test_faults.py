"""Whatever is killed, every frame counts once, and no command is applied twice."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from bridge.engines.flink.rest import FlinkRest
from bridge.engines.flink.submission import find_checkpoint
from bridge.engines.job import Job
from bridge.errors import EngineError
from bridge.jobs.clusters import LocalCluster
from bridge.staging import Stager, StagerClient
from bridge.steering import GuardMaker
from bridge.testing.sources import ABORT, END, PAUSE, ScriptedSource
from tests.bridge.engines.common import check_commands, check_results, make_streams, read_events
from tests.bridge.engines.mortal import (
    TUNABLE,
    MortalStager,
    MortalWalker,
    check_answers,
    wait_for,
)
from tests.bridge.engines.pipelines import EachTenth, make_pipeline
from tests.bridge.engines.pressure import Pressure, make_slow_job
from tests.bridge.engines.trickle import Trickle
from tests.flink.test_cluster import headrace
from tests.flink.test_engine import QUICK, Watched, workers

PIPELINE = """
[pipeline]
name = "test"
[[pipeline.operators]]
name = "norm"
use = "tests.bridge.engines.pipelines:Norm"
[[pipeline.operators]]
name = "running"
use = "tests.bridge.engines.pipelines:Running"
[[pipeline.operators]]
name = "place"
use = "tests.bridge.engines.pipelines:Place"
[[pipeline.operators]]
name = "tenth"
use = "tests.bridge.engines.pipelines:EachTenth"
[engine]
save_every = 0.3
checkpoint_every = 0.5
status_every = 0.3
"""


def make_job(address: str, *expected: str) -> Job:
    """Return a job with operators of all scopes, and commands that a guard lets through."""
    pipeline = make_pipeline(("tenth", EachTenth()))
    return Job(pipeline, address, options=QUICK, guard=GuardMaker(), expected=expected)


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[MortalStager]:
    """A stager that keeps its topics on disk."""
    stager = MortalStager(tmp_path / "topics")
    yield stager
    stager.kill()


def test_the_stager_is_killed_twice(
    cluster: LocalCluster, mortal: MortalStager, tmp_path: Path
) -> None:
    streams = make_streams(1500)
    job = make_job(mortal.address, *streams)
    watched = Watched(job, cluster=cluster.address, checkpoint=tmp_path / "checkpoints")
    watched.wait_for(lambda s: True)
    trickle = Trickle(mortal.address, streams, capabilities=TUNABLE, time_limit=250.0)
    for frames in (150, 900):
        watched.wait_for(lambda s, least=frames: s.frames >= least and s.checkpoints >= 1)
        mortal.kill()
        mortal.start()
    trickle.finish()
    assert watched.join().frames == 4500
    with StagerClient(mortal.address) as reader:
        assert check_results(reader, streams) == 4500
        check_commands(reader, streams, every=10, frames=4500)
        # Every tenth frame of those that came before the second kill, at least.
        assert check_answers(reader, streams) > 50
        away = read_events(reader, "stager_away")
        assert away
        assert all(event.data["downtime"] > 0 for event in away)


def test_simulations_die_and_come_back(
    cluster: LocalCluster, stager: Stager, reader: StagerClient, tmp_path: Path
) -> None:
    streams = make_streams(400)
    halves = {n: (f.take(slice(0, 200)), f.take(slice(200, 400))) for n, f in streams.items()}
    # One is killed, one closes its stream without a word, one had come to its end.
    killed = MortalWalker(stager.address, "a", 400)
    others = []
    for name, goodbye in (("b", ABORT), ("c", END)):
        first, rest = halves[name]
        script: list[Any] = [first, goodbye, PAUSE, rest, END]
        more: dict[str, Any] = {"capabilities": TUNABLE, "time_limit": 250.0}
        others.append(ScriptedSource(name, script, address=stager.address, **more).start())
    try:
        job = make_job(stager.address, *streams)
        watched = Watched(job, cluster=cluster.address, checkpoint=tmp_path)
        watched.wait_for(lambda s: "c" in s.simulations and s.simulations["c"].finished)
        killed.go_on()
        watched.wait_for(lambda s: "a" in s.simulations and s.simulations["a"].position > 0)
        killed.go_on()
        killed.kill()
        for source in others:
            source.resume()
        watched.wait_for(lambda s: s.simulations["c"].position == 400)
        killed.start()
        killed.finish()
    finally:
        killed.end()
    for source in others:
        source.join()
    assert watched.join().frames == 1200
    assert check_results(reader, streams, ended={"c": 200}) == 1200
    check_commands(reader, streams, every=10, frames=1200)
    check_answers(reader, streams)


def wait_for_answer(cluster: LocalCluster, limit: float = 60.0) -> None:
    """Wait until the job manager that was started again answers."""
    rest = FlinkRest(cluster.address)
    deadline = time.monotonic() + limit
    while True:
        try:
            rest.overview()
            return
        except EngineError:
            assert time.monotonic() < deadline


def test_the_job_manager_is_killed_and_the_job_goes_on_from_its_checkpoint(
    cluster: LocalCluster, stager: Stager, reader: StagerClient, tmp_path: Path
) -> None:
    path = tmp_path / "pipeline.toml"
    path.write_text(PIPELINE)
    streams = make_streams(3000)
    submit = ("submit", str(path), "--engine", "flink", "--cluster", cluster.address)
    where = ("--stager", stager.address, "--checkpoint", str(tmp_path / "checkpoints"))
    record = headrace(tmp_path, *submit, *where)
    trickle = Trickle(stager.address, streams, step=5, capabilities=TUNABLE, time_limit=250.0)
    wait_for(reader, lambda s: s.frames >= 150 and s.checkpoints >= 3)
    old = cluster.pid("jobmanager")
    os.kill(old, signal.SIGKILL)
    wait_for_answer(cluster)
    [lost] = headrace(tmp_path, "jobs", record["id"])
    assert lost["state"] == "lost"
    assert cluster.pid("jobmanager") != old
    newest = find_checkpoint(tmp_path / "checkpoints")
    assert "/chk-" in newest
    headrace(tmp_path, *submit, *where, "--savepoint", newest.removeprefix("file://"))
    wait_for(reader, lambda s: bool(read_events(reader, "resumed")))
    trickle.finish()
    wait_for(reader, lambda s: s.state == "finished")
    assert check_results(reader, streams) == 9000
    check_commands(reader, streams, every=10, frames=9000)
    check_answers(reader, streams)
    assert read_events(reader, "resumed")[-1].data["downtime"] > 0


def memory() -> list[int]:
    """Return the bytes of each worker; some end while we look."""
    out = [0]
    for worker in workers():
        with contextlib.suppress(psutil.Error):
            out.append(worker.memory_info().rss)
    return out


def test_a_slow_operator_holds_the_simulation_up(
    cluster: LocalCluster, stager: Stager, reader: StagerClient, tmp_path: Path
) -> None:
    job = make_slow_job(stager.address)
    watched = Watched(job, cluster=cluster.address, checkpoint=tmp_path)
    watched.wait_for(lambda s: True)
    pressure = Pressure(stager.address, memory)
    watched.wait_for(pressure.look)
    assert watched.join().state == "finished"
    pressure.check(reader, watched.join())
