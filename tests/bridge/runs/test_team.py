"""A team that loses a worker; those that learn are in `tests.analytics.learning`."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from bridge.errors import EngineError
from bridge.frames import FrameBatch
from bridge.pipeline import Context, GlobalOperator
from bridge.runs.configuration import TrainingTable
from bridge.runs.team import TeamPlan, run_team
from bridge.runs.training import Training
from bridge.staging import Stager
from bridge.testing.sources import END, ScriptedSource, make_frames

ROOT = Path(__file__).parents[3]


class Deserter(GlobalOperator):
    """Meets the others, and fails where there is something to do together."""

    hungry = True

    def process(self, batch: FrameBatch, context: Context) -> FrameBatch:
        return batch

    def join(self, *, rank: int, **place: object) -> Deserter:
        self.rank = rank
        return self

    def turn(self, *, ended: bool, stopped: bool) -> SimpleNamespace:
        if self.rank == 1:
            raise EngineError("There is no more strength left.")
        return SimpleNamespace(over=stopped, updates=0, events=())


def test_a_team_that_loses_a_worker_says_so(tmp_path: Path) -> None:
    table = TrainingTable(operators=({"use": f"{__name__}:Deserter"},), workers=2)
    training = Training(name="team", table=table, base=str(ROOT), where="t.toml")
    with Stager("tcp://127.0.0.1:0") as service:
        stager = service.start()
        frames = make_frames("a", 100, {"x": (6,)})
        ScriptedSource("a", [frames, END], address=stager.address).start()
        plan = TeamPlan(training=training, stager=stager.address, size=2, timeout=30.0)
        with pytest.raises(EngineError, match=r"worker 1 of the training 'team'") as caught:
            run_team(plan, tmp_path)
    assert "no more strength" in str(caught.value)
