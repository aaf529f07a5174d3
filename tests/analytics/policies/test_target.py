"""The first frame within bounds ends a run, once."""

from __future__ import annotations

import math

import numpy as np
import pytest

from analytics.policies import StopAtTarget
from bridge.errors import ConfigError, SchemaError
from bridge.frames import FrameBatch
from bridge.pipeline import Context
from bridge.testing.operators import check_operator, random_stream, run_operator

NAMES = ("w0", "w1", "w2")


def give(operator: StopAtTarget, batch: FrameBatch, names: tuple[str, ...] = NAMES) -> Context:
    context = Context("p", "target", batch.simulation, names, {"x": "nm"}, "ps")
    assert operator.process(batch, context) is batch
    return context


def angles(simulation: str, degrees: list[float], first: int = 0) -> FrameBatch:
    phi = np.radians(degrees)
    return FrameBatch.from_arrays(
        simulation,
        {"dihedrals": np.column_stack([np.zeros(len(phi)), phi])},
        first_offset=first,
        steps=(np.arange(first, first + len(phi)) + 1) * 50,
        times=(np.arange(first, first + len(phi)) + 1) * 0.2,
    )


def test_the_first_frame_within_bounds_stops_all() -> None:
    operator = StopAtTarget(column="dihedrals", index=1, lower=20, upper=120, degrees=True)
    for batch in (angles("w0", [-80, -60, 10]), angles("w1", [-80, 170, -20, -30])):
        context = give(operator, batch)
        assert not context.events
        assert not context.commands
    context = give(operator, angles("w0", [15, 60, 70, 80], first=3))
    (event,) = context.events
    assert event.kind == "target_reached"
    assert event.simulation == "w0"
    total = event.data.pop("total_time")
    assert total == pytest.approx(5 * 0.2 + 4 * 0.2)
    assert event.data == {
        "simulation": "w0",
        "offset": 4,
        "step": 250,
        "time": pytest.approx(1.0),
        "value": pytest.approx(60.0),
        "simulations": 2,
    }
    assert event.message == (
        "dihedrals[1] of w0 was 60° at frame 4, and the target is 20° to 120°. By then 1.8 ps had "
        "been simulated, by 2 simulations together."
    )
    assert [(c.kind, c.simulation) for c in context.commands] == [("stop", n) for n in NAMES]
    assert context.offsets == [4, 4, 4]
    assert context.commands[0].reason == (
        "The target is reached: dihedrals[1] of w0 was 60° at frame 4, and the target is 20° to "
        "120°."
    )
    # Once; but who shows up later is told.
    context = give(operator, angles("w1", [60, 60], first=4))
    assert not context.events
    assert not context.commands
    context = give(operator, angles("w9", [60, 60]))
    assert not context.events
    assert [c.simulation for c in context.commands] == ["w9"]
    assert not give(operator, angles("w9", [60], first=2)).commands


def test_it_may_tell_only() -> None:
    operator = StopAtTarget(column="x", lower=2.0, stop=False)
    context = give(operator, FrameBatch.from_arrays("w0", {"x": [1.0, 2.0]}))
    assert [event.message for event in context.events] == [
        "x of w0 was 2 nm at frame 1, and the target is at least 2 nm. By then 1 ps had been "
        "simulated, by 1 simulation together."
    ]
    assert not context.commands


def test_one_bound_is_enough() -> None:
    operator = StopAtTarget(column="x", upper=0.0)
    assert not give(operator, FrameBatch.from_arrays("w0", {"x": [1.0, math.nan]})).events
    assert give(operator, FrameBatch.from_arrays("w0", {"x": [1.0, -1.0]})).events


@pytest.mark.parametrize("lower", [0.5, 3.0, 1e9])
def test_conformance(lower) -> None:
    stream = random_stream({"x": (2,)}, frames=60)
    check_operator(lambda: StopAtTarget(column="x", index=1, lower=lower), stream)
    answer = run_operator(StopAtTarget(column="x", index=1, lower=lower), stream)
    reached = any((b["x"][:, 1] >= lower).any() for b in stream)
    assert len(answer.events) == reached
    assert len(answer.commands) == 3 * reached


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({}, "at least one of the two"),
        ({"lower": 2.0, "upper": 1.0}, "they are 2.0 and 1.0"),
        ({"lower": math.nan, "upper": 1.0}, "'lower' not greater than 'upper'"),
        ({"lower": 0.0, "index": -1}, "'index' must not be negative"),
    ],
)
def test_bad_parameters_are_refused(parameters, says) -> None:
    with pytest.raises(ConfigError, match=says):
        StopAtTarget(column="x", **parameters)


def test_an_index_that_is_not_there() -> None:
    operator = StopAtTarget(column="x", index=2, lower=0.0)
    with pytest.raises(SchemaError, match="has 2 numbers for each frame; there is no index 2"):
        give(operator, FrameBatch.from_arrays("w0", {"x": np.zeros((3, 2))}))
