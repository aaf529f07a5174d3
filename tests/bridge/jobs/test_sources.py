"""What is submitted is read, and checked before anything is started."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

from bridge.errors import ConfigError
from bridge.jobs.sources import load_job
from bridge.runs.configuration import RunConfiguration

STAGER = "tcp://127.0.0.1:1"
PIPELINE = """
[pipeline]
name = "means"
[[pipeline.operators]]
use = "moments"
input = "x"
"""


def write(folder: Path, text: str) -> str:
    path = folder / "pipeline.toml"
    path.write_text(text)
    return str(path)


def test_a_file_becomes_a_job(tmp_path: Path) -> None:
    text = PIPELINE + '[engine]\nkind = "flink"\nparallelism = 3\n[steering]\ndry_run = true\n'
    plan = load_job(
        write(tmp_path, text), stagers=STAGER, settings=["a.b=c=d"], changes={"kind": "spark"}
    )
    assert plan.engine.kind == "spark"
    assert plan.engine.parallelism == 3
    assert plan.engine.settings == {"a.b": "c=d"}
    assert plan.rules.dry_run
    job = plan.job()
    assert job.name == "means"
    assert job.is_gathered
    # It travels to the workers, where the pipeline is built anew.
    assert copy.copy(job).prototype is not job.prototype


def test_the_file_of_a_run_will_do() -> None:
    plan = load_job("examples/alanine_dipeptide/run.toml", stagers=STAGER)
    assert plan.job().name == "adaptive"


@pytest.mark.parametrize("table", RunConfiguration.__struct_fields__)
def test_every_table_of_a_run_is_known(tmp_path: Path, table: str) -> None:
    path = tmp_path / "run.toml"
    used = ("pipeline", "engine", "steering")  # Their keys are looked at.
    more = "" if table in used else f"[{table}.x]\n"
    path.write_text('[[pipeline.operators]]\nuse = "moments"\ninput = "x"\n' + more)
    load_job(str(path), stagers=STAGER)


def test_an_object_of_a_file_of_the_users(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from bridge.pipeline import FrameOperator, Pipeline\n"
        "class Twice(FrameOperator):\n"
        "    def process(self, batch, context):\n"
        "        return batch.with_columns({'twice': 2 * batch['x']})\n"
        "def make():\n"
        "    return Pipeline('mine', [('twice', Twice())])\n"
    )
    plan = load_job("mine:make", stagers=STAGER, files=[str(tmp_path / "mine.py")])
    assert plan.job().name == "mine"
    assert plan.files == (str(tmp_path / "mine.py"),)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", r"lacks the table \[pipeline\]"),
        (PIPELINE + "[pipline]\n", "pipline"),
        (PIPELINE.replace("moments", "momments"), "did you mean 'moments'"),
        (PIPELINE + "[engine]\nparalelism = 2\n", "parallelism"),
        (PIPELINE + '[engine]\nkind = "storm"\n', "storm"),
        (PIPELINE + "[engine]\nblock_groups = 2\n", "cannot be given parts of frames"),
        (PIPELINE + "[steering]\ndryrun = true\n", "dry_run"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_job(write(tmp_path, text), stagers=STAGER)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="KEY=VALUE"):
        load_job(write(tmp_path, PIPELINE), stagers=STAGER, settings=["nonsense"])
    with pytest.raises(ConfigError, match=r"no file or folder .*gone\.py"):
        load_job(write(tmp_path, PIPELINE), stagers=STAGER, files=[str(tmp_path / "gone.py")])
    with pytest.raises(ConfigError, match="cannot be loaded"):
        load_job("no.such.module:pipeline", stagers=STAGER)
    with pytest.raises(ConfigError, match="nowhere"):
        load_job("nowhere.toml", stagers=STAGER)
