"""Workers of a team that are tasks of a cluster: what they tell each other through the stager."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from bridge.errors import NobodyListening
from bridge.jobs import training as jobs
from bridge.runs.configuration import TrainingTable
from bridge.runs.team import TeamPlan
from bridge.runs.training import Training
from bridge.staging import Stager


@pytest.fixture
def stager() -> Iterator[Stager]:
    with Stager() as service:
        yield service.start()


@pytest.fixture
def plan(stager: Stager) -> TeamPlan:
    table = TrainingTable(operators=({"use": "a:B"},))
    made = Training(name="team", table=table, base=".", where="t.toml", registry="models")
    return TeamPlan(training=made, stager=stager.address, size=3, timeout=30.0)


def test_all_workers_meet_at_one_port_and_return_what_worker_0_reports(plan: TeamPlan):
    def be(rank: int) -> tuple[int, bytes]:
        port = jobs._meet(plan, rank, "127.0.0.1", "job")
        return port, jobs._agree(plan, rank, "job", b"of worker %d" % rank)

    with ThreadPoolExecutor(3) as pool:
        said = list(pool.map(be, (2, 1, 0)))
    assert len(set(said)) == 1
    assert said[0][1] == b"of worker 0"


def test_a_worker_0_that_never_reports_is_named(stager: Stager, plan: TeamPlan):
    hasty = TeamPlan(training=plan.training, stager=stager.address, size=2, timeout=0.1)
    with pytest.raises(NobodyListening, match=r"worker 0 of the training 'team' to report"):
        jobs._agree(hasty, 1, "job", b"")
