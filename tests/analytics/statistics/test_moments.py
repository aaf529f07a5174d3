"""The operator of running moments: what each frame gets, and what the end tells."""

from __future__ import annotations

import numpy as np
import pytest

from analytics.statistics import Moments
from bridge.errors import ConfigError, SchemaError
from bridge.frames import FrameBatch
from bridge.pipeline import Context


def test_frames_get_the_numbers_of_the_frames_before_them() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(3, 2, (50, 2)).astype(np.float32), rng.normal(size=50)
    operator = Moments(input=["x", "y"], update_every=20)
    out = operator.process(FrameBatch.from_arrays("s", {"x": x, "y": y}), Context())
    seen = np.column_stack([x[:20].astype(float), y[:20]])
    assert out["moments_ready"].tolist() == [False] * 20 + [True] * 30
    assert not out["moments_mean"][:20].any()
    np.testing.assert_allclose(out["moments_mean"][20:40], np.tile(seen.mean(0), (20, 1)))
    np.testing.assert_allclose(out["moments_std"][39], seen.std(0))
    np.testing.assert_array_equal(out["moments_minimum"][39], seen.min(0))
    np.testing.assert_array_equal(out["moments_maximum"][39], seen.max(0))
    assert (out["moments_mean"][40] != out["moments_mean"][39]).all()


def test_the_end_is_told() -> None:
    operator = Moments(input="x")
    context = Context()
    operator.finish(context)
    assert context.events == []
    operator.process(FrameBatch.from_arrays("s", {"x": np.arange(5.0)}), context)
    operator.finish(context)
    assert context.events[0].data["mean"] == [2.0]
    assert context.events[0].data["count"] == 5


def test_what_does_not_fit_is_refused() -> None:
    for wrong in ({"input": ""}, {"input": []}, {"input": "x", "update_every": 0}):
        with pytest.raises(ConfigError, match=r"The parameter '(input|update_every)'"):
            Moments(**wrong)  # type: ignore[arg-type]
    operator = Moments(input="x")
    with pytest.raises(SchemaError, match="no column 'x' \\(its parameter 'input'\\)"):
        operator.process(FrameBatch.from_arrays("s", {"y": np.zeros(3)}), Context())
    operator.process(FrameBatch.from_arrays("s", {"x": np.zeros(3)}), Context())
    with pytest.raises(SchemaError, match=r"2 numbers a frame from 's'.*and 1 before"):
        operator.process(FrameBatch.from_arrays("s", {"x": np.zeros((3, 2))}), Context())
    with pytest.raises(SchemaError, match="not finite in 'x' of 's' at offset 1"):
        operator.process(FrameBatch.from_arrays("s", {"x": np.array([0, np.inf])}), Context())
    with pytest.raises(SchemaError, match="real numbers in the column 'x'"):
        operator.process(FrameBatch.from_arrays("s", {"x": np.array(["a"])}), Context())
