"""Time-lagged covariances of many simulations, exact at every seam."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from analytics.statistics.blocks import BlockedMoments
from analytics.statistics.running import as_rows
from analytics.statistics.schedule import check_count
from analytics.statistics.tails import Tail
from bridge.errors import FrameOrderError, SchemaError

__all__ = ["Covariances", "LaggedCovariance"]

Array = npt.NDArray[np.float64]


class Covariances(NamedTuple):
    """Covariances of pairs of frames, x at a time and y one lag later.

    Attributes
    ----------
    mean_0, mean_t
        Mean of x and of y, shape (k,).
    c00, c0t, ctt
        Covariance of x with x, x with y, and y with y, shape (k, k), divided by the weight of the
        pairs.
    weight
        Sum of the weights of the pairs: their number, unless something was forgotten.
    """

    mean_0: Array
    mean_t: Array
    c00: Array
    c0t: Array
    ctt: Array
    weight: float

    def symmetrised(self) -> Covariances:
        """Return what the same pairs give when each also counts with its time reversed."""
        mean = (self.mean_0 + self.mean_t) / 2
        half = (self.mean_0 - self.mean_t) / 2
        shift = np.outer(half, half)
        c00 = (self.c00 + self.ctt) / 2 + shift
        c0t = (self.c0t + self.c0t.T) / 2 - shift
        return Covariances(mean, mean, c00, c0t, c00, 2 * self.weight)


class LaggedCovariance:
    """Means and covariances of frames and the frames that come `lag` later.

    A pair is made of two frames of one simulation and one epoch, with offsets that differ by
    exactly `lag` and every frame between them present: a restart, a gap, or a frame that was
    taken out ends a piece of trajectory. The last `lag` frames of each simulation are kept, so
    the cuts between batches leave no trace. Not thread-safe.

    Parameters
    ----------
    lag
        Number of frames.
    half_life
        Number of frames, counted over all simulations, after which a pair counts half; None for
        no forgetting. A pair is as old as its later frame.

    Attributes
    ----------
    lag
        As given.
    """

    def __init__(self, lag: int, *, half_life: float | None = None) -> None:
        self.lag = check_count(lag, "lag")
        self._blocks = BlockedMoments(half_life=half_life)
        self._tails: dict[str, Tail] = {}
        self._n_features: int | None = None

    @property
    def n_frames(self) -> int:
        """Number of frames seen."""
        return self._blocks.clock

    @property
    def n_pairs(self) -> int:
        """Number of pairs seen."""
        return self._blocks.settle().count

    def partial_fit(
        self, X: Any, *, simulation: str = "", offsets: Any = None, epochs: Any = None
    ) -> LaggedCovariance:
        """Take up the next frames of a simulation.

        Parameters
        ----------
        X
            Features, shape (n, k).
        simulation
            Whose frames.
        offsets
            Position of each frame in its stream, strictly increasing; None to go on after the
            last one.
        epochs
            Continuous piece of trajectory that each frame belongs to; None to go on with the last
            one.

        Raises
        ------
        FrameOrderError
            If the offsets do not increase.
        SchemaError
            If the number of features changes, or a value is not finite. Nothing was taken up then.
        """
        rows = as_rows(X, self._n_features)
        n = len(rows)
        if not n:
            return self
        tail = self._tails.get(simulation)
        before, epoch = tail.last if tail is not None else (-1, 0)
        if offsets is None:
            offsets = np.arange(before + 1, before + 1 + n)
        else:
            offsets = np.asarray(offsets, np.int64)
        epochs = np.full(n, epoch) if epochs is None else np.asarray(epochs)
        if offsets.shape != (n,) or epochs.shape != (n,):
            raise SchemaError(
                f"{n} frames came with offsets of shape {offsets.shape} and epochs of shape "
                f"{epochs.shape}."
            )
        if (tail is not None and offsets[0] <= before) or (offsets[1:] <= offsets[:-1]).any():
            raise FrameOrderError(
                f"The offsets of {simulation!r} must increase from frame to frame; after "
                f"{before}, {offsets[0]} to {offsets[-1]} came."
            )
        if tail is None:
            tail = self._tails[simulation] = Tail(self.lag, rows.shape[1])
            self._n_features = rows.shape[1]
        blocks, start = self._blocks, 0
        while start < n:
            stop = min(n, start + blocks.room)
            part = slice(start, stop)
            early, late, number = tail.push(rows[part], offsets[part], epochs[part])
            if len(number):
                both = np.concatenate((early, late), axis=1)
                blocks.add(both, number + (blocks.clock + 1))
            blocks.advance(stop - start)
            start = stop
        return self

    def covariances(self) -> Covariances:
        """Return the estimates as of now; all zero before the first pair."""
        moments = self._blocks.settle()
        k = self._n_features or 0
        if not moments.count:
            return Covariances(*(np.zeros(k),) * 2, *(np.zeros((k, k)),) * 3, 0.0)
        all_of_it = moments.scatter / (moments.weight or math.inf)
        return Covariances(
            moments.mean[:k].copy(),
            moments.mean[k:].copy(),
            all_of_it[:k, :k],
            all_of_it[:k, k:],
            all_of_it[k:, k:],
            moments.weight,
        )

    def merge(self, other: LaggedCovariance) -> LaggedCovariance:
        """Take up all pairs of another one, in any order.

        No pair is made of a frame seen here and one seen there. Of a simulation that both have
        seen, the frames with the higher offsets are gone on from. With a half-life, each side is
        as old as its own count of frames says.

        Raises
        ------
        SchemaError
            If the lags or the numbers of features differ.
        """
        if self.lag != other.lag:
            raise SchemaError(f"Covariances at lags {self.lag} and {other.lag} cannot be merged.")
        if other._n_features is None:
            return self
        if self._n_features not in (None, other._n_features):
            raise SchemaError(
                f"Covariances of {self._n_features} and of {other._n_features} features cannot be "
                "merged."
            )
        self._n_features = other._n_features
        self._blocks.merge(other._blocks)
        for name, theirs in other._tails.items():
            mine = self._tails.get(name)
            if mine is None or mine.last < theirs.last:
                self._tails[name] = self._tail_of(*theirs.content())
        return self

    def _tail_of(self, rows: Any, offsets: Any, epochs: Any) -> Tail:
        tail = Tail(self.lag, rows.shape[1])
        tail.push(rows, offsets, epochs)
        return tail

    def save(self) -> dict[str, Any]:
        """Return the state as arrays and plain data."""
        names = sorted(self._tails)
        parts = [self._tails[name].content() for name in names]
        k = self._n_features or 0
        return {
            **self._blocks.save(),
            "n_features": self._n_features,
            "tail_names": names,
            "tail_lengths": [len(self._tails[name]) for name in names],
            "tail_rows": np.concatenate([np.zeros((0, k)), *(p[0] for p in parts)]),
            "tail_offsets": np.concatenate([np.zeros(0, np.int64), *(p[1] for p in parts)]),
            "tail_epochs": np.concatenate([np.zeros(0, np.int64), *(p[2] for p in parts)]),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what `save` returned, with the same lag and half-life."""
        self._blocks.restore(state)
        k = state["n_features"]
        self._n_features = None if k is None else int(k)
        self._tails = {}
        start = 0
        for name, length in zip(state["tail_names"], state["tail_lengths"], strict=True):
            part = slice(start, start + length)
            start += length
            self._tails[name] = self._tail_of(
                state["tail_rows"][part], state["tail_offsets"][part], state["tail_epochs"][part]
            )
