"""The examples that steer alanine dipeptide in spaces that networks learn while it runs."""

from __future__ import annotations

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


def test_a_short_run_sees_frames_in_both_pipelines(tmp_path: Path) -> None:
    path = ROOT / "examples" / "alanine_vampnet" / "run.toml"
    report = headrace_json(
        "run", path, "--output", tmp_path / "run", "--max-time", "20 ps", "--no-plots"
    )
    assert report["control"] is None
