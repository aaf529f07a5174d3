"""Workers that train together as tasks of Spark."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.jobs.training import train_on_spark
from bridge.runs.configuration import TrainingTable
from bridge.runs.team import TeamPlan
from bridge.runs.training import Training
from bridge.staging import Stager
from bridge.testing.sources import END, ScriptedSource, make_frames

torch = pytest.importorskip("torch", reason="training needs torch")

ROOT = Path(__file__).parents[2]
OPERATOR = {
    "use": "analytics.learning.train:Train",
    "name": "train",
    "kind": "tests.analytics.learning.tiny:TinyAutoencoder",
    "input": "x",
    "batch_size": 16,
    "updates_per_frame": 0.2,
    "start_after": 60,
    "candidate_every": 20,
    "gate": {"min_frames": 20, "blocks": 2},
    "held_out_block": 20,
    "watch_drift": False,
    "device": "cpu",
    "threads": 1,
}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("local", [True, False], ids=["driver", "executors"])
def test_workers_are_tasks_of_spark(
    session: object, stager: Stager, tmp_path: Path, local: bool
) -> None:
    for name in ("s0", "s1", "s2"):
        source = ScriptedSource(
            name, [make_frames(name, 300, {"x": (6,)}), END], address=stager.address
        )
        source.start()
        source.join()
    table = TrainingTable(operators=(OPERATOR,), behind=0, workers=2)
    training = Training(
        name="team", table=table, base=str(ROOT), where="t.toml", registry=str(tmp_path / "models")
    )
    plan = TeamPlan(training=training, stager=stager.address, size=2, timeout=60.0)
    report = train_on_spark(plan, tmp_path, local=local)
    figures = report.figures["train"]
    assert figures["effective_batch_size"] == 32
    assert figures["updates"] >= 0.2 * (450 - 60) - 1
    assert figures["version"] >= 1
