"""Frames with values that are not finite are found, whatever the sums do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bridge.engines.screen import find_bad_rows, quarantine_event, screen
from bridge.frames import FrameBatch


@given(
    hnp.arrays(
        st.sampled_from([np.float32, np.float64, np.complex64]),
        hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=6),
    )
)
def test_the_rows_are_those_that_isfinite_finds(array: np.ndarray) -> None:
    batch = FrameBatch.from_arrays("walker", {"x": array})
    kept, bad = screen(batch, ["x"])
    finite = np.isfinite(array).reshape(len(array), -1 if array.size else 0).all(axis=1)
    assert np.array_equal(kept.offsets, np.flatnonzero(finite))
    assert bool(bad) == (not finite.all())


def test_finite_values_whose_sum_overflows_stay() -> None:
    array = np.full((3, 8), 3e38, np.float32)
    array[1, 2] = -np.inf
    with np.errstate(over="ignore", invalid="ignore"):
        assert find_bad_rows(array).tolist() == [False, True, False]
    kept, _ = screen(FrameBatch.from_arrays("walker", {"x": array}), ["x"])
    assert kept.offsets.tolist() == [0, 2]


def test_a_good_batch_is_handed_on_as_it_is() -> None:
    batch = FrameBatch.from_arrays("walker", {"x": np.zeros((4, 2)), "n": np.arange(4)})
    kept, bad = screen(batch, batch.columns)
    assert kept is batch
    assert bad == {}


@pytest.mark.parametrize("count", [1, 2, 40])
def test_the_event_names_variables_offsets_and_steps(count: int) -> None:
    array = np.zeros((50, 3))
    array[5 : 5 + count] = np.nan
    batch = FrameBatch.from_arrays(
        "walker", {"x": array}, first_offset=100, steps=np.arange(50) * 10
    )
    _, bad = screen(batch, ["x"])
    event = quarantine_event(batch, bad, "p", "the input")
    assert (event.kind, event.simulation, event.level) == ("quarantined", "walker", "warning")
    assert event.message.startswith(f"Set aside {count} frame")
    assert "'x' of the input is not finite at offset" in event.message
    assert event.message.endswith("(from step 50).")
    assert ("and 8 more" in event.message) == (count == 40)
    assert event.data["count"] == count
    assert event.data["variables"] == {"x": count}
    assert event.data["offsets"][0] == 105
    assert event.data["steps"][0] == 50
    assert len(event.data["offsets"]) == min(count, 32)
