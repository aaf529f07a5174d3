"""Streaming PCA against scikit-learn: same answer, any portions, any merging, stable places."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from MDAnalysis import Universe
from MDAnalysisTests.datafiles import DCD, PSF
from sklearn.decomposition import PCA

from analytics.reduction import StreamingPCA
from bridge.codec import decode_state, encode_state
from bridge.errors import ConfigError, PipelineError, SchemaError


def aligned(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Turn the columns of theirs as ours point."""
    return theirs * np.sign(np.einsum("nd,nd->d", ours, theirs))


@pytest.fixture(scope="module")
def data() -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.normal(size=(700, 6)) @ rng.normal(size=(6, 6)) * np.geomspace(5, 0.1, 6) + 40.0


def test_the_answer_is_that_of_scikit_learn(data: np.ndarray) -> None:
    pca = StreamingPCA(3)
    for part in np.array_split(data, 41):
        pca.partial_fit(part)
    theirs = PCA(3, svd_solver="full").fit(data)
    wanted = theirs.transform(data)
    ours = pca.transform(data)
    np.testing.assert_allclose(ours, aligned(ours, wanted), rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(pca.explained_variance, theirs.explained_variance_, rtol=1e-10)
    np.testing.assert_allclose(
        pca.explained_variance_ratio, theirs.explained_variance_ratio_, rtol=1e-10
    )
    np.testing.assert_allclose(np.abs(pca.components), np.abs(theirs.components_), rtol=1e-8)
    assert pca.n_frames == 700


def test_the_classic_case_of_adenylate_kinase() -> None:
    universe = Universe(PSF, DCD)
    atoms = universe.select_atoms("name CA")
    frames = np.stack([atoms.positions.reshape(-1) for _ in universe.trajectory])
    pca = StreamingPCA(2)
    for frame in frames:
        pca.partial_fit(frame[None])
    theirs = PCA(2, svd_solver="full").fit(frames.astype(np.float64))
    np.testing.assert_allclose(
        pca.explained_variance_ratio, theirs.explained_variance_ratio_, rtol=1e-8
    )
    ours = pca.transform(frames)
    np.testing.assert_allclose(ours, aligned(ours, theirs.transform(frames)), atol=1e-7)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(0, 700), max_size=8), st.permutations(range(4)))
def test_portions_and_the_order_of_merging_do_not_matter(
    data: np.ndarray, cuts: list[int], order: list[int]
) -> None:
    whole = StreamingPCA(4).partial_fit(data)
    cut = StreamingPCA(4)
    for part in np.split(data, sorted(cuts)):
        cut.partial_fit(part)
    assert encode_state(cut.save()) == encode_state(whole.save())
    parts = [StreamingPCA(4).partial_fit(p) for p in np.array_split(data, 4)]
    merged = parts[order[0]]
    for i in order[1:]:
        merged.merge(parts[i])
    np.testing.assert_allclose(merged.explained_variance, whole.explained_variance, rtol=1e-10)
    np.testing.assert_allclose(merged.components, whole.components, rtol=1e-7, atol=1e-9)


def test_old_data_are_forgotten() -> None:
    rng = np.random.default_rng(1)
    before = rng.normal(size=(2000, 2)) * [5.0, 0.1]
    after = rng.normal(size=(2000, 2)) * [0.1, 5.0] + 7.0
    remembering, forgetting = StreamingPCA(1), StreamingPCA(1, half_life=100.0)
    for pca in (remembering, forgetting):
        pca.partial_fit(before).partial_fit(after)
    assert abs(forgetting.components[0, 1]) > 0.999
    assert abs(remembering.components[0, 1]) < 0.9
    np.testing.assert_allclose(forgetting.fit().mean, [7.0, 7.0], atol=1.0)  # type: ignore[union-attr]


def test_components_keep_place_and_sign_when_their_variances_cross() -> None:
    # Without chance correlations, the two directions stay what they are while they cross.
    corners = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1.0]])
    pca = StreamingPCA(2, half_life=30.0)
    first = pca.partial_fit(corners * [3.0, 1.5, 0.1]).fit()
    assert first is not None
    assert first.values[0] > first.values[1]
    for i in range(60):
        pca.partial_fit(corners * [-3.0, 1.5 + i * 0.08, 0.1])
        model = pca.fit()
        assert model is not None
        np.testing.assert_allclose(model.weights[:2], np.eye(2), atol=1e-3)
    assert model.values[0] < model.values[1]


def test_fewer_directions_than_components_leave_zeros() -> None:
    line = np.outer(np.arange(20.0), [1.0, 2.0, 3.0])
    pca = StreamingPCA(3).partial_fit(line)
    np.testing.assert_allclose(pca.explained_variance[1:], 0.0, atol=1e-10)
    assert np.isfinite(pca.transform(line)).all()


def test_constant_data_have_no_model() -> None:
    pca = StreamingPCA(1).partial_fit(np.full((77, 2), 0.1))
    assert pca.fit() is None
    with pytest.raises(PipelineError, match="no model yet"):
        pca.transform([[0.1, 0.1]])


def test_a_state_goes_through_bytes(data: np.ndarray) -> None:
    whole, half, again = (StreamingPCA(2, half_life=90.0) for _ in range(3))
    for pca in (whole, half):
        pca.partial_fit(data[:300])
        pca.fit()
    again.restore(decode_state(encode_state(half.save())))
    for pca in (whole, again):
        pca.partial_fit(data[300:])
        pca.fit()
    assert encode_state(whole.save()) == encode_state(again.save())


@pytest.mark.parametrize(
    ("action", "error", "says"),
    [
        (lambda: StreamingPCA(0), ConfigError, "'n_components'"),
        (lambda: StreamingPCA(1, half_life=-1), ConfigError, "'half_life'"),
        (lambda: StreamingPCA(1).partial_fit([[np.nan]]), SchemaError, "not finite"),
        (lambda: StreamingPCA(1).partial_fit(np.zeros((1, 5000))), SchemaError, "at most 4096"),
        (
            lambda: (
                StreamingPCA(1)
                .partial_fit(np.zeros((1, 2)))
                .merge(StreamingPCA(1).partial_fit(np.zeros((1, 3))))
            ),
            SchemaError,
            "of 2 and of 3 features",
        ),
    ],
)
def test_what_does_not_fit_is_refused(
    action: Callable[[], object], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        action()
