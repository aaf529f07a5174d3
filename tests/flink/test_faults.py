"""Whatever is killed, every frame counts once, and no command is applied twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.engines.job import Job
from bridge.jobs.clusters import LocalCluster
from bridge.staging import StagerClient
from bridge.steering import GuardMaker
from tests.bridge.engines.common import check_commands, check_results, make_streams, read_events
from tests.bridge.engines.mortal import TUNABLE, MortalStager, check_answers
from tests.bridge.engines.pipelines import EachTenth, make_pipeline
from tests.bridge.engines.trickle import Trickle
from tests.flink.test_engine import QUICK, Watched


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
    trickle = Trickle(mortal.address, streams, capabilities=TUNABLE, time_limit=100.0)
    for frames in (150, 900):
        watched.wait_for(lambda s, least=frames: s.frames >= least and s.checkpoints >= 1)
        mortal.kill()
        mortal.start()
    trickle.finish()
    assert watched.join().frames == 4500
    with StagerClient(mortal.address) as reader:
        assert check_results(reader, streams) == 4500
        check_commands(reader, streams, every=10, frames=4500)
        assert check_answers(reader, streams) > 100
        away = read_events(reader, "stager_away")
        assert away
        assert all(event.data["downtime"] > 0 for event in away)
