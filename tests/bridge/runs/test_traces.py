"""Rows for plots: thinned out evenly, whatever the batches."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import ConfigError
from bridge.frames import FrameBatch
from bridge.runs.columns import pick_column, root_of
from bridge.runs.traces import Thinner, load_traces, save_traces


def stream(n: int) -> FrameBatch:
    values = np.arange(2.0 * n).reshape(n, 2)
    return FrameBatch.from_arrays("walker", {"tica": values, "other": values})


@given(
    n=st.integers(0, 300),
    limit=st.integers(1, 50),
    cuts=st.lists(st.integers(0, 300), max_size=6),
    marks=st.sets(st.integers(0, 299), max_size=5),
)
def test_what_is_kept_depends_on_the_frames_alone(
    n: int, limit: int, cuts: list[int], marks: set[int]
) -> None:
    whole, parts = (
        Thinner("walker", limit, {"tica"}, marks),
        Thinner("walker", limit, {"tica"}, marks),
    )
    batch = stream(n)
    whole.add(batch)
    edges = [0, *sorted(c for c in cuts if c < n), n]
    for start, stop in itertools.pairwise(edges):
        parts.add(batch.take(slice(start, stop)))
    one, other = whole.trace(), parts.trace()
    assert one.stride == other.stride
    np.testing.assert_array_equal(one.rows["offset"], other.rows["offset"])
    assert len(one) <= limit + len(marks)
    assert {m for m in marks if m < n} <= set(one.rows["offset"].tolist())
    if n:
        assert set(one.rows) == {"offset", "step", "time", "epoch", "marked", "tica"}
        np.testing.assert_array_equal(one.rows["tica"][:, 0], 2.0 * one.rows["offset"])


def test_traces_come_back_from_their_file(tmp_path: Path) -> None:
    thinner = Thinner("walker", 10, {"tica"}, [3])
    thinner.add(stream(100))
    save_traces(tmp_path / "results.npz", [thinner.trace(), Thinner("empty", 1, ()).trace()])
    one, empty = load_traces(tmp_path / "results.npz")
    assert (one.simulation, one.stride, empty.simulation, len(empty)) == ("walker", 16, "empty", 0)
    np.testing.assert_array_equal(one.rows["tica"], thinner.trace().rows["tica"])


def test_a_file_that_is_something_else_is_named(tmp_path: Path) -> None:
    (tmp_path / "results.npz").write_bytes(b"nothing of ours")
    with pytest.raises(ConfigError, match="Cannot read the recorded results"):
        load_traces(tmp_path / "results.npz")


def test_columns_are_picked_by_name_and_index() -> None:
    columns = dict(stream(3).columns) | {"rmsd": np.zeros(3)}
    np.testing.assert_array_equal(pick_column(columns, "tica[1]"), [1.0, 3.0, 5.0])
    np.testing.assert_array_equal(pick_column(columns, "rmsd"), np.zeros(3))
    assert root_of("tica[1]") == "tica"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tika[0]", "no column 'tika'; did you mean 'tica'"),
        ("tica", "has 2 numbers for each frame; say which one"),
        ("tica[2]", "there is no tica"),
        ("tica[x]", "is no column"),
    ],
)
def test_a_column_that_is_not_there_is_named(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        pick_column(dict(stream(3).columns), text)
