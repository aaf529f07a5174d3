"""Workers that train together: whole processes over real staging."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from analytics.learning.distributed.team import Place
from analytics.learning.registry import Registry
from bridge.codec import decode_state
from bridge.engines.checkpoint import CheckpointStore
from bridge.errors import ConfigError, EngineError
from bridge.runs.configuration import TrainingTable
from bridge.runs.team import TeamPlan, run_team, wanted_by
from bridge.runs.training import Training
from bridge.staging import Stager
from bridge.testing.sources import END, ScriptedSource, make_frames
from tests.analytics.learning.tiny import TinyAutoencoder

ROOT = Path(__file__).parents[3]
OPERATOR = {
    "use": "analytics.learning.train:Train",
    "name": "train",
    "kind": TinyAutoencoder.kind,
    "input": "x",
    "batch_size": 16,
    "updates_per_frame": 0.2,
    "start_after": 60,
    "learning_rate": 0.01,
    "candidate_every": 20,
    "gate": {"min_frames": 20, "blocks": 2},
    "held_out_block": 20,
    "device": "cpu",
    "threads": 1,
}


@pytest.fixture
def stager() -> Iterator[Stager]:
    with Stager("tcp://127.0.0.1:0") as service:
        yield service.start()


def make_plan(stager: Stager, folder: Path, *, groups: int = 1) -> TeamPlan:
    table = TrainingTable(operators=(OPERATOR,), behind=0, workers=2, groups=groups)
    training = Training(
        name="team", table=table, base=str(ROOT), where="t.toml", registry=str(folder / "models")
    )
    return TeamPlan(training=training, stager=stager.address, size=2, groups=groups, timeout=60.0)


def parameters_of(folder: Path) -> list[dict[str, np.ndarray]]:
    """Return what each worker learned, from its checkpoint."""
    out = []
    for rank in (0, 1):
        checkpoint, _ = CheckpointStore(folder / f"team-{rank}.checkpoint", "team").load()
        assert checkpoint is not None
        state = decode_state(decode_state(checkpoint.operators)["global train"].tobytes())
        out.append({k: v for k, v in state.items() if k.startswith("trainer model ")})
    return out


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("groups", "streams"), [(1, 1), (2, 4)])
def test_workers_train_one_model(stager: Stager, tmp_path: Path, groups: int, streams: int) -> None:
    # With one stream, one of the two workers has nothing of its own, and nobody hangs.
    names = [f"s{i}" for i in range(streams)]
    for name in names:
        source = ScriptedSource(
            name, [make_frames(name, 400, {"x": (6,)}), END], address=stager.address
        )
        source.start()
        source.join()
    report = run_team(make_plan(stager, tmp_path, groups=groups), tmp_path)
    assert report is not None
    figures = report.figures["train"]
    assert figures["effective_batch_size"] == 32 // groups
    assert figures["updates"] >= 0.2 * (400 * streams / 2 - 60) - 1
    assert figures["version"] >= 1
    card = Registry(tmp_path / "models").cards("model")[-1]
    if groups == 1:
        # The card knows the frames of all, and all have the same parameters, to the bit.
        assert sorted(card.trained_on) == names
        first, second = parameters_of(tmp_path)
        for key, value in first.items():
            np.testing.assert_array_equal(value, second[key])


@pytest.mark.timeout(300)
def test_a_team_that_loses_a_worker_says_so(stager: Stager, tmp_path: Path) -> None:
    plan = make_plan(stager, tmp_path)
    bad = {**OPERATOR, "kind": "tests.analytics.learning.no_such_module:Model"}
    table = TrainingTable(operators=(bad,), workers=2)
    training = Training(name="team", table=table, base=str(ROOT), where="t.toml")
    ScriptedSource("a", [make_frames("a", 100, {"x": (6,)}), END], address=stager.address).start()
    plan = TeamPlan(training=training, stager=plan.stager, size=2, timeout=30.0)
    with pytest.raises(EngineError, match=r"worker \d of the training 'team'"):
        run_team(plan, tmp_path)


def test_shares_and_groups() -> None:
    wanted = [wanted_by(rank, 3) for rank in range(3)]
    names = [f"walker-{i}" for i in range(60)]
    assert all(sum(wants(name) for wants in wanted) == 1 for name in names)
    assert all(any(wants(name) for name in names) for wants in wanted)
    place = Place(rank=2, size=4, groups=2)
    assert (place.group, place.members(0), place.members(1)) == (1, [0, 1], [2, 3])
    with pytest.raises(ConfigError, match="no place in a team"):
        Place(rank=4, size=4)


def test_wrong_teams_are_refused(stager: Stager, tmp_path: Path) -> None:
    plan = make_plan(stager, tmp_path)
    with pytest.raises(ConfigError, match="cannot be shared out over 3 machines"):
        run_team(plan, tmp_path, nodes=3)
    with pytest.raises(ConfigError, match="--rendezvous"):
        run_team(plan, tmp_path, nodes=2)
