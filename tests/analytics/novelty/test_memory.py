"""A memory keeps what it promises, however the frames come."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.novelty import FrameMemory
from bridge.codec import decode_state, encode_state
from bridge.errors import ConfigError, PipelineError


def fill(memory: FrameMemory, frames: int, cuts: list[int]) -> list[int]:
    """Add the numbers 0, 1, … in pieces; return the slots."""
    slots: list[int] = []
    edges = sorted({0, frames, *(c for c in cuts if c < frames)})
    for a, b in pairwise(edges):
        slots += memory.add({"x": np.arange(a, b, dtype=float)}).tolist()
    return slots


@given(
    capacity=st.integers(1, 30),
    frames=st.integers(1, 80),
    cuts=st.lists(st.integers(1, 80), max_size=6),
    retention=st.sampled_from(["reservoir", "sliding"]),
)
def test_cuts_make_no_difference(capacity, frames, cuts, retention) -> None:
    one = FrameMemory(capacity, retention=retention, seed=3)
    two = FrameMemory(capacity, retention=retention, seed=3)
    assert fill(one, frames, []) == fill(two, frames, cuts)
    assert np.array_equal(one["x"], two["x"])
    assert len(one) == min(frames, capacity)
    assert one.seen == frames


def test_sliding_keeps_the_latest() -> None:
    memory = FrameMemory(10, retention="sliding")
    fill(memory, 37, [5, 30])
    assert sorted(memory["x"]) == list(range(27, 37))


def test_a_reservoir_is_a_uniform_sample() -> None:
    kept = np.zeros(50)
    for seed in range(2000):
        memory = FrameMemory(10, seed=seed)
        fill(memory, 50, [])
        assert len(set(memory["x"])) == 10
        kept[memory["x"].astype(int)] += 1
    # Each frame is kept with probability 0.2: 400 ± 18 of 2000.
    assert abs(kept - 400).max() < 5 * 18


def test_slots_say_where_frames_are() -> None:
    memory = FrameMemory(5, seed=1)
    slots = fill(memory, 40, [3, 11])
    where = {slot: frame for frame, slot in enumerate(slots) if slot >= 0}
    assert memory["x"].tolist() == [where[i] for i in range(5)]


def test_a_restored_memory_draws_on() -> None:
    one = FrameMemory(5, seed=1)
    fill(one, 23, [])
    two = FrameMemory(5, seed=9)
    two.restore("m", decode_state(encode_state(one.save("m"))))
    more = {"x": np.arange(100.0, 160.0)}
    assert one.add(more).tolist() == two.add(more).tolist()
    assert np.array_equal(one["x"], two["x"])


def test_its_bytes_are_bounded() -> None:
    memory = FrameMemory(1000, max_bytes=1e6)
    with pytest.raises(PipelineError, match="would take 120000000 bytes, more than its limit"):
        memory.add({"positions": np.zeros((2, 5000, 3))})


def test_shapes_may_not_change() -> None:
    memory = FrameMemory(10)
    memory.add({"x": np.zeros((2, 3))})
    with pytest.raises(PipelineError, match=r"had shape \[3\] .* now has \[4\]"):
        memory.add({"x": np.zeros((2, 4))})


@pytest.mark.parametrize(
    ("parameters", "says"),
    [({"capacity": 0}, "at least one frame"), ({"capacity": 5, "retention": "all"}, "'all'")],
)
def test_bad_parameters_are_refused(parameters, says) -> None:
    with pytest.raises(ConfigError, match=says):
        FrameMemory(**parameters)
