"""The local outlier factor against scikit-learn, and its operator against brute force."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from sklearn.neighbors import LocalOutlierFactor

from analytics.novelty import LocalOutlier, OutlierModel, neighbour_distances, project
from bridge.errors import ConfigError, MissingExtra, PipelineError, SchemaError
from bridge.frames import FrameBatch
from bridge.pipeline import Context
from bridge.testing.operators import random_stream, run_operator
from tests.analytics.novelty.learned import learned_stream


def reference(points: np.ndarray, queries: np.ndarray, neighbours: int) -> np.ndarray:
    model = LocalOutlierFactor(n_neighbors=neighbours, novelty=True, algorithm="kd_tree")
    return -model.fit(points).score_samples(queries)


@pytest.mark.parametrize(("neighbours", "k"), [(1, 1), (5, 2), (20, 4)])
def test_scores_are_those_of_scikit_learn(neighbours, k) -> None:
    rng = np.random.default_rng(neighbours)
    points, queries = rng.normal(size=(300, k)), rng.normal(scale=3.0, size=(100, k))
    found = OutlierModel(points, neighbours).score(queries)
    assert np.allclose(found, reference(points, queries, neighbours), rtol=1e-9)


def test_copies_of_a_point_are_no_trouble() -> None:
    points = np.repeat(np.random.default_rng(0).normal(size=(12, 2)), 9, axis=0)
    queries = np.random.default_rng(1).normal(size=(20, 2))
    found = OutlierModel(points, 5).score(queries)
    assert np.isfinite(found).all()
    assert np.allclose(found, reference(points, queries, 5), rtol=1e-6)


def test_a_lonely_point_has_a_high_score() -> None:
    points = np.random.default_rng(0).normal(size=(500, 2))
    crowd, lonely = OutlierModel(points, 20).score(np.array([[0.0, 0.0], [9.0, 9.0]]))
    assert crowd < 1.1
    assert lonely > 4.0


def test_distances_to_neighbours() -> None:
    points = np.random.default_rng(0).normal(size=(40, 3))
    brute = np.sort(np.linalg.norm(points[:, None] - points, axis=2), axis=1)
    assert np.allclose(neighbour_distances(points, 7), brute[:, 7])
    assert np.allclose(neighbour_distances(points, 100), brute[:, -1])
    assert neighbour_distances(points[:1], 3).tolist() == [0.0]


def brute_scores(stream: list[FrameBatch], operator: dict[str, int]) -> np.ndarray:
    """Score frame by frame with scikit-learn, with everything remembered."""
    seen: list[np.ndarray] = []
    fitted: np.ndarray | None = None
    out = []
    for batch in stream:
        for row in batch["x"]:
            x = row.astype(float)
            if fitted is None:
                out.append(1.0)
            else:
                out.append(reference(fitted, x[None], operator["neighbours"])[0])
            seen.append(x)
            if len(seen) % operator["update_every"] == 0 and len(seen) >= operator["minimum"]:
                fitted = np.array(seen)
    return np.array(out)


def test_the_operator_fits_after_exact_counts() -> None:
    parameters = {"neighbours": 5, "minimum": 30, "update_every": 25}
    stream = random_stream({"x": (2,)}, frames=40, seed=7)
    operator = LocalOutlier(input="x", **parameters)
    found = run_operator(operator, stream)
    scores = np.concatenate([b["novelty"] for b in found.batches])
    assert np.allclose(scores, brute_scores(stream, parameters), rtol=1e-7)
    versions = np.concatenate([b["novelty_version"] for b in found.batches])
    wanted = [max(0, i // 25 - 1) for i in range(len(versions))]
    assert versions.tolist() == wanted


def test_a_new_model_moves_the_memory() -> None:
    stream = learned_stream()
    found = run_operator(
        LocalOutlier(input="y", features="features", neighbours=5, minimum=20, update_every=1000),
        stream,
    )
    features = np.concatenate([b["features"] for b in stream]).astype(float)
    versions = np.concatenate([b["y_version"] for b in stream])
    models = np.concatenate([b["y_model"] for b in stream])
    scores = np.concatenate([b["novelty"] for b in found.batches])
    assert (scores[versions == 0] == 1.0).all()
    for version in range(1, versions.max() + 1):
        rows = np.flatnonzero(versions == version)
        first, model = rows[0], models[rows[0]]
        wanted = reference(project(features[:first], model), project(features[rows], model), 5)
        assert np.allclose(scores[rows], wanted, rtol=1e-6)


def test_a_learned_space_must_be_declared() -> None:
    batch = learned_stream()[0]
    with pytest.raises(PipelineError, match=r"there is a column .y_version..*publish_model"):
        LocalOutlier(input="y").process(batch, Context())


def test_features_must_be_what_the_model_was_learned_from() -> None:
    operator = LocalOutlier(input="y", features="score")
    with pytest.raises(PipelineError, match="has 5 inputs, and the column 'score' has 1"):
        run_operator(operator, learned_stream())


def test_infinite_coordinates_are_refused() -> None:
    batch = FrameBatch.from_arrays("w", {"x": [0.0, np.inf]}, first_offset=7)
    with pytest.raises(SchemaError, match="'x' of 'w' is not finite at offset 8"):
        LocalOutlier(input="x").process(batch, Context())


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"neighbours": 0}, "at least 1"),
        ({"neighbours": 20, "minimum": 20}, "must be greater"),
        ({"neighbours": 20, "memory": 10}, "must be greater"),
        ({"input": ""}, "must name a column"),
    ],
)
def test_bad_parameters_are_refused(parameters, says) -> None:
    with pytest.raises(ConfigError, match=says):
        LocalOutlier(**{"input": "x", **parameters})


def test_too_few_points_are_refused() -> None:
    with pytest.raises(ConfigError, match="5 points were given"):
        OutlierModel(np.zeros((5, 2)), 5)


def test_without_scipy_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.spatial", None)
    with pytest.raises(MissingExtra, match=r"headrace\[analysis\]"):
        OutlierModel(np.zeros((5, 2)), 2)
