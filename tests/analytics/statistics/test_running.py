"""Running moments against NumPy: any portions, any order of merging, large means, forgetting."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from analytics.statistics import RunningMoments
from bridge.codec import decode_state, encode_state
from bridge.errors import ConfigError, SchemaError


def portions(X: np.ndarray, cuts: list[int]) -> list[np.ndarray]:
    return np.split(X, sorted(min(c, len(X)) for c in cuts))


@settings(deadline=None)
@given(
    arrays(
        np.float32,
        st.tuples(st.integers(1, 60), st.integers(1, 4)),
        elements=st.floats(-9, 9, width=32),
    ),
    st.lists(st.integers(0, 60), max_size=6),
    st.booleans(),
)
def test_any_portions_give_the_moments_of_all(X: np.ndarray, cuts: list[int], full: bool) -> None:
    moments = RunningMoments(covariance=full)
    for part in portions(X, cuts):
        moments.partial_fit(part)
    exact = X.astype(np.float64)
    np.testing.assert_allclose(moments.mean, exact.mean(axis=0), atol=1e-13)
    np.testing.assert_allclose(moments.variance(), exact.var(axis=0), atol=1e-12)
    np.testing.assert_array_equal(moments.minimum, exact.min(axis=0))
    np.testing.assert_array_equal(moments.maximum, exact.max(axis=0))
    assert moments.count == moments.weight == len(X)
    if full and len(X) > 1:
        wanted = np.atleast_2d(np.cov(exact, rowvar=False))
        np.testing.assert_allclose(moments.covariance(ddof=1), wanted, atol=1e-12)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.permutations(range(5)))
def test_merging_in_any_order_gives_the_same(seed: int, order: list[int]) -> None:
    rng = np.random.default_rng(seed)
    parts = [rng.normal(i, 1 + i, (int(rng.integers(0, 30)), 3)) for i in range(5)]
    pieces = [RunningMoments(covariance=True).partial_fit(parts[i]) for i in order]
    while len(pieces) > 1:
        left = pieces.pop(int(rng.integers(len(pieces))))
        right = pieces.pop(int(rng.integers(len(pieces))))
        pieces.append(left.merge(right))
    together = np.concatenate(parts)
    if len(together) > 1:
        np.testing.assert_allclose(pieces[0].mean, together.mean(axis=0), atol=1e-12)
        wanted = np.cov(together, rowvar=False)
        np.testing.assert_allclose(pieces[0].covariance(ddof=1), wanted, atol=1e-10)
        np.testing.assert_array_equal(pieces[0].maximum, together.max(axis=0))
    assert pieces[0].count == len(together)


def test_a_large_mean_costs_no_digits() -> None:
    rng = np.random.default_rng(0)
    small = np.round(rng.normal(size=(20_000, 2)) * 2**20) / 2**20
    moments = RunningMoments(covariance=True)
    for part in np.split(small + 2.0**30, 200):
        moments.partial_fit(part)
    np.testing.assert_allclose(moments.covariance(), np.cov(small.T, bias=True), rtol=1e-9)
    # The textbook formula has lost everything here.
    textbook = ((small + 2.0**30) ** 2).mean(axis=0) - (small + 2.0**30).mean(axis=0) ** 2
    assert (np.abs(textbook - small.var(axis=0)) > 1.0).any()


@settings(deadline=None)
@given(st.lists(st.integers(0, 80), max_size=6), st.floats(0.5, 100))
def test_forgetting_goes_by_rows_not_by_portions(cuts: list[int], half_life: float) -> None:
    X = np.random.default_rng(1).normal(5, 2, (80, 3))
    moments = RunningMoments(covariance=True, half_life=half_life)
    for part in portions(X, cuts):
        moments.partial_fit(part)
    weights = 0.5 ** (np.arange(79, -1, -1) / half_life)
    mean = np.average(X, axis=0, weights=weights)
    np.testing.assert_allclose(moments.mean, mean, rtol=1e-10)
    wanted = np.cov(X, rowvar=False, aweights=weights, ddof=0)
    np.testing.assert_allclose(moments.covariance(), wanted, rtol=1e-8, atol=1e-10)
    assert moments.weight == pytest.approx(weights.sum())
    assert moments.count == 80


def test_a_state_goes_through_bytes() -> None:
    X = np.random.default_rng(2).normal(size=(50, 3))
    whole = RunningMoments(covariance=True, half_life=9.0).partial_fit(X[:20]).partial_fit(X[20:])
    half = RunningMoments(covariance=True, half_life=9.0).partial_fit(X[:20])
    again = RunningMoments(covariance=True, half_life=9.0)
    again.restore(decode_state(encode_state(half.save())))
    again.partial_fit(X[20:])
    np.testing.assert_array_equal(again.covariance(), whole.covariance())


def test_few_rows_have_no_variance() -> None:
    moments = RunningMoments().partial_fit([[1.0, 2.0]])
    assert moments.variance(ddof=1).tolist() == [0.0, 0.0]
    assert RunningMoments().variance().tolist() == []
    assert RunningMoments().partial_fit(np.arange(4.0)).mean.tolist() == [1.5]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_refused_whole(bad: float) -> None:
    moments = RunningMoments().partial_fit([[1.0, 2.0]])
    with pytest.raises(SchemaError, match="Row 1 of 2 has a value that is not finite"):
        moments.partial_fit([[1.0, 2.0], [3.0, bad]])
    assert moments.count == 1
    assert moments.mean.tolist() == [1.0, 2.0]


def test_what_does_not_fit_is_refused() -> None:
    moments = RunningMoments().partial_fit([[1.0, 2.0]])
    with pytest.raises(SchemaError, match="3 features came where there were 2"):
        moments.partial_fit([[1.0, 2.0, 3.0]])
    with pytest.raises(SchemaError, match="two axes"):
        moments.partial_fit(np.zeros((2, 2, 2)))
    with pytest.raises(SchemaError, match="of 2 and of 3 features"):
        moments.merge(RunningMoments().partial_fit(np.zeros((1, 3))))
    with pytest.raises(SchemaError, match="with and without"):
        moments.merge(RunningMoments(covariance=True))
    with pytest.raises(SchemaError, match="Only variances"):
        moments.covariance()
    for wrong in (0.0, -1.0, np.nan):
        with pytest.raises(ConfigError, match="'half_life'"):
            RunningMoments(half_life=wrong)
