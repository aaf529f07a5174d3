"""The Parquet sink: what is read back, replays, and what stands in the way of a file."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analytics.sinks import ParquetSink
from analytics.windows import Window
from bridge.errors import ConfigError, PipelineError, SchemaError
from bridge.frames import FrameBatch
from bridge.pipeline import Context
from bridge.testing.operators import CHECKS, random_stream, run_operator

pq = pytest.importorskip("pyarrow.parquet")

STREAM = [
    b.with_columns({"n": np.rint(9 * b["x"]).astype(np.int32), "yes": b["x"][:, 0, 0] > 0})
    for b in random_stream({"x": (2, 3)}, frames=90, seed=8)
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_conformance(check: Callable[..., None], tmp_path: Path) -> None:
    check(lambda: ParquetSink(folder=tmp_path / "out", frames_per_file=20), STREAM)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_what_is_read_back_is_what_came(tmp_path: Path) -> None:
    run_operator(ParquetSink(folder=tmp_path / "out", frames_per_file=25), STREAM)
    assert "pipeline@walker0@000000000025-000000000050.parquet" in contents(tmp_path / "out")
    table = pd.read_parquet(tmp_path / "out").sort_values(["simulation", "offset"])
    assert table["simulation"].nunique() == 3
    for name, rows in table.groupby("simulation"):
        frames = FrameBatch.concatenate([b for b in STREAM if b.simulation == name])
        assert rows["offset"].tolist() == frames.offsets.tolist()
        assert rows["step"].tolist() == frames.steps.tolist()
        assert rows["time"].tolist() == frames.times.tolist()
        assert rows["epoch"].tolist() == frames.epochs.tolist()
        assert rows["yes"].tolist() == frames["yes"].tolist()
        for column in ("x", "n"):
            values = np.stack(rows[column].to_list()).reshape(-1, 2, 3)
            assert values.dtype == frames[column].dtype
            assert np.array_equal(values, frames[column])


def test_shapes_are_in_the_metadata(tmp_path: Path) -> None:
    run_operator(ParquetSink(folder=tmp_path, columns=["x", "yes"]), STREAM)
    schema = pq.read_schema(next(tmp_path.iterdir()))
    assert json.loads(schema.field("x").metadata[b"shape"]) == [2, 3]
    assert json.loads(schema.metadata[b"headrace"]) == {
        "pipeline": "pipeline",
        "shapes": {"x": [2, 3]},
    }
    assert "n" not in schema.names


def test_a_replay_writes_the_same_files_again(tmp_path: Path) -> None:
    def make() -> ParquetSink:
        return ParquetSink(folder=tmp_path / "out", frames_per_file=20)

    run_operator(make(), STREAM)
    once = contents(tmp_path / "out")
    operator, saved = make(), make().save()
    for number, batch in enumerate(STREAM):
        if number % 7 == 3:
            # A crash: what was done since the last save is done again.
            operator = make()
            operator.restore(saved)
            for again in STREAM[number - 3 : number]:
                operator.process(again, Context("pipeline", "sink", again.simulation))
        if number % 7 == 0:
            saved = operator.save()
        operator.process(batch, Context("pipeline", "sink", batch.simulation))
    operator.finish(Context("pipeline", "sink"))
    assert contents(tmp_path / "out") == once


def test_one_file_a_window(tmp_path: Path) -> None:
    frames = FrameBatch.from_arrays("a", {"x": np.arange(40.0)})
    rows = run_operator(Window(size=10, input="x"), [frames]).batches
    sink = ParquetSink(folder=tmp_path, window="window", columns=["window_start", "mean_x"])
    assert sink.reads() == ("window_start", "mean_x", "window_start", "window_end")
    run_operator(sink, rows)
    assert list(contents(tmp_path)) == [
        "pipeline@a@000000000010-0-10.parquet",
        "pipeline@a@000000000020-10-20.parquet",
        "pipeline@a@000000000030-20-30.parquet",
    ]
    assert pd.read_parquet(tmp_path)["mean_x"].tolist() == [4.5, 14.5, 24.5]


def test_what_is_refused(tmp_path: Path) -> None:
    one: dict[str, Any] = {"x": np.zeros(3)}
    for says, column in {
        "dtype complex128": np.zeros(3, complex),
        "dtype <U1": np.array(["a"] * 3),
        "no numbers": np.zeros((3, 0)),
    }.items():
        batch = FrameBatch.from_arrays("a", {**one, "bad": column})
        with pytest.raises(SchemaError, match=says):
            run_operator(ParquetSink(folder=tmp_path), [batch])
    same = FrameBatch.from_arrays("a", {"step": np.zeros(3)})
    with pytest.raises(SchemaError, match="every row carries"):
        run_operator(ParquetSink(folder=tmp_path), [same])
    other = FrameBatch.from_arrays("b", {"x": np.zeros((3, 2))})
    with pytest.raises(SchemaError, match=r"is float64 \[2\] at offset 0, and was float64 \[\]"):
        run_operator(ParquetSink(folder=tmp_path), [FrameBatch.from_arrays("a", one), other])
    with pytest.raises(PipelineError, match="is not there; make it"):
        run_operator(
            ParquetSink(folder=tmp_path / "no" / "where"), [FrameBatch.from_arrays("a", one)]
        )
    (tmp_path / "file").write_text("")
    with pytest.raises(PipelineError, match="cannot be written"):
        run_operator(ParquetSink(folder=tmp_path / "file"), [FrameBatch.from_arrays("a", one)])
    with pytest.raises(ConfigError, match="'compression'"):
        ParquetSink(folder=tmp_path, compression="brotli9")
    with pytest.raises(ConfigError, match="'frames_per_file'"):
        ParquetSink(folder=tmp_path, frames_per_file=0)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_full_disk_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    batch = FrameBatch.from_arrays("a", {"x": np.zeros(3)})
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(PipelineError, match="There is no room left"):
        run_operator(ParquetSink(folder=tmp_path), [batch])
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    run_operator(ParquetSink(folder=tmp_path), [batch])
    assert len(pd.read_parquet(tmp_path)) == 3
