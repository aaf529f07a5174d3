"""The assignment against SciPy's, and the rule by which components keep place and sign."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from analytics.reduction.matching import assign, continue_components, point_forward


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.booleans())
def test_the_assignment_is_the_best(seed: int, d: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    score = rng.integers(0, 3, (d, d)).astype(float) if ties else rng.random((d, d))
    ours = assign(score)
    assert sorted(ours.tolist()) == list(range(d))
    rows, columns = linear_sum_assignment(score, maximize=True)
    best = score[rows, columns].sum()
    assert score[np.arange(d), ours].sum() == pytest.approx(best, abs=1e-12)


def test_the_best_is_not_the_greedy_one() -> None:
    # Greed takes 0.9 first and is left with 0.0; together 0.8 + 0.7 is more.
    assert assign(np.array([[0.9, 0.8], [0.7, 0.0]])).tolist() == [1, 0]


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.permutations(range(4)))
def test_shuffled_and_flipped_components_find_their_places(seed: int, places: list[int]) -> None:
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(6, 6))
    covariance = a @ a.T + np.eye(6)
    # Columns that are uncorrelated under this covariance.
    old = np.linalg.solve(
        np.linalg.cholesky(covariance).T, np.linalg.qr(rng.normal(size=(6, 6)))[0]
    )
    old = old[:, :4] * rng.uniform(0.1, 10, 4)
    flips = rng.choice([-1.0, 1.0], 4)
    new = (old * flips)[:, places] * rng.uniform(0.1, 10, 4)
    order, signs = continue_components(old, new, covariance)
    restored = new[:, order] * signs
    cosines = np.einsum("kd,kd->d", restored, old)
    np.testing.assert_allclose(
        cosines, np.linalg.norm(restored, axis=0) * np.linalg.norm(old, axis=0)
    )


def test_a_component_from_nothing_points_forward() -> None:
    old = np.array([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    new = np.array([[0.0, -1.0], [-3.0, 0.0], [1.0, 0.0]])
    order, signs = continue_components(old, new, np.eye(3))
    assert order.tolist() == [1, 0]
    assert signs.tolist() == [-1.0, -1.0]


def test_the_greatest_loading_is_in_units_of_the_spread() -> None:
    vectors = np.array([[1.0, 0.0], [-0.5, 0.0]])
    assert point_forward(vectors, np.array([1.0, 1.0])).tolist() == [1.0, 1.0]
    assert point_forward(vectors, np.array([1.0, 9.0])).tolist() == [-1.0, 1.0]
