"""Visit counts against counting by hand."""

from __future__ import annotations

from collections import Counter

import numpy as np

from analytics.novelty import LocalOutlier, VisitCounts, project
from analytics.policies import RestartRare, StopAtTarget
from bridge.pipeline import Context
from bridge.testing.operators import random_stream, run_operator
from tests.analytics.novelty.learned import learned_stream


def test_counts_in_a_fixed_space() -> None:
    stream = random_stream({"x": (2,)}, frames=80)
    found = run_operator(VisitCounts(input="x", width=0.8), stream)
    points = np.concatenate([b["x"] for b in stream]).astype(float)
    table: Counter[tuple[float, ...]] = Counter()
    wanted = []
    for cell in map(tuple, np.floor(points / 0.8).tolist()):
        table[cell] += 1
        wanted.append(table[cell])
    assert np.concatenate([b["visits"] for b in found.batches]).tolist() == wanted
    assert max(wanted) > 3


def test_a_new_model_counts_anew() -> None:
    stream = learned_stream()
    found = run_operator(VisitCounts(input="y", features="features", width=1.5), stream)
    features = np.concatenate([b["features"] for b in stream]).astype(float)
    models = np.concatenate([b["y_model"] for b in stream])
    versions = np.concatenate([b["y_version"] for b in stream])
    visits = np.concatenate([b["visits"] for b in found.batches])
    assert (visits[versions == 0] == 0).all()
    assert versions.max() > 3
    for row in np.flatnonzero(versions > 0):
        cells = np.floor(project(features[: row + 1], models[row]) / 1.5)
        assert visits[row] == (cells == cells[-1]).all(axis=1).sum()


def test_frames_that_were_forgotten_do_not_count() -> None:
    stream = random_stream({"x": ()}, frames=80)
    operator = VisitCounts(input="x", width=1e9, memory=25, retention="sliding", output="n")
    visits = np.concatenate([b["n"] for b in run_operator(operator, stream).batches])
    # Two bins: below and above zero.
    positive = np.concatenate([b["x"] for b in stream]) >= 0
    for row in range(len(visits)):
        assert visits[row] == (positive[max(0, row - 24) : row + 1] == positive[row]).sum()


def test_no_frames_are_no_trouble() -> None:
    batch = learned_stream()[0].take(slice(0, 0))
    for operator in (
        VisitCounts(input="y", features="features"),
        LocalOutlier(input="features"),
        RestartRare(input="y", features="features"),
        StopAtTarget(column="y", lower=0.0),
    ):
        out = operator.process(batch, Context())
        assert out is not None
        assert len(out) == 0
