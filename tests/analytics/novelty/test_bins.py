"""Bins count what a dictionary of tuples counts."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.novelty import Bins, FrameMemory, bin_keys
from bridge.codec import decode_state, encode_state
from bridge.errors import ConfigError


def cells(points: np.ndarray, width: float) -> list[tuple[int, ...]]:
    return [tuple(row) for row in np.floor(points / width).astype(int).tolist()]


def test_keys_name_cells() -> None:
    points = np.random.default_rng(0).normal(scale=30.0, size=(20_000, 4))
    names: dict[int, tuple[int, ...]] = {}
    for key, cell in zip(bin_keys(points, np.array(2.0)).tolist(), cells(points, 2.0), strict=True):
        assert names.setdefault(key, cell) == cell
    assert len(names) == len(set(cells(points, 2.0)))


def test_order_of_dimensions_and_signs_count() -> None:
    points = np.array([[0.5, 1.5], [1.5, 0.5], [-0.5, 1.5], [0.5, -1.5], [1e300, 0.0]])
    assert len(set(bin_keys(points, np.array(1.0)).tolist())) == 5


@given(
    seed=st.integers(0, 1000),
    capacity=st.integers(1, 40),
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=8),
    retention=st.sampled_from(["reservoir", "sliding"]),
    k=st.integers(1, 3),
    rebuild=st.integers(0, 8),
)
def test_counts_are_those_of_the_memory(seed, capacity, sizes, retention, k, rebuild) -> None:
    rng = np.random.default_rng(seed)
    memory = FrameMemory(capacity, retention=retention, seed=seed)
    bins = Bins(capacity, 0.7)
    for turn, n in enumerate(sizes):
        points = rng.normal(size=(n, k))
        kept = memory["x"].copy() if memory.seen else np.zeros((0, k))
        found = bins.add(slots := memory.add({"x": points}), points)
        # The same, one frame at a time.
        table = dict(enumerate(cells(kept, 0.7)))
        for slot, cell, count in zip(slots.tolist(), cells(points, 0.7), found, strict=True):
            if slot >= 0:
                table[slot] = cell
                assert count == Counter(table.values())[cell]
            else:
                assert count == Counter(table.values())[cell] + 1
        if turn == rebuild:
            bins.rebuild(memory["x"])
        wanted = Counter(cells(memory["x"], 0.7))
        assert len(bins) == len(wanted)
        assert bins.counts[bins.index[: len(memory)]].tolist() == [
            wanted[cell] for cell in cells(memory["x"], 0.7)
        ]
        assert bins.counts.sum() == len(memory)
        assert len(bins.counts) <= capacity + 128


def test_frames_are_drawn_by_the_inverse_power_of_counts() -> None:
    points = np.repeat([0.5, 1.5, 2.5], [1, 3, 6])[:, None]
    bins = Bins(10, 1.0)
    bins.add(np.arange(10), points)
    rng = np.random.default_rng(2)
    drawn = np.bincount([bins.draw(rng, 2.0) for _ in range(20_000)], minlength=10) / 20_000
    weights = np.array([1.0, 1 / 9, 1 / 36])
    wanted = np.repeat(weights / weights.sum() / [1, 3, 6], [1, 3, 6])
    assert np.allclose(drawn, wanted, atol=0.012)


def test_a_restored_copy_draws_the_same() -> None:
    rng = np.random.default_rng(0)
    memory, one, two = FrameMemory(50, retention="sliding"), Bins(50, 0.5), Bins(50, 0.5)
    for _ in range(6):
        points = rng.normal(size=(30, 2))
        one.add(memory.add({"x": points}), points)
    two.restore("b", decode_state(encode_state(one.save("b"))))
    points = rng.normal(size=(30, 2))
    slots = memory.add({"x": points})
    assert one.add(slots, points) == two.add(slots, points)
    a, b = np.random.default_rng(1), np.random.default_rng(1)
    assert [one.draw(a, 2.0) for _ in range(50)] == [two.draw(b, 2.0) for _ in range(50)]


def test_relative_widths_follow_the_spread() -> None:
    points = np.random.default_rng(0).normal(size=(1000, 2)) * [1.0, 100.0]
    bins, plain = Bins(1000, 0.5, relative=True), Bins(1000, 0.5)
    bins.rebuild(points)
    plain.rebuild(points / points.std(axis=0))
    assert len(bins) == len(plain)


@pytest.mark.parametrize("width", [0.0, -1.0, float("nan"), [0.5, 0.0]])
def test_a_width_is_positive(width) -> None:
    with pytest.raises(ConfigError, match="positive"):
        Bins(10, width)


def test_widths_fit_the_dimensions() -> None:
    with pytest.raises(ConfigError, match="2 bin widths are given for a space of 3 dimensions"):
        Bins(10, [0.5, 0.5]).keys(np.zeros((1, 3)))
