"""Drift: the frames that come are not those any more that the model learned from."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from bridge.errors import ConfigError, PipelineError, SchemaError
from bridge.extras import needs

__all__ = ["Drift", "DriftMonitor"]

Array = npt.NDArray[Any]
Test = Literal["adwin", "page_hinkley", "kswin"]

_PROJECTIONS = 4  # directions of the inputs that are watched besides their mean and spread
_LATENTS = 8  # coordinates that are watched, at most
# Of AR(1) noise with a memory of tau frames, averages over 2.5 tau resemble each other by 0.2: the
# tests then gave no false alarm in 50,000 frames; over one tau, ten.
_ALIKE = 0.15
_MOST = 64  # times 'every'


@dataclass(frozen=True, slots=True)
class Drift:
    """Something that changed.

    Attributes
    ----------
    what
        Which statistic.
    why
        A sentence with the numbers and the test.
    value, reference
        Mean of the statistic in the newest values, and before.
    frames
        Frames seen when it was found.
    """

    what: str
    why: str
    value: float
    reference: float
    frames: int


class _Detector(Protocol):
    drift_detected: bool

    def update(self, x: float) -> object: ...


class _Watched:
    """One statistic: its detector, and the values that the detector has seen.

    River's detectors keep their state in compiled objects that cannot be saved as plain data. So
    their last values are kept instead, and a new detector is shown them. That it may not matter
    when a checkpoint was taken, the running detector is made anew from the last half of the
    values, too, whenever their number has reached the limit.
    """

    def __init__(self, make: Callable[[], _Detector], memory: int) -> None:
        self._make = make
        self._memory = memory
        self._detector = make()
        self.since = 0  # of the values kept, those before the last drift
        self.values: list[float] = []

    def update(self, value: float, fresh: int) -> tuple[float, float] | None:
        """Take a value; return the mean of the newest and of those before, if they differ."""
        if len(self.values) >= self._memory:
            self._rebuild(self.values[-(self._memory // 2) :])
        self.values.append(value)
        self._detector.update(value)
        if not self._detector.drift_detected:
            return None
        newest = self.values[-fresh:]
        before = self.values[self.since : -fresh] or self.values[:-1] or newest
        self.since = len(self.values) - len(newest)
        return math.fsum(newest) / len(newest), math.fsum(before) / len(before)

    def _rebuild(self, values: list[float]) -> None:
        dropped = len(self.values) - len(values)
        self.since = max(0, self.since - dropped)
        self._show(values)

    def _show(self, values: list[float]) -> None:
        self.values = list(values)
        self._detector = self._make()
        for value in values:
            self._detector.update(value)

    def restore(self, values: list[float], since: int) -> None:
        self.since = since
        self._show(values)


class DriftMonitor:
    """Watches the error of reconstruction, the coordinates and the inputs of a model.

    A few numbers are made of each frame: its error; its coordinates (eight at most); the mean and
    the standard deviation of its inputs, and their components along four random directions. The
    mean of each over `every` frames is one value for a test of River. Values are told in units of
    what the first `reference` values spread, so that the tests' thresholds mean the same for all.

    The answer depends on the frames and their order alone, not on how they were cut into batches.
    Memory is bounded: `memory` values of each statistic. One thread uses it.

    Parameters
    ----------
    every
        Frames that are averaged into a value, at least. Neighbours in time resemble each other,
        which the tests would take for drift: where the first values of a statistic still do, as
        many frames as it takes are averaged, up to 64 times `every`.
    reference
        Values by which the statistics are scaled, before anything is tested.
    latent_test, input_test
        ``adwin`` (Bifet and Gavaldà, 2007, doi 10.1137/1.9781611972771.42), which compares the
        means of all ways to cut a window in two; ``page_hinkley`` (Page, 1954, doi
        10.1093/biomet/41.1-2.100), which sums what departs from the mean; or ``kswin`` (Raab,
        Heusinger and Schleif, 2020, doi 10.1016/j.neucom.2019.11.111), which compares
        distributions, and takes a millisecond a value. For the error it is always ADWIN.
    delta
        Of ADWIN and KSWIN: how probable a false alarm may be, roughly.
    threshold
        Of Page and Hinkley: how many standard deviations the sum may depart.
    memory
        Values of each statistic that are kept.
    seed
        For the random directions, and for KSWIN.

    Raises
    ------
    MissingExtra
        If River is not installed.
    ConfigError
        If a parameter is out of bounds.
    """

    def __init__(
        self,
        *,
        every: int = 20,
        reference: int = 50,
        latent_test: Test = "adwin",
        input_test: Test = "page_hinkley",
        delta: float = 0.002,
        threshold: float = 30.0,
        memory: int = 1024,
        seed: int = 0,
    ) -> None:
        for name, value, least in (
            ("every", every, 1),
            ("reference", reference, 10),
            ("memory", memory, 256),
        ):
            if value < least:
                raise ConfigError(f"The parameter {name!r} is {value}; it must be {least} or more.")
        if not 0.0 < delta < 1.0 or not threshold > 0.0:
            raise ConfigError(
                f"The parameters 'delta' ({delta}) and 'threshold' ({threshold}) of the drift "
                "monitor must be above 0, and 'delta' below 1."
            )
        self.every = every
        self.reference = reference
        self._tests: dict[str, Test] = {
            "error": "adwin", "latent": latent_test, "input": input_test,
        }  # fmt: skip
        self._make = _makers(delta, threshold, seed)
        for test in (latent_test, input_test):
            if test not in self._make:
                raise ConfigError(
                    f"There is no test {test!r} for drift; there are: {', '.join(self._make)}."
                )
        self._memory = memory
        self._seed = seed
        self._watched: dict[str, _Watched] = {}
        self._scales: dict[str, tuple[float, float]] = {}
        self._first: dict[str, list[float]] = {}
        self._sums: dict[str, list[float]] = {}
        self._factors: dict[str, int] = {}
        self._directions: Array | None = None
        self.frames = 0
        """Frames seen."""
        self.not_finite = 0
        """Numbers that were left out because they were infinite or none."""

    def update(
        self, errors: Array | None, latents: Array | None = None, inputs: Array | None = None
    ) -> list[Drift]:
        """Take frames, and return what changed with them; after a drift, that is the new normal.

        Parameters
        ----------
        errors
            Error of reconstruction of each frame, shape (n,); None for a model without.
        latents
            Coordinates, shape (n, d).
        inputs
            What the model was shown, shape (n, ...).

        Raises
        ------
        SchemaError
            If the arrays disagree about the number of frames, or other ones than before come.
        """
        rows = self._statistics(errors, latents, inputs)
        counts = {len(values) for values in rows.values()}
        if len(counts) > 1:
            raise SchemaError(
                f"The arrays of the drift monitor disagree about the number of frames: {counts}."
            )
        n = counts.pop() if counts else 0
        if n and self._sums and self._sums.keys() != rows.keys():
            raise SchemaError(
                f"The drift monitor was given {', '.join(self._sums)} before and "
                f"{', '.join(rows)} now; use one for each model."
            )
        found: list[Drift] = []
        for i in range(n):
            self.frames += 1
            for name, values in rows.items():
                value = float(values[i])
                sums = self._sums.setdefault(name, [])
                if math.isfinite(value):
                    sums.append(value)
                else:
                    self.not_finite += 1
            for name, sums in self._sums.items():
                if self.frames % (self.every * self._factors.get(name, 1)) == 0:
                    if sums:
                        found += self._test(name, math.fsum(sums) / len(sums))
                    sums.clear()
        return found

    def _statistics(
        self, errors: Array | None, latents: Array | None, inputs: Array | None
    ) -> dict[str, Array]:
        rows: dict[str, Array] = {}
        if errors is not None:
            rows["reconstruction error"] = np.asarray(errors, np.float64).reshape(-1)
        if latents is not None:
            z = np.asarray(latents, np.float64)
            rows |= {f"latent {k + 1}": z[:, k] for k in range(min(z.shape[1], _LATENTS))}
        if inputs is not None:
            x = np.asarray(inputs, np.float64)
            x = x.reshape(len(x), -1)
            rows["input mean"] = x.mean(1)
            rows["input spread"] = x.std(1)
            # One row after the other, so that the last bits do not depend on the rows beside it.
            along = np.einsum("nk,dk->nd", x, self._look_along(x.shape[1]))
            rows |= {f"input direction {k + 1}": along[:, k] for k in range(along.shape[1])}
        return rows

    def _look_along(self, k: int) -> Array:
        if self._directions is None or self._directions.shape[1] != k:
            dice = np.random.default_rng(self._seed)
            axes = dice.normal(size=(min(_PROJECTIONS, k), k))
            self._directions = axes / np.linalg.norm(axes, axis=1, keepdims=True)
        return self._directions

    def _test(self, name: str, value: float) -> list[Drift]:
        if name not in self._scales:
            first = self._first.setdefault(name, [])
            first.append(value)
            if len(first) == self.reference and not self._double(name, first):
                mean, spread = float(np.mean(first)), float(np.std(first))
                # What never varied is watched in units of its own size.
                self._scales[name] = mean, spread or abs(mean) * 1e-6 or 1.0
                for one in self._first.pop(name):
                    self._watch(name, one)
            return []
        change = self._watch(name, value)
        if change is None:
            return []
        test = self._tests[_family(name)]
        mean, spread = self._scales[name]
        now, before = (mean + spread * one for one in change)
        direction = "rose" if now > before else "fell"
        why = (
            f"The {name} {direction} from {before:.4g} to {now:.4g} (by "
            f"{abs(change[0] - change[1]):.2g} of the standard deviations that it had at first), "
            f"says {_NAMES[test]}, at frame {self.frames}."
        )
        return [Drift(name, why, now, before, self.frames)]

    def _double(self, name: str, first: list[float]) -> bool:
        """Average twice as many frames if the first values resemble their neighbours too much."""
        factor = self._factors.get(name, 1)
        if factor >= _MOST or _resemblance(first) < _ALIKE:
            return False
        self._factors[name] = 2 * factor
        pairs = zip(first[::2], first[1::2], strict=False)
        first[:] = [0.5 * (a + b) for a, b in pairs]
        return True

    def _watch(self, name: str, value: float) -> tuple[float, float] | None:
        mean, spread = self._scales[name]
        watched = self._watched.get(name)
        if watched is None:
            make = self._make[self._tests[_family(name)]]
            watched = self._watched[name] = _Watched(make, self._memory)
        return watched.update((value - mean) / spread, fresh=10)

    # -------------------------------------------------------------------- state

    def save(self) -> dict[str, Any]:
        """Return what it remembers, as arrays and plain data; arrays at the top level alone."""
        names = list(self._sums)
        state: dict[str, Any] = {
            "frames": self.frames,
            "not_finite": self.not_finite,
            "names": names,
            "tests": dict(self._tests),
            "scales": {name: list(scale) for name, scale in self._scales.items()},
            "factors": dict(self._factors),
            "since": {name: one.since for name, one in self._watched.items()},
        }
        for number, name in enumerate(names):
            watched = self._watched.get(name)
            values = self._first.get(name, []) if watched is None else watched.values
            state[f"values_{number}"] = np.array(values, np.float64)
            state[f"sums_{number}"] = np.array(self._sums[name], np.float64)
        return state

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what `save` returned, in a monitor with the same parameters.

        Raises
        ------
        PipelineError
            If the tests are others.
        """
        if state["tests"] != self._tests:
            raise PipelineError(
                f"The state of the drift monitor is that of other tests ({state['tests']}); the "
                "checkpoint belongs to another pipeline."
            )
        self.frames, self.not_finite = int(state["frames"]), int(state["not_finite"])
        self._scales = {k: (float(a), float(b)) for k, (a, b) in state["scales"].items()}
        self._factors = {name: int(factor) for name, factor in state["factors"].items()}
        self._sums, self._first, self._watched = {}, {}, {}
        for number, name in enumerate(state["names"]):
            values = [float(value) for value in state[f"values_{number}"]]
            self._sums[name] = [float(value) for value in state[f"sums_{number}"]]
            if name in state["since"]:
                make = self._make[self._tests[_family(name)]]
                self._watched[name] = _Watched(make, self._memory)
                self._watched[name].restore(values, int(state["since"][name]))
            else:
                self._first[name] = values


def _resemblance(values: list[float]) -> float:
    """Return the correlation of values with those that follow them."""
    x = np.asarray(values) - np.mean(values)
    return float(x[:-1] @ x[1:]) / (float(x @ x) or 1.0)


_NAMES = {"adwin": "ADWIN", "page_hinkley": "the test of Page and Hinkley", "kswin": "KSWIN"}


def _family(name: str) -> str:
    return {"reconstruction": "error", "latent": "latent", "input": "input"}[name.split()[0]]


def _makers(delta: float, threshold: float, seed: int) -> dict[str, Callable[[], _Detector]]:
    with needs("learning", "looking for drift"):
        # Parts of River are compiled and have no types.
        river: Any = importlib.import_module("river.drift")
    return {
        "adwin": lambda: river.ADWIN(delta=delta, clock=1, grace_period=10),
        "page_hinkley": lambda: river.PageHinkley(
            min_instances=30, delta=0.2, threshold=threshold, alpha=1.0
        ),
        "kswin": lambda: river.KSWIN(alpha=delta, window_size=100, stat_size=30, seed=seed),
    }
