"""Drift is found, told, and not seen where there is none."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from analytics.learning.drift import Drift, DriftMonitor
from bridge.codec import decode_state, encode_state
from bridge.errors import ConfigError, PipelineError, SchemaError

Array = npt.NDArray[Any]


def frames(n: int, *, shift: float = 0.0, scale: float = 1.0, seed: int = 0) -> tuple[Array, ...]:
    """Errors, coordinates and inputs of frames without any order."""
    dice = np.random.default_rng(seed)
    return (
        scale * dice.gamma(4.0, 0.25, n),
        dice.normal(size=(n, 2)) + np.array([shift, 0.0]),
        dice.normal(size=(n, 5)) + shift,
    )


def shown(monitor: DriftMonitor, *parts: tuple[Array, ...]) -> list[list[Drift]]:
    return [monitor.update(*part) for part in parts]


def test_where_nothing_changes_nothing_is_found() -> None:
    monitor = DriftMonitor()
    found = [monitor.update(*frames(2000, seed=seed)) for seed in range(10)]
    assert [one for part in found for one in part] == []
    assert monitor.frames == 20_000


@pytest.mark.parametrize("test", ["adwin", "page_hinkley", "kswin"])
def test_what_changed_is_told_with_the_numbers(test: Any) -> None:
    monitor = DriftMonitor(latent_test=test, input_test=test)
    before, after = shown(monitor, frames(4000), frames(3000, shift=1.0, scale=2.0, seed=1))
    assert before == []
    by_name = {one.what: one for one in reversed(after)}
    error, latent, mean = (
        by_name[name] for name in ("reconstruction error", "latent 1", "input mean")
    )
    assert error.reference == pytest.approx(1.0, abs=0.1)
    assert error.value > 1.1
    assert latent.reference == pytest.approx(0.0, abs=0.2)
    assert latent.value > 0.3
    assert mean.value > mean.reference
    assert "latent 2" not in by_name
    assert 4000 < error.frames < 5000
    assert error.why.startswith("The reconstruction error rose from 1")
    assert error.why.endswith(f"says ADWIN, at frame {error.frames}.")


def test_a_drift_is_told_a_few_times_and_not_for_ever() -> None:
    monitor = DriftMonitor()
    shown(monitor, frames(4000))
    told = shown(monitor, *(frames(2000, scale=1.5, seed=seed) for seed in range(1, 8)))
    assert 1 <= len(told[0]) <= 6
    assert [one for part in told[2:] for one in part] == []


@pytest.mark.parametrize("test", ["adwin", "page_hinkley", "kswin"])
def test_neither_cuts_nor_checkpoints_change_the_answer(test: Any) -> None:
    def make() -> DriftMonitor:
        return DriftMonitor(every=3, memory=256, latent_test=test, input_test=test)

    # KSWIN compares whole windows for each value.
    n = 300 if test == "kswin" else 900
    parts = [frames(n, shift=0.7 * (k % 2), scale=1 + k % 3, seed=k) for k in range(4)]
    whole = tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    expected = make().update(*whole)
    assert expected
    dice = np.random.default_rng(1)
    cuts = np.sort(dice.integers(0, len(whole[0]), 25))
    monitor, found = make(), []
    for rows in np.split(np.arange(len(whole[0])), cuts):
        found += monitor.update(*(array[rows] for array in whole))
        # Through what a checkpoint is written in.
        state = decode_state(encode_state(monitor.save()))
        monitor = make()
        monitor.restore(state)
    assert found == expected


def test_memory_is_bounded() -> None:
    monitor = DriftMonitor(every=1, memory=256)
    for seed in range(8):
        monitor.update(*frames(1000, seed=seed))
    state = monitor.save()
    arrays = {name: value for name, value in state.items() if isinstance(value, np.ndarray)}
    assert len(arrays) == 2 * 9
    assert max(map(len, arrays.values())) <= 256
    json.dumps({name: value for name, value in state.items() if name not in arrays})


def test_odd_numbers_are_left_out_and_counted() -> None:
    monitor = DriftMonitor(every=1)
    errors = frames(1000)[0]
    errors[::3] = np.nan
    errors[1] = np.inf
    assert monitor.update(errors) == []
    assert monitor.not_finite == 335


def test_what_never_varied_is_watched_too() -> None:
    monitor = DriftMonitor(every=1)
    assert monitor.update(np.full(300, 2.0)) == []
    assert monitor.update(np.full(100, 2.5))[0].what == "reconstruction error"


@pytest.mark.parametrize("memory", [5, 50])
def test_slow_motion_is_no_drift(memory: int) -> None:
    dice = np.random.default_rng(memory)
    keep = np.exp(-1.0 / memory)
    x = dice.normal(size=(30_000, 3))
    x[1:] *= np.sqrt(1.0 - keep**2)
    for before, now in pairwise(x):
        now += keep * before
    monitor = DriftMonitor(every=10)
    assert monitor.update(x[:, 0] ** 2, x[:, :2], x) == []
    found = monitor.update((x[:, 0] ** 2) + 3.0, x[:, :2], x)
    assert {one.what for one in found} == {"reconstruction error"}


def test_what_is_refused() -> None:
    with pytest.raises(ConfigError, match="'every' is 0"):
        DriftMonitor(every=0)
    with pytest.raises(ConfigError, match="must be above 0"):
        DriftMonitor(delta=0.0)
    with pytest.raises(ConfigError, match="must be above 0"):
        DriftMonitor(threshold=float("nan"))
    with pytest.raises(ConfigError, match="no test 'guess'"):
        DriftMonitor(input_test="guess")  # type: ignore[arg-type]
    monitor = DriftMonitor()
    with pytest.raises(SchemaError, match="disagree about the number"):
        monitor.update(np.zeros(3), np.zeros((4, 2)))
    monitor.update(np.zeros(3))
    with pytest.raises(SchemaError, match="one for each model"):
        monitor.update(None, np.zeros((4, 2)))
    with pytest.raises(PipelineError, match="belongs to another pipeline"):
        DriftMonitor(input_test="kswin").restore(monitor.save())
