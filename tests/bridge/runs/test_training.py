"""Trainings: beside a run, and over the streams of a stager."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bridge.errors import ConfigError
from bridge.frames import FrameBatch
from bridge.pipeline import Context, GlobalOperator
from bridge.runs.configuration import TrainingTable
from bridge.runs.training import Training, TrainingReport, TrainingRun, choose_training
from bridge.staging import Stager, StagerClient
from bridge.testing.sources import END, PAUSE, ScriptedSource, make_frames
from tests.bridge.runs.commands import headrace, headrace_json, write_walkers

COUNT = "tests.bridge.runs.test_training:Count"
BESIDE = f"""
[training.count]
behind = 100000
operators = [{{ use = "{COUNT}" }}]
"""


class Count(GlobalOperator):
    """Counts frames, and writes their number where it would keep its models."""

    def __init__(self, *, seed: int = -1, registry: str = "") -> None:
        self.seed = seed
        self.registry = registry
        self.frames = 0
        self.ended = False

    def process(self, batch: FrameBatch, context: Context) -> FrameBatch:
        self.frames += len(batch)
        if self.registry:
            Path(self.registry).mkdir(parents=True, exist_ok=True)
            nice = os.getpriority(os.PRIO_PROCESS, 0)
            (Path(self.registry) / "count").write_text(f"{self.frames} {self.seed} {nice}")
        return batch.with_columns({"count": np.full(len(batch), self.frames)})

    def finish(self, context: Context) -> None:
        self.ended = True

    def figures(self) -> dict[str, float]:
        return {"count": self.frames}

    def save(self) -> dict[str, int]:
        return {"frames": self.frames}

    def restore(self, state: dict[str, int]) -> None:
        self.frames = state["frames"]


@pytest.fixture
def stager(tmp_path: Path) -> Iterator[Stager]:
    """A stager that other processes can reach."""
    with Stager("tcp://127.0.0.1:0") as service:
        yield service.start()


def make(folder: Path, **changes: object) -> Training:
    table = TrainingTable(operators=({"use": COUNT},), **changes)  # type: ignore[arg-type]
    return Training(name="count", table=table, base=str(folder), where="train.toml")


def niceness() -> int:
    """What a trainer's is that was told nothing."""
    return min(19, os.getpriority(os.PRIO_PROCESS, 0) + TrainingTable().nice)


def feed(stager: Stager, name: str, *script: object) -> ScriptedSource:
    source = ScriptedSource(name, list(script), address=stager.address)  # type: ignore[arg-type]
    source.start()
    return source


def test_a_training_ends_with_the_streams_and_tells_its_figures(
    stager: Stager, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        feed(stager, name, make_frames(name, 50, {"x": (3,)}), END).join()
    seen: list[TrainingReport] = []
    with StagerClient(stager.address) as client:
        run = TrainingRun(make(tmp_path), client, on_status=seen.append)
        report = run.run()
    assert (report.frames, report.missed) == (100, 0)
    assert report.figures == {"Count": {"count": 100.0}}
    assert report.frames_per_second > 0
    assert seen[-1].frames == 100


def test_a_training_that_was_stopped_goes_on(stager: Stager, tmp_path: Path) -> None:
    frames = make_frames("a", 90, {"x": (3,)})
    source = feed(stager, "a", frames.take(slice(0, 40)), PAUSE, frames.take(slice(40, 90)), END)
    source.wait_until_paused()
    came = threading.Event()

    def note(report: TrainingReport) -> None:
        if report.frames == 40:
            came.set()

    with StagerClient(stager.address) as client:
        first = TrainingRun(
            make(tmp_path, engine={"status_every": 0.01}),
            client,
            checkpoint=tmp_path / "count.checkpoint",
            on_status=note,
        )
        assert first.run("stopped", stop=came.is_set).frames == 40
        # Such as to judge what was learned since the last candidate, though frames are left.
        assert first.engine.operator("Count").ended
        source.resume()
        source.join()
        again = TrainingRun(make(tmp_path), client, checkpoint=tmp_path / "count.checkpoint")
        assert again.run().figures["Count"]["count"] == 90.0


def test_train_reads_along_with_a_stager(stager: Stager, tmp_path: Path) -> None:
    feed(stager, "a", make_frames("a", 70, {"x": (3,)}), END).join()
    (tmp_path / "train.toml").write_text(BESIDE)
    said = headrace_json(
        "train", tmp_path / "train.toml", "--stager", stager.address,
        "--output", tmp_path / "out", "--seed", "7",
    )  # fmt: skip
    assert said["frames"] == 70
    assert said["figures"]["Count"]["count"] == 70
    assert (tmp_path / "out" / "models" / "count").read_text() == f"70 7 {niceness()}"
    with StagerClient(stager.address) as client:
        (topic,) = client.topics("results/count/")
        assert topic.end > 0


def test_a_run_has_its_trainings_beside_it(tmp_path: Path) -> None:
    path = write_walkers(tmp_path, steps=20_000)
    path.write_text(path.read_text() + BESIDE)
    code, output, errors = headrace(
        "run", path, "--control", "none", "--no-plots", "--output", tmp_path / "run"
    )
    assert code == 0, output + errors
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["outcome"] == "finished"
    log = (tmp_path / "run" / "logs" / "trainer-count.log").read_text()
    assert "The trainer has ended" in log
    seen, seed, nice = (tmp_path / "run" / "models" / "count").read_text().split()
    # What was there before it began to read may be gone.
    assert 0 < int(seen) <= report["frames"]
    assert seed == "3"
    assert int(nice) == niceness()
    assert (tmp_path / "run" / "ledger.jsonl").is_file()


def test_wrong_tables_are_refused(tmp_path: Path) -> None:
    one = {"operators": [{"use": COUNT}]}
    assert choose_training({"training": {"a": one}}, "", "t.toml")[0] == "a"
    assert choose_training({"training": {"a": one, "b": one}}, "b", "t.toml")[0] == "b"
    for document, name, said in (
        ({}, "", r"lacks a table \[training.NAME\]"),
        ({"training": {"a": one, "b": one}}, "", "Name one with --name"),
        ({"training": {"a": one}}, "b", "unknown key 'b'"),
        ({"training": {"a": {}}}, "", "has no operators"),
        ({"training": {"a": {**one, "behind": -1}}}, "", "must not be negative"),
        ({"training": {"a": {**one, "behing": 1}}}, "", "did you mean 'behind'"),
        ({"training": {"a": {**one, "groups": 2}}}, "", "from 1 to that"),
        ({"training": {"a": {**one, "engine": {"max_frame": 2}}}}, "", "max_frames"),
        ({"training": {"a": 3}}, "", "must hold tables"),
    ):
        with pytest.raises(ConfigError, match=said):
            choose_training(document, name, "t.toml")
    path = write_walkers(tmp_path)
    path.write_text(path.read_text() + BESIDE.replace(COUNT, "no_such_operator"))
    code, _, errors = headrace("run", path, "--output", tmp_path / "run")
    assert code == 2
    assert "no_such_operator" in errors
