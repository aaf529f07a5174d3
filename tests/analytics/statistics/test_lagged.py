"""Lagged covariances against deeptime and against every pair counted by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from deeptime.covariance import Covariance
from hypothesis import given, settings
from hypothesis import strategies as st

from analytics.statistics import LaggedCovariance
from bridge.codec import decode_state, encode_state
from bridge.errors import ConfigError, FrameOrderError, SchemaError
from bridge.frames import FrameBatch
from bridge.testing.streams import cut_again, one_by_one, random_stream

Stream = list[FrameBatch]


@pytest.fixture(scope="module")
def stream() -> Stream:
    return random_stream({"x": (3,)}, frames=200, dtype=np.float64, seed=7)


def feed(estimator: LaggedCovariance, stream: Stream) -> LaggedCovariance:
    for b in stream:
        estimator.partial_fit(b["x"], simulation=b.simulation, offsets=b.offsets, epochs=b.epochs)
    return estimator


def pairs_of(stream: Stream, lag: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count pairs by hand: x, y, and the number of the later frame in the stream."""
    seen: dict[tuple[str, int], tuple[int, np.ndarray]] = {}
    x, y, number = [], [], []
    for tick, single in enumerate(one_by_one(stream)):
        name, offset, epoch = single.simulation, single.first, int(single.epochs[0])
        seen[name, offset] = epoch, single["x"][0]
        between = [seen.get((name, o), (-1, None))[0] for o in range(offset - lag, offset)]
        if all(e == epoch for e in between):
            x.append(seen[name, offset - lag][1])
            y.append(single["x"][0])
            number.append(tick)
    return np.array(x), np.array(y), np.array(number)


@pytest.mark.parametrize("lag", [1, 3, 10, 40])
def test_only_whole_pairs_of_one_piece_count(stream: Stream, lag: int) -> None:
    x, y, _ = pairs_of(stream, lag)
    estimator = feed(LaggedCovariance(lag), stream)
    found = estimator.covariances()
    assert estimator.n_pairs == len(x)
    assert estimator.n_frames == sum(map(len, stream))
    k = 3
    wanted = np.cov(np.concatenate([x, y], axis=1), rowvar=False, bias=True)
    for name, value in (
        ("mean_0", x.mean(axis=0)),
        ("mean_t", y.mean(axis=0)),
        ("c00", wanted[:k, :k]),
        ("c0t", wanted[:k, k:]),
        ("ctt", wanted[k:, k:]),
    ):
        np.testing.assert_allclose(getattr(found, name), value, rtol=1e-9, atol=1e-13)
    assert found.weight == len(x)


@pytest.mark.parametrize("lag", [1, 7, 100])
def test_cuts_between_batches_leave_no_trace_to_the_last_bit(stream: Stream, lag: int) -> None:
    rng = np.random.default_rng(0)
    whole = feed(LaggedCovariance(lag, half_life=70.0), stream).covariances()
    for again in (one_by_one(stream), cut_again(stream, rng), cut_again(stream, rng)):
        found = feed(LaggedCovariance(lag, half_life=70.0), again).covariances()
        for mine, theirs in zip(whole, found, strict=True):
            np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("reversible", [True, False])
def test_the_answer_is_that_of_deeptime(reversible: bool) -> None:
    rng = np.random.default_rng(1)
    pieces = [np.cumsum(rng.normal(size=(n, 4)), axis=0) + 30.0 for n in (400, 33, 250, 6)]
    theirs = (
        Covariance(
            lagtime=5,
            compute_c0t=True,
            compute_ctt=not reversible,
            remove_data_mean=True,
            reversible=reversible,
            bessels_correction=False,
        )
        .fit([p for p in pieces if len(p) > 5])
        .fetch_model()
    )
    estimator = LaggedCovariance(5)
    for number, piece in enumerate(pieces):
        for part in np.array_split(piece, 7):
            estimator.partial_fit(part, simulation=str(number))
    ours = estimator.covariances()
    if reversible:
        ours = ours.symmetrised()
    np.testing.assert_allclose(ours.mean_0, theirs.mean_0, rtol=1e-10)
    np.testing.assert_allclose(ours.mean_t, theirs.mean_t, rtol=1e-10)
    np.testing.assert_allclose(ours.c00, theirs.cov_00, rtol=1e-9)
    np.testing.assert_allclose(ours.c0t, theirs.cov_0t, rtol=1e-9)
    if not reversible:
        np.testing.assert_allclose(ours.ctt, theirs.cov_tt, rtol=1e-9)


@pytest.mark.parametrize("half_life", [3.0, 50.0])
def test_forgetting_goes_by_frames_of_the_whole_stream(stream: Stream, half_life: float) -> None:
    x, y, number = pairs_of(stream, 4)
    weights = 0.5 ** ((sum(map(len, stream)) - 1 - number) / half_life)
    found = feed(LaggedCovariance(4, half_life=half_life), stream).covariances()
    joint = np.cov(np.hstack([x, y]), rowvar=False, aweights=weights, ddof=0)
    np.testing.assert_allclose(found.mean_t, np.average(y, axis=0, weights=weights), rtol=1e-9)
    np.testing.assert_allclose(found.c0t, joint[:3, 3:], rtol=1e-8, atol=1e-12)
    assert found.weight == pytest.approx(weights.sum())


