"""The operators: renewed at exact frame counts, causal, the same answer as one batch in the end."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from deeptime.decomposition import TICA
from sklearn.decomposition import PCA

from analytics.reduction import OnlinePCA, OnlineTICA
from analytics.reduction.online import OnlineReduction
from bridge.errors import ConfigError, SchemaError
from bridge.frames import FrameBatch
from bridge.pipeline import Context
from bridge.testing.operators import check_cuts
from bridge.testing.streams import random_stream


@pytest.fixture(scope="module")
def stream() -> list[FrameBatch]:
    return random_stream({"x": (4,)}, frames=300, restarts=False, gaps=False, seed=2)


def run(operator: OnlineReduction, stream: list[FrameBatch]) -> tuple[list[FrameBatch], Context]:
    context = Context()
    return [operator.process(batch, context) for batch in stream], context


def whole(stream: list[FrameBatch]) -> list[np.ndarray]:
    names = sorted({b.simulation for b in stream})
    return [
        np.concatenate([b["x"] for b in stream if b.simulation == n]).astype(float) for n in names
    ]


def test_pca_ends_with_the_answer_of_one_batch(stream: list[FrameBatch]) -> None:
    operator = OnlinePCA(input="x", n_components=2, update_every=900)
    run(operator, stream)
    together = np.concatenate(whole(stream))
    theirs = PCA(2, svd_solver="full").fit(together)
    ours = operator.estimator.model
    assert ours is not None
    np.testing.assert_allclose(ours.values, theirs.explained_variance_, rtol=1e-8)
    out = operator.process(stream[0], Context())
    wanted = theirs.transform(stream[0]["x"].astype(float))
    np.testing.assert_allclose(np.abs(out["pca"]), np.abs(wanted), rtol=1e-8, atol=1e-10)


def test_tica_ends_with_the_answer_of_one_batch(stream: list[FrameBatch]) -> None:
    operator = OnlineTICA(input="x", lag=3, n_components=2, update_every=900)
    run(operator, stream)
    theirs = TICA(lagtime=3, dim=2).fit(whole(stream)).fetch_model()
    ours = operator.estimator.model
    assert ours is not None
    np.testing.assert_allclose(ours.values, theirs.singular_values[:2], rtol=1e-8)
    rows = stream[0]["x"].astype(float)
    projected = np.abs(theirs.transform(rows))
    np.testing.assert_allclose(np.abs(ours.project(rows)), projected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("make", [OnlinePCA, lambda **k: OnlineTICA(lag=2, **k)])
def test_a_frame_is_projected_with_the_model_before_it(
    stream: list[FrameBatch], make: Callable[..., OnlineReduction]
) -> None:
    operator = make(input="x", n_components=2, update_every=50, min_frames=120, output="z")
    out, context = run(operator, stream)
    versions = np.concatenate([b["z_version"] for b in out])
    ready = versions > 0
    assert np.array_equal(np.unique(np.diff(versions)), [0, 1])
    # The first multiple of 50 that is at least 120.
    assert int(np.argmax(ready)) == 150
    assert ready[150:].all()
    values = np.concatenate([b["z"] for b in out])
    assert not values[:150].any()
    assert values[150:].any(axis=1).all()
    assert [e.kind for e in context.events] == ["model_ready"]
    assert context.events[0].data["frames"] == 150


def test_what_follows_does_not_change_what_was(stream: list[FrameBatch]) -> None:
    first, _ = run(OnlineTICA(input="x", lag=2, update_every=40), stream[:30])
    again, _ = run(OnlineTICA(input="x", lag=2, update_every=40), stream)
    for a, b in zip(first, again, strict=False):
        np.testing.assert_array_equal(a["tica"], b["tica"])


@pytest.mark.parametrize(
    "make",
    [
        lambda: OnlinePCA(input="x", update_every=45, half_life=80.0),
        lambda: OnlineTICA(input="x", lag=7, update_every=45, half_life=80.0),
        lambda: OnlineTICA(input="x", lag=2, update_every=100, reversible=False),
    ],
)
def test_cuts_do_not_matter_to_the_last_bit(
    stream: list[FrameBatch], make: Callable[[], OnlineReduction]
) -> None:
    check_cuts(make, stream, rtol=0.0, atol=0.0)


def test_several_columns_of_any_shape_are_features(stream: list[FrameBatch]) -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(64, 2, 3))
    flat = rng.normal(size=64)
    batch = FrameBatch.from_arrays("s", {"a": rows, "b": flat, "c": flat > 0})
    operator = OnlinePCA(input=["a", "b", "c"], n_components=3, update_every=64)
    operator.process(batch, Context())
    together = np.column_stack([rows.reshape(64, 6), flat, flat > 0])
    theirs = PCA(3, svd_solver="full").fit(together)
    assert operator.estimator.model is not None
    np.testing.assert_allclose(operator.estimator.model.values, theirs.explained_variance_)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: OnlinePCA(input=""), "'input'"),
        (lambda: OnlinePCA(input="x", update_every=0), "'update_every'"),
        (lambda: OnlinePCA(input="x", min_frames=0), "'min_frames'"),
        (lambda: OnlinePCA(input="x", output="a b"), "'output'"),
        (lambda: OnlinePCA(input="x", n_components=1.5), "'n_components'"),  # type: ignore[arg-type]
        (lambda: OnlineTICA(input="x", lag=0), "'lag'"),
        (lambda: OnlineTICA(input="x", lag=1, half_life=0), "'half_life'"),
    ],
)
def test_wrong_parameters_are_named(make: Callable[[], object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        make()


def test_wrong_frames_are_refused() -> None:
    operator = OnlineTICA(input="x", lag=1, n_components=3)
    with pytest.raises(ConfigError, match=r"3 components .*'n_components'.* of 2 features"):
        operator.process(FrameBatch.from_arrays("s", {"x": np.zeros((3, 2))}), Context())
    with pytest.raises(SchemaError, match=r"OnlineTICA finds no column 'x' .*'input'"):
        operator.process(FrameBatch.from_arrays("s", {"y": np.zeros((3, 2))}), Context())
    operator.process(FrameBatch.from_arrays("s", {"x": np.zeros((3, 4))}), Context())
    with pytest.raises(SchemaError, match=r"5 features a frame from 't'.*and 4 before"):
        operator.process(FrameBatch.from_arrays("t", {"x": np.zeros((3, 5))}), Context())
    bad = np.zeros((3, 4))
    bad[2, 1] = np.nan
    with pytest.raises(SchemaError, match="not finite in 'x' of 's' at offset 5"):
        operator.process(FrameBatch.from_arrays("s", {"x": bad}, first_offset=3), Context())


@pytest.mark.parametrize("make", [OnlinePCA, lambda **k: OnlineTICA(lag=2, **k)])
def test_the_published_model_maps_the_input_to_the_output(
    stream: list[FrameBatch], make: Callable[..., OnlineReduction]
) -> None:
    operator = make(input="x", n_components=2, update_every=50, output="z", publish_model=True)
    out, _ = run(operator, stream)
    for batch in out:
        x, model = batch["x"].astype(float), batch["z_model"]
        mapped = np.einsum("nk,nkd->nd", x, model[:, :-1]) + model[:, -1]
        np.testing.assert_allclose(mapped, batch["z"], atol=1e-9)
