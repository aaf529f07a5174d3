"""Workers that train together: whole processes over real staging."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from analytics.learning.distributed.team import Place
from analytics.learning.registry import Registry
from bridge.codec import decode_state
from bridge.engines.checkpoint import CheckpointStore
from bridge.errors import ConfigError
from bridge.runs.configuration import TrainingTable
from bridge.runs.team import TeamPlan, run_team, wanted_by
from bridge.runs.training import Training
from bridge.staging import Stager, StagerClient
from bridge.testing.sources import END, ScriptedSource, make_frames
from tests.analytics.learning.tiny import TinyAutoencoder
from tests.bridge.engines.common import read_events
from tests.bridge.runs.commands import end_all, start

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
    end_all()


def make_plan(stager: Stager, folder: Path, *, groups: int = 1, portion: int = 256) -> TeamPlan:
    table = TrainingTable(
        operators=(OPERATOR,), behind=0, workers=2, groups=groups, engine={"max_frames": portion}
    )
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
def test_workers_of_two_machines_train_one_model(stager: Stager, tmp_path: Path) -> None:
    # With one stream, one of the two workers has nothing of its own, and nobody hangs; a stream
    # without the column ends nobody.
    for name, column in (("s0", "x"), ("odd", "y")):
        source = ScriptedSource(
            name, [make_frames(name, 400, {column: (6,)}), END], address=stager.address
        )
        source.start()
        source.join()
    table = "\n".join(f"{key} = {as_toml(value)}" for key, value in OPERATOR.items())
    file = tmp_path / "team.toml"
    file.write_text(f"[training.team]\nbehind = 0\n[[training.team.operators]]\n{table}\n")
    command = [
        "train", file, "--stager", stager.address, "--output", tmp_path / "out", "--json",
        "--workers", "2", "--nodes", "2", "--rendezvous", f"127.0.0.1:{free_port()}",
    ]  # fmt: skip
    nodes = [start(*command, "--node-rank", str(rank)) for rank in (1, 0)]
    (nothing, _), (output, errors) = (node.communicate(timeout=280) for node in nodes)
    assert ([node.returncode for node in nodes], nothing) == ([0, 0], ""), errors
    figures = json.loads(output)["figures"]["train"]
    assert figures["effective_batch_size"] == 32
    assert figures["updates"] >= 0.2 * (400 / 2 - 60) - 1
    assert figures["version"] >= 1
    card = Registry(tmp_path / "out" / "models").cards("model")[-1]
    assert sorted(card.trained_on) == ["s0"]
    # All have the same parameters, to the bit.
    first, second = parameters_of(tmp_path / "out")
    for key, value in first.items():
        np.testing.assert_array_equal(value, second[key])
    with StagerClient(stager.address) as client:
        (event,) = read_events(client, "stream_passed_over")
    assert event.simulation == "odd"


@pytest.mark.timeout(300)
def test_recorded_streams_train_the_same_model(stager: Stager, tmp_path: Path) -> None:
    # One stream for each worker, of different lengths, in portions of different sizes.
    for rank, frames in ((0, 400), (1, 260)):
        wants = wanted_by(rank, 2)
        name = next(name for i in range(50) if wants(name := f"s{i}"))
        source = ScriptedSource(
            name, [make_frames(name, frames, {"x": (6,)}), END], address=stager.address
        )
        source.start()
        source.join()
    found = []
    for portion in (256, 37):
        folder = tmp_path / str(portion)
        report = run_team(make_plan(stager, folder, portion=portion), folder)
        assert report is not None
        assert report.figures["train"]["updates"] == int(0.2 * ((400 + 260) // 2 - 60))
        found += parameters_of(folder)
    for key, value in found[0].items():
        for other in found[1:]:
            np.testing.assert_array_equal(value, other[key])


def as_toml(value: object) -> str:
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{k} = {as_toml(v)}' for k, v in value.items())} }}"
    return json.dumps(value)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


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
