"""Lagged pairs against a plain re-computation from the whole streams."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analytics.learning.pairs import LaggedPairs
from bridge.codec import decode_state, encode_state
from bridge.errors import FrameOrderError, SchemaError


@st.composite
def tracks(draw):
    """Offsets, epochs and steps of one simulation, with gaps and restarts."""
    n = draw(st.integers(1, 40))
    offset = epoch = step = 0
    stride = draw(st.sampled_from([1, 5]))
    out = []
    for _ in range(n):
        what = draw(st.sampled_from(["on"] * 8 + ["gap", "lost step", "restart", "stride"]))
        offset += 3 if what == "gap" else 1
        if what == "restart":
            epoch += 1
            step = 0
        if what == "stride":
            stride = 7
        step += stride * (2 if what == "lost step" else 1)
        out.append((offset, epoch, step))
    return np.array(out, np.int64)


def naive(track, lag):
    """Indices of the later frame of each pair."""
    usual = before = None
    good = [False]
    for (o0, e0, s0), (o1, e1, s1) in zip(track[:-1].tolist(), track[1:].tolist(), strict=True):
        if o1 != o0 + 1 or e1 != e0:
            good.append(False)
            continue
        if usual is None or s1 - s0 == before:
            usual = s1 - s0
        good.append(s1 - s0 == usual)
        before = s1 - s0
    return [i for i in range(lag, len(track)) if all(good[i - lag + 1 : i + 1])]


@settings(max_examples=150, deadline=None)
@given(
    streams=st.lists(tracks(), min_size=1, max_size=3),
    lag=st.integers(1, 6),
    data=st.data(),
)
def test_pairs_are_those_of_a_plain_computation(streams, lag, data):
    maker = LaggedPairs(lag)
    got = {i: [] for i in range(len(streams))}
    at = dict.fromkeys(got, 0)
    while any(at[i] < len(streams[i]) for i in at):
        i = data.draw(st.sampled_from([i for i in at if at[i] < len(streams[i])]))
        stop = min(len(streams[i]), at[i] + data.draw(st.integers(1, 12)))
        part = streams[i][at[i] : stop]
        # What a frame holds tells which one it is.
        x = np.stack([np.full(len(part), i), np.arange(at[i], stop)], axis=1).astype(np.float32)
        pairs = maker.push(str(i), x, offsets=part[:, 0], epochs=part[:, 1], steps=part[:, 2])
        np.testing.assert_array_equal(pairs.y, x[pairs.number])
        assert (pairs.x[:, 0] == i).all()
        np.testing.assert_array_equal(pairs.x[:, 1] + lag, pairs.y[:, 1])
        got[i] += pairs.y[:, 1].astype(int).tolist()
        at[i] = stop
        if data.draw(st.booleans()):
            again = LaggedPairs(lag)
            again.restore(decode_state(encode_state(maker.save())))
            maker = again
    assert got == {i: naive(track, lag) for i, track in enumerate(streams)}
    assert maker.made == sum(map(len, got.values()))


def test_a_lost_step_costs_the_pairs_across_it_alone():
    maker = LaggedPairs(1)
    steps = [0, 10, 20, 40, 50, 60, 90, 120, 150]
    pairs = maker.push("a", np.arange(9.0)[:, None], offsets=np.arange(9), steps=steps)
    # 20 to 40 is a gap; from 60 on, one comes each 30 steps, which the second time shows.
    assert pairs.number.tolist() == [1, 2, 4, 5, 7, 8]


def test_an_ended_simulation_is_forgotten():
    maker = LaggedPairs(2)
    maker.push("a", np.zeros((4, 1)), offsets=np.arange(4))
    maker.forget("a")
    assert not len(maker.push("a", np.zeros((2, 1)), offsets=np.arange(2)).number)


def test_wrong_frames_are_refused():
    maker = LaggedPairs(2)
    maker.push("a", np.zeros((4, 1)), offsets=np.arange(4))
    with pytest.raises(FrameOrderError, match="must increase"):
        maker.push("a", np.zeros((2, 1)), offsets=np.arange(3, 5))
    with pytest.raises(SchemaError, match="must be the same"):
        maker.push("a", np.zeros((2, 3)), offsets=np.arange(4, 6))
    with pytest.raises(SchemaError, match="2 frames came with 3 offsets"):
        maker.push("a", np.zeros((2, 1)), offsets=np.arange(4, 7))
