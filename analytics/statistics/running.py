"""Moments of a stream of rows: mean, variance or covariance, extremes; mergeable, centred."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from bridge.errors import ConfigError, SchemaError

__all__ = ["RunningMoments", "as_rows", "check_half_life"]

Array = npt.NDArray[np.float64]


def as_rows(X: Any, n_features: int | None = None) -> Array:
    """Return finite rows as float64 of shape (n, k); one-dimensional data becomes one feature.

    Raises
    ------
    SchemaError
        If the shape is another, the number of features is not `n_features`, or a value is not
        finite.
    """
    rows = np.asarray(X, np.float64)
    if rows.ndim == 1:
        rows = rows[:, None]
    if rows.ndim != 2:
        raise SchemaError(f"Rows of features have two axes; shape {rows.shape} came.")
    if n_features is not None and rows.shape[1] != n_features:
        raise SchemaError(
            f"Rows of {rows.shape[1]} features came where there were {n_features} before."
        )
    good = np.isfinite(rows)
    if not good.all():
        row = int(np.flatnonzero(~good.all(axis=1))[0])
        raise SchemaError(
            f"Row {row} of {len(rows)} has a value that is not finite; take such frames out first."
        )
    return rows


def check_half_life(half_life: float | None) -> float | None:
    """Return a half-life in frames, None for no forgetting.

    Raises
    ------
    ConfigError
        If it is not a positive number.
    """
    if half_life is None:
        return None
    if not (math.isfinite(half_life) and half_life > 0):
        raise ConfigError(
            f"The parameter 'half_life' is {half_life}; it must be a number of frames greater "
            "than 0, or left out."
        )
    return float(half_life)


class RunningMoments:
    """Weighted mean, scatter and extremes of all rows seen, in memory independent of their number.

    Parameters
    ----------
    covariance
        Keep the full covariance matrix, not only variances.
    half_life
        Number of rows after which a row counts half; None to keep all alike. The decay is by
        rows, so that it does not matter in which portions they come.

    Attributes
    ----------
    count
        Number of rows seen.
    weight
        Sum of their weights: `count`, unless something was forgotten.
    minimum, maximum
        float64 of shape (k,), of all rows ever seen: extremes are not forgotten.
    origin
        The first row: the mean is kept as the way from it.
    scatter
        Weighted sum of squares (or products, shape (k, k)) around the mean.

    Notes
    -----
    Each portion is centred on its own mean and merged pairwise, which loses no digits to a large
    mean: Chan, Golub & LeVeque, Am. Stat. 37, 242 (1983), doi:10.1080/00031305.1983.10483115;
    with weights, Pébay et al., Comput. Stat. 31, 1305 (2016), doi:10.1007/s00180-015-0637-z.
    """

    def __init__(self, *, covariance: bool = False, half_life: float | None = None) -> None:
        self.full = covariance
        self.half_life = check_half_life(half_life)
        self.count = 0
        self.weight = 0.0
        self._allocate(0)

    def _allocate(self, k: int) -> None:
        # Rows are counted from the first one, so that the mean's own size costs no digits.
        self.origin: Array = np.zeros(k)
        self._away: Array = np.zeros(k)
        self.scatter: Array = np.zeros((k, k) if self.full else k)
        self.minimum: Array = np.full(k, np.inf)
        self.maximum: Array = np.full(k, -np.inf)

    @property
    def n_features(self) -> int | None:
        """Number of features; None before the first row."""
        return len(self.origin) if self.count else None

    @property
    def mean(self) -> Array:
        """Weighted mean, float64 of shape (k,); of shape (0,) before the first row."""
        return self.origin + self._away

    def partial_fit(self, X: Any) -> RunningMoments:
        """Take up rows of shape (n, k).

        Raises
        ------
        SchemaError
            If the number of features changes, or a value is not finite.
        """
        rows = as_rows(X, self.n_features)
        if self.half_life is None:
            return self.absorb(rows)
        age = np.arange(len(rows) - 1, -1, -1)
        self.forget(len(rows))
        return self.absorb(rows, 0.5 ** (age / self.half_life))

    def forget(self, rows: int) -> None:
        """Let everything seen age by a number of rows."""
        if self.half_life is not None:
            factor = 0.5 ** (rows / self.half_life)
            self.weight *= factor
            self.scatter *= factor

    def absorb(self, rows: Array, weights: Array | None = None) -> RunningMoments:
        """Take up finite rows with weights of their own, without any ageing."""
        if not len(rows):
            return self
        if not self.count:
            self._allocate(rows.shape[1])
            self.origin = rows[0].copy()
        np.minimum(self.minimum, rows.min(axis=0), out=self.minimum)
        np.maximum(self.maximum, rows.max(axis=0), out=self.maximum)
        rows = rows - self.origin
        if weights is None:
            total = float(len(rows))
            mean = rows.mean(axis=0)
            centred = rows - mean
        else:
            total = float(weights.sum())
            mean = (weights @ rows) / total
            centred = (rows - mean) * np.sqrt(weights)[:, None]
        # The product of a matrix with its own transpose is exactly symmetric.
        scatter = centred.T @ centred if self.full else np.einsum("nk,nk->k", centred, centred)
        self._combine(len(rows), total, mean, scatter)
        return self

    def _combine(self, count: int, weight: float, away: Array, scatter: Array) -> None:
        together = self.weight + weight
        if together > 0.0:
            apart = away - self._away
            share = weight / together
            self._away += apart * share
            self.scatter += scatter
            if self.weight:
                factor = self.weight * share
                self.scatter += (
                    np.outer(apart, apart * factor) if self.full else apart * apart * factor
                )
        self.weight = together
        self.count += count

    def merge(self, other: RunningMoments) -> RunningMoments:
        """Take up all that another one has seen; the result does not depend on the order.

        Raises
        ------
        SchemaError
            If the two differ in their features, or in what they keep of them.
        """
        if self.full != other.full:
            raise SchemaError("Moments with and without the full covariance cannot be merged.")
        if not other.count:
            return self
        if not self.count:
            self._allocate(len(other.origin))
            self.origin = other.origin.copy()
        elif len(other.origin) != len(self.origin):
            raise SchemaError(
                f"Moments of {len(self.origin)} and of {len(other.origin)} features cannot be "
                "merged."
            )
        away = other._away + (other.origin - self.origin)
        self._combine(other.count, other.weight, away, other.scatter)
        np.minimum(self.minimum, other.minimum, out=self.minimum)
        np.maximum(self.maximum, other.maximum, out=self.maximum)
        return self

    def _divisor(self, ddof: float) -> float:
        # Zero scatter stays zero, however few rows there are.
        return self.weight - ddof if self.weight > ddof else math.inf

    def variance(self, *, ddof: float = 0.0) -> Array:
        """Return variances of shape (k,), divided by `weight` less `ddof`; 0 with too few rows."""
        diagonal = np.diagonal(self.scatter) if self.full else self.scatter
        return np.asarray(diagonal / self._divisor(ddof))

    def covariance(self, *, ddof: float = 0.0) -> Array:
        """Return the covariance matrix of shape (k, k), divided by `weight` less `ddof`.

        Raises
        ------
        SchemaError
            If only variances were kept.
        """
        if not self.full:
            raise SchemaError("Only variances were kept; ask for covariance=True at the start.")
        return np.asarray(self.scatter / self._divisor(ddof))

    def save(self) -> dict[str, Any]:
        """Return the state as arrays and plain data."""
        return {
            "count": self.count,
            "weight": self.weight,
            "origin": self.origin.copy(),
            "away": self._away.copy(),
            "scatter": self.scatter.copy(),
            "minimum": self.minimum.copy(),
            "maximum": self.maximum.copy(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what `save` returned."""
        self.count = int(state["count"])
        self.weight = float(state["weight"])
        self.origin = np.array(state["origin"], np.float64)
        self._away = np.array(state["away"], np.float64)
        self.scatter = np.array(state["scatter"], np.float64)
        self.minimum = np.array(state["minimum"], np.float64)
        self.maximum = np.array(state["maximum"], np.float64)
