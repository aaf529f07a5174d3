"""Runs beside a run, and lines that are thinned without losing their spikes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bridge.dashboard.channels import CHANNELS, SeriesOptions
from bridge.dashboard.compared import open_compared
from bridge.dashboard.feed import open_feed
from bridge.dashboard.stores.thinning import extremes
from bridge.errors import ConfigError
from bridge.runs.directory import RunDirectory
from bridge.runs.traces import Trace, save_traces


def make_run(path: Path, value: float) -> Path:
    """Make the folder of a run that is over."""
    path.mkdir(parents=True)
    resolved = {"configuration": {"run": {"name": "same"}, "pipeline": {"name": "p"}}}
    (path / "resolved.json").write_text(json.dumps(resolved))
    facts = {"outcome": "finished", "started": 1.0, "wall_time_s": 9.0, "simulations": []}
    (path / "report.json").write_text(json.dumps(facts))
    (path / "events.jsonl").write_text("")
    (path / "ledger.jsonl").write_text("")
    n = np.arange(10)
    rows = {"offset": n, "step": n * 2, "time": n * 0.5, "epoch": n * 0, "marked": n < 0}
    save_traces(path / "results.npz", [Trace("walker", {**rows, "rmsd": n + value})])
    return path


def test_other_runs_answer_by_name(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", 0.0)
    paths = [make_run(tmp_path / "a" / "other", 100.0), make_run(tmp_path / "b" / "other", 200.0)]
    feed = open_compared(open_feed(RunDirectory(run)), paths)
    try:
        assert [one["name"] for one in feed.run()["compare"]] == ["other", "other-2"]
        for name, value in ((None, 0.0), ("other", 100.0), ("other-2", 200.0)):
            options = SeriesOptions(columns=["rmsd"], run=name)
            answer = CHANNELS["series"].ask(feed, options, None)
            assert answer.body.payload is not None
            found = np.frombuffer(answer.body.payload, "<f4").tolist()
            assert value + 9.0 in found
        with pytest.raises(ConfigError, match="other-2"):
            feed.of_run("third")
    finally:
        feed.close()


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    feed = open_feed(RunDirectory(make_run(tmp_path / "run", 0.0)))
    try:
        with pytest.raises(ConfigError, match="not the folder of a run"):
            open_compared(feed, [tmp_path])
    finally:
        feed.close()


@pytest.mark.parametrize("limit", [4, 10, 100, 999, 1000, 5000])
def test_thinning_keeps_spikes_and_ends(limit: int) -> None:
    values = np.sin(np.arange(1000.0))
    values[[123, 871]] = 50.0, -50.0
    kept = extremes(values, limit)
    assert len(kept) <= max(limit, 6)
    assert {0, 999, 123, 871} <= set(kept.tolist())
    assert np.all(np.diff(kept) > 0)


def test_a_stretch_of_the_axis_alone(tmp_path: Path) -> None:
    with open_feed(RunDirectory(make_run(tmp_path / "run", 0.0))) as feed:
        stretches: list[tuple[Any, tuple[float, float]]] = [
            ("time", (1.0, 2.0)),
            ("step", (4, 8)),
        ]
        for x, between in stretches:
            _, arrays = feed.series(["rmsd"], x=x, between=between)
            assert arrays["y0"].tolist() == [2.0, 3.0, 4.0]
        meta, _ = feed.series(["rmsd"], between=(100.0, 200.0))
        assert meta["series"] == []
        with pytest.raises(ConfigError, match="smaller"):
            feed.series(["rmsd"], between=(2.0, 1.0))
