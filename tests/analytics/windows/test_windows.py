"""Windows against pandas and NumPy; what is late; restarts; the end of a stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analytics.windows import EnsembleWindow, Spans, Window
from bridge.errors import ConfigError, PipelineError, SchemaError
from bridge.frames import FrameBatch
from bridge.pipeline import Context, Operator
from bridge.testing.operators import CHECKS, random_stream, run_operator

STREAM = random_stream({"x": (3,), "y": ()}, frames=150, seed=3)
COUNTS = [
    b.with_columns({"bins": np.rint(9 * b["x"]).astype(np.int32), "w": b["y"] ** 2 + 0.1})
    for b in STREAM
]
EVERYTHING = ["sum", "mean", "var", "std", "min", "max", "first", "last"]

MAKERS: dict[str, Callable[[], Operator]] = {
    "tumbling": lambda: Window(size=5.0, input=["x", "bins"], reductions=EVERYTHING),
    "sliding": lambda: Window(size=6.0, slide=2.5, origin=-0.7, input="x", lateness=1.0),
    "steps": lambda: Window(size=20, slide=10, by="step", input="bins", reductions="sum"),
    "weights": lambda: Window(size=7.0, input="x", weights="w", reductions=["mean", "var"]),
    "none": lambda: Window(size=7.0),
    "ensemble": lambda: EnsembleWindow(size=8.0, slide=4.0, input=["x", "bins"], weights="w"),
    "impatient": lambda: EnsembleWindow(
        size=4.0, input="bins", reductions=EVERYTHING, patience=3.0, members=3
    ),
}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", MAKERS)
def test_conformance(name: str, check: Callable[..., None]) -> None:
    check(MAKERS[name], COUNTS)


@pytest.mark.parametrize("name", MAKERS)
def test_bits_do_not_depend_on_cuts(name: str) -> None:
    make = MAKERS[name]
    single = [b.take(slice(i, i + 1)) for b in COUNTS for i in range(len(b))]
    whole, again = (run_operator(make(), s).by_simulation() for s in (COUNTS, single))
    for simulation, batch in whole.items():
        for key, column in batch.columns.items():
            assert column.tobytes() == again[simulation][key].tobytes(), key


def frames_of(stream: list[FrameBatch], name: str) -> FrameBatch:
    return FrameBatch.concatenate([b for b in stream if b.simulation == name])


def test_tumbling_windows_are_a_groupby_of_pandas() -> None:
    out = run_operator(MAKERS["tumbling"](), COUNTS).by_simulation()
    assert len(out) == 3
    for name, rows in out.items():
        frames = frames_of(COUNTS, name)
        table = pd.DataFrame(
            {f"x{i}": frames["x"][:, i].astype(np.float64) for i in range(3)}
            | {f"b{i}": frames["bins"][:, i].astype(np.int64) for i in range(3)}
        )
        groups = table.groupby(np.floor(frames.times / 5.0))
        n = len(rows)
        assert n == len(groups) - 1  # The last one is not over.
        assert rows["window_count"].tolist() == groups.size().to_numpy()[:n].tolist()
        assert rows["window_start"].tolist() == [5.0 * k for k in list(groups.groups)[:n]]
        assert (rows["window_end"] - rows["window_start"] == 5.0).all()
        assert (rows.times >= rows["window_end"]).all()
        for letter, key in (("x", "x"), ("b", "bins")):
            chosen = groups[[f"{letter}{i}" for i in range(3)]]
            wanted = {
                **{kind: getattr(chosen, kind)() for kind in EVERYTHING if kind not in "var std"},
                "var": chosen.var(ddof=0),
                "std": chosen.std(ddof=0),
            }
            for kind, values in wanted.items():
                np.testing.assert_allclose(
                    rows[f"{kind}_{key}"], values.to_numpy()[:n], rtol=1e-9, atol=1e-12
                )
        assert rows["sum_bins"].dtype == np.int64


def test_sliding_windows_by_hand() -> None:
    out = run_operator(MAKERS["sliding"](), COUNTS).by_simulation()
    for name, rows in out.items():
        frames = frames_of(COUNTS, name)
        starts = rows["window_start"]
        np.testing.assert_allclose(np.diff(starts), 2.5)
        for i, start in enumerate(starts):
            inside = (frames.times >= start) & (frames.times < start + 6.0)
            assert rows["window_count"][i] == inside.sum()
            wanted = frames["x"][inside].astype(np.float64).mean(axis=0)
            np.testing.assert_allclose(rows["mean_x"][i], wanted, rtol=1e-12)


def test_the_ensemble_has_all_frames_of_a_window() -> None:
    answer = run_operator(MAKERS["ensemble"](), COUNTS)
    frames = {name: frames_of(COUNTS, name) for name in ("walker0", "walker1", "walker2")}
    assert answer.batches
    for rows in answer.batches:
        for i in range(len(rows)):
            start = rows["window_start"][i]
            assert rows["window_late"][i] == 0
            x, w = [], []
            for one in frames.values():
                inside = (one.times >= start) & (one.times < start + 8.0)
                x.append(one["x"][inside].astype(np.float64))
                w.append(one["w"][inside].astype(np.float64))
            assert rows["window_count"][i] == len(np.concatenate(x))
            wanted = np.average(np.concatenate(x), axis=0, weights=np.concatenate(w))
            np.testing.assert_allclose(rows["mean_x"][i], wanted, rtol=1e-10)


def test_the_ensemble_waits_for_the_slowest_that_has_not_finished() -> None:
    operator = EnsembleWindow(size=10, by="step")

    def give(name: str, first: int, stop: int, alive: tuple[str, ...]) -> FrameBatch | None:
        batch = FrameBatch.from_arrays(name, {"x": np.zeros(stop - first)}, first_offset=first)
        return operator.process(batch, Context("p", "o", name, alive))

    assert give("a", 0, 35, ("a", "b")) is None
    assert give("b", 0, 10, ("a", "b")) is None
    out = give("b", 10, 25, ("a", "b"))
    assert out is not None
    assert out.offsets.tolist() == [10, 20]
    assert out["window_count"].tolist() == [20, 20]
    last = give("a", 35, 41, ("a",))
    assert last is not None
    assert last["window_start"].tolist() == [20, 30]
    assert last["window_count"].tolist() == [15, 10]


def make_times(times: Any, epochs: Any = None) -> FrameBatch:
    return FrameBatch.from_arrays("a", {"x": np.arange(len(times))}, times=times, epochs=epochs)


def test_late_frames_are_left_out_and_told() -> None:
    times = [0, 1, 5, 4, 9, 10.5, 9.5, 13, 8, 7, 21]
    answer = run_operator(
        Window(size=5, lateness=1, input="x", reductions="sum"), [make_times(times)]
    )
    rows = answer.by_simulation()["a"]
    assert rows["window_start"].tolist() == [0, 5, 10]
    assert rows["window_count"].tolist() == [3, 3, 2]
    assert rows["window_late"].tolist()[-1] == 2
    assert [e.data["count"] for e in answer.events if e.kind == "late_frames"] == [1, 2]
    left = [e for e in answer.events if e.kind == "last_window"]
    assert [e.data["start"] for e in left] == [20.0]
    assert left[0].data["sum_x"] == 10


def test_a_restart_that_goes_back_begins_anew_and_another_goes_on() -> None:
    frames = make_times([0, 1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 9], [0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 2, 2])
    rows = run_operator(Window(size=4), [frames]).by_simulation()["a"]
    assert rows["window_start"].tolist() == [0, 4, 0, 4]
    assert rows["window_count"].tolist() == [4, 2, 3, 2]
    assert rows.offsets.tolist() == [4, 6, 9, 11]
    assert rows["window_late"].tolist() == [0, 0, 0, 0]


def test_a_frame_carries_one_window_and_the_next_ones_the_others() -> None:
    frames = make_times([0.0, 1.0, 2.0, 50.0, 51.0, 52.0, 53.0, 54.0])
    rows = run_operator(Window(size=3, slide=1), [frames]).by_simulation()["a"]
    assert rows["window_start"].tolist() == [-2, -1, 0, 1, 2, 48, 49]
    assert rows["window_count"].tolist() == [1, 2, 3, 2, 1, 1, 2]
    assert rows.offsets.tolist() == [1, 2, 3, 4, 5, 6, 7]
    many = make_times(np.arange(300.0))
    with pytest.raises(PipelineError, match="more often than frames come"):
        run_operator(Window(size=0.5, slide=0.005), [many])


def test_borders_survive_rounding() -> None:
    spans = Spans(0.1)
    times = np.cumsum(np.full(1000, 0.1))
    assert spans.last(times).tolist() == list(range(1, 1001))
    assert (spans.first(times) == spans.last(times)).all()


def test_what_is_refused() -> None:
    for says, arguments in {
        "'size' is 0": {"size": 0},
        "'size' is 'a'": {"size": "a"},
        "greater than 'size'": {"size": 1, "slide": 2},
        "at most 10,000": {"size": 1, "slide": 1e-6},
        "'by' is 'offset'": {"size": 1, "by": "offset"},
        "'lateness' is -1": {"size": 1, "lateness": -1},
        "'reductions' is": {"size": 1, "reductions": ["median"]},
        "'output'": {"size": 1, "output": "a b"},
    }.items():
        with pytest.raises(ConfigError, match=says):
            Window(**arguments)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="'patience' is 0"):
        EnsembleWindow(size=1, patience=0)
    bad = make_times([0.0]).with_columns({"x": np.array([np.nan]), "w": np.array([-1.0])})
    with pytest.raises(SchemaError, match="not finite"):
        run_operator(Window(size=1, input="x"), [bad])
    with pytest.raises(SchemaError, match="one weight"):
        run_operator(Window(size=1, weights="w"), [bad])
