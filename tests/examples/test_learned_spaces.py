"""The examples that steer alanine dipeptide in spaces that networks learn while it runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bridge.runs.configuration import load_run
from bridge.runs.pipelines import apply_control
from bridge.runs.plan import Plan
from tests.bridge.runs.commands import headrace_json

pytest.importorskip("openmm")
pytest.importorskip("torch")

ROOT = Path(__file__).parents[2]
EXAMPLES = ("alanine_vampnet", "alanine_cvae")


@pytest.mark.parametrize("control", ["", "random", "none"])
@pytest.mark.parametrize("example", EXAMPLES)
def test_nothing_is_wrong_with_the_file(example: str, control: str) -> None:
    path = ROOT / "examples" / example / "run.toml"
    configuration = load_run(path)
    if control:
        configuration = apply_control(configuration, control, str(path))
    plan = Plan(
        configuration=configuration, source=str(path), base=str(path.parent), control=control
    )
    plan.check()
    # What trains and what steers see the same column, and know the model by the same name.
    infer = next(o for o in configuration.pipeline.operators if o["use"] == "infer")
    (training,) = configuration.training.values()
    train = training.operators[-1]
    assert (train["model"], train["input"]) == (infer["model"], infer["input"])
    assert train["hyper"]["latent"] == infer["n_components"]


@pytest.mark.timeout(240)
def test_two_workers_learn_beside_a_run(tmp_path: Path) -> None:
    text = (ROOT / "examples" / "alanine_vampnet" / "run.toml").read_text(encoding="utf-8")
    for old, new in (
        ('"../', f'"{ROOT / "examples"}/'),
        ("members = 8", "members = 4"),
        ("[training.vampnet]", "[training.vampnet]\nworkers = 2\ngroups = 2\nbehind = 100_000"),
        ("start_after = 300", "start_after = 80"),
        ("candidate_every = 100", "candidate_every = 10"),
        ("batch_size = 256", "batch_size = 32"),
        ("held_out_block = 20", "held_out_block = 10"),
        ("gate = { min_frames = 40, blocks = 4,", "gate = { min_frames = 8, blocks = 2,"),
    ):
        assert old in text, old
        text = text.replace(old, new)
    path = tmp_path / "run.toml"
    path.write_text(text, encoding="utf-8")
    report = headrace_json(
        "run", path, "--output", tmp_path / "run", "--max-time", "200 ps", "--no-plots"
    )
    assert report["control"] is None
    team = json.loads(
        (tmp_path / "run" / "checkpoint" / "vampnet" / "team-report.json").read_text()
    )
    figures = team["figures"]["train"]
    assert figures["version"] >= 1
    assert figures["effective_batch_size"] == 32