@settings(deadline=None, max_examples=30)
@given(st.permutations(range(3)), st.booleans())
def test_merging_in_any_order_gives_the_same(order: list[int], left_first: bool) -> None:
    stream = random_stream({"x": (2,)}, frames=90, seed=3)
    names = sorted({b.simulation for b in stream})
    parts = [feed(LaggedCovariance(6), [b for b in stream if b.simulation == n]) for n in names]
    a, b, c = (parts[i] for i in order)
    merged = a.merge(b).merge(c) if left_first else a.merge(b.merge(c))
    whole = feed(LaggedCovariance(6), stream)
    assert merged.n_pairs == whole.n_pairs
    assert merged.n_frames == whole.n_frames
    for mine, theirs in zip(merged.covariances(), whole.covariances(), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-10, atol=1e-13)
    # And it goes on where each simulation was.
    for estimator in (merged, whole):
        for name in names:
            estimator.partial_fit([[9.0, 8.0]], simulation=name)
    assert merged.n_pairs == whole.n_pairs


def test_merging_does_not_touch_the_other_one(stream: Stream) -> None:
    other = feed(LaggedCovariance(2), stream)
    before = encode_state(other.save())
    LaggedCovariance(2).merge(other).merge(LaggedCovariance(2))
    assert encode_state(other.save()) == before


def test_merged_pieces_of_one_simulation_go_on_from_the_later_one() -> None:
    early = LaggedCovariance(2).partial_fit(np.arange(5.0), simulation="a")
    late = LaggedCovariance(2).partial_fit(
        np.arange(5.0), simulation="a", offsets=np.arange(10, 15)
    )
    merged = late.merge(early)
    assert merged.n_pairs == 6
    assert merged.partial_fit([1.0], simulation="a", offsets=[15]).n_pairs == 7


@pytest.mark.parametrize("cut", [0, 1, 5, 17])
def test_a_state_goes_through_bytes(stream: Stream, cut: int) -> None:
    whole = feed(LaggedCovariance(5, half_life=30.0), stream)
    again = LaggedCovariance(5, half_life=30.0)
    first = feed(LaggedCovariance(5, half_life=30.0), stream[:cut])
    again.restore(decode_state(encode_state(first.save())))
    feed(again, stream[cut:])
    assert encode_state(again.save()) == encode_state(whole.save())


def test_no_pair_no_covariance() -> None:
    found = LaggedCovariance(3).covariances()
    assert found.weight == 0.0
    assert found.c00.shape == (0, 0)
    found = LaggedCovariance(3).partial_fit(np.zeros((3, 2))).covariances()
    assert found.weight == 0.0
    assert found.c0t.shape == (2, 2)


def test_memory_does_not_grow_with_the_frames() -> None:
    estimator = LaggedCovariance(4)
    sizes = []
    for _ in range(30):
        estimator.partial_fit(np.random.default_rng(0).normal(size=(64, 3)))
        sizes.append(len(encode_state(estimator.save())))
    assert max(sizes) == sizes[2]


def test_rows_may_change_after_the_call() -> None:
    rows = np.random.default_rng(0).normal(size=(30, 2))
    wanted = LaggedCovariance(2).partial_fit(rows).covariances()
    mine = rows.copy()
    estimator = LaggedCovariance(2).partial_fit(mine)
    mine[:] = 0.0
    for ours, theirs in zip(estimator.covariances(), wanted, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("action", "error", "says"),
    [
        (lambda e: e.partial_fit([[1.0, np.nan]]), SchemaError, "not finite"),
        (lambda e: e.partial_fit([[1.0, 2.0, 3.0]]), SchemaError, "3 features"),
        (lambda e: e.partial_fit([[1.0, 2]], offsets=[4]), FrameOrderError, "after 4, 4 to 4"),
        (lambda e: e.partial_fit([[1.0, 2]] * 2, offsets=[9, 7]), FrameOrderError, "increase"),
        (lambda e: e.partial_fit([[1.0, 2]], offsets=[5, 6]), SchemaError, "1 frames came"),
        (lambda e: e.merge(LaggedCovariance(3)), SchemaError, "lags 2 and 3"),
        (
            lambda e: e.merge(LaggedCovariance(2).partial_fit(np.zeros(3))),
            SchemaError,
            "of 2 and of 1 features",
        ),
    ],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(
    action: Callable[[LaggedCovariance], object], error: type[Exception], says: str
) -> None:
    estimator = LaggedCovariance(2).partial_fit(np.arange(10.0).reshape(5, 2))
    before = encode_state(estimator.save())
    with pytest.raises(error, match=says):
        action(estimator)
    assert encode_state(estimator.save()) == before


@pytest.mark.parametrize("lag", [0, -1, 1.5, True])
def test_a_lag_is_a_whole_number_of_frames(lag: object) -> None:
    with pytest.raises(ConfigError, match="'lag'"):
        LaggedCovariance(lag)  # type: ignore[arg-type]


def test_too_many_features_are_refused() -> None:
    with pytest.raises(SchemaError, match="at most 4096"):
        LaggedCovariance(1).partial_fit(np.zeros((2, 2100)))
