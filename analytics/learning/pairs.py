"""Pairs of frames that lie a lag time apart, made across the seams of batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from analytics.statistics.schedule import check_count
from bridge.errors import FrameOrderError, SchemaError

__all__ = ["LaggedPairs", "Pairs"]

Array = npt.NDArray[Any]
Integers = npt.NDArray[np.int64]

_NONE = -1


class Pairs(NamedTuple):
    """Pairs of frames.

    Attributes
    ----------
    x, y
        The earlier and the later frame of each, shape (n, ...); copies.
    number
        Position of each later frame among the frames that were given, int64 of shape (n,).
    """

    x: Array
    y: Array
    number: Integers


class LaggedPairs:
    """Makes pairs ``(x[t], x[t + lag])`` of each simulation's frames as they come.

    Two frames are a pair where they are of one simulation and one epoch, `lag` frames apart, and no
    frame is missing between them. One is missing where the offsets skip one, or where the steps
    between two frames are not those that were usual before: the first difference is what is usual
    at first, and another one is from its second time in a row on. So a gap in the steps costs the
    pairs across it, and a simulation that begins to write more or less often goes on.

    The last `lag` frames of each simulation are kept. Not thread-safe.

    Parameters
    ----------
    lag
        Number of frames.
    """

    def __init__(self, lag: int) -> None:
        self.lag = check_count(lag, "lag")
        self.made = 0
        self._tracks: dict[str, _Track] = {}

    def push(
        self, simulation: str, x: Array, *, offsets: Any, epochs: Any = None, steps: Any = None
    ) -> Pairs:
        """Take up the next frames of a simulation, and return the pairs that they complete.

        Parameters
        ----------
        simulation
            Whose frames.
        x
            The frames, shape (n, ...).
        offsets, epochs, steps
            Integers of shape (n,). Without epochs, all are of one; without steps, only the offsets
            show what is missing.

        Raises
        ------
        FrameOrderError
            If the offsets do not increase.
        SchemaError
            If the shape of a frame changes, or the arrays disagree about the number of frames.
        """
        n = len(x)
        where = np.asarray(offsets, np.int64)
        parts = np.zeros(n, np.int64) if epochs is None else np.asarray(epochs, np.int64)
        times = where if steps is None else np.asarray(steps, np.int64)
        if not where.shape == parts.shape == times.shape == (n,):
            raise SchemaError(
                f"{n} frames came with {where.size} offsets, {parts.size} epochs and "
                f"{times.size} steps."
            )
        track = self._tracks.get(simulation)
        if track is None:
            if not n:
                return Pairs(x[:0].copy(), x[:0].copy(), np.zeros(0, np.int64))
            track = self._tracks[simulation] = _Track(self.lag, x.shape[1:], x.dtype)
        if x.shape[1:] != track.rows.shape[1:]:
            raise SchemaError(
                f"Frames of shape {x.shape[1:]} came from {simulation!r}, and of "
                f"{track.rows.shape[1:]} before; all must be the same."
            )
        if n and ((where[1:] <= where[:-1]).any() or where[0] <= track.offset):
            raise FrameOrderError(
                f"The offsets of {simulation!r} must increase from frame to frame; after "
                f"{track.offset}, {where[0]} to {where[-1]} came."
            )
        pairs = track.push(x, where, parts, times)
        self.made += len(pairs.number)
        return pairs

    def forget(self, simulation: str) -> None:
        """Let go of the frames of a simulation that has ended."""
        self._tracks.pop(simulation, None)

    def save(self) -> dict[str, Any]:
        """Return the state as arrays and plain data."""
        names = sorted(self._tracks)
        tracks = [self._tracks[name] for name in names]
        state: dict[str, Any] = {
            "names": names,
            "made": self.made,
            "marks": np.array([t.marks() for t in tracks], np.int64).reshape(-1, _MARKS),
        }
        return state | {f"rows_{i}": t.kept().copy() for i, t in enumerate(tracks)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what `save` returned, with the same lag."""
        self.made = int(state["made"])
        self._tracks = {}
        for i, name in enumerate(state["names"]):
            rows = state[f"rows_{i}"]
            track = self._tracks[name] = _Track(self.lag, rows.shape[1:], rows.dtype)
            track.take_up(rows, state["marks"][i])


_MARKS = 6


class _Track:
    """The last frames of one simulation."""

    __slots__ = ("_lag", "_start", "_stop", "before", "epoch", "offset", "rows", "run", "step",
                 "usual")  # fmt: skip

    def __init__(self, lag: int, shape: tuple[int, ...], dtype: Any) -> None:
        self._lag = lag
        self._start = self._stop = 0
        self.rows: Array = np.empty((2 * lag + 64, *shape), dtype)
        self.offset = self.epoch = self.step = _NONE
        # The usual difference of steps, the last one, and the links behind the last frame.
        self.usual = self.before = _NONE
        self.run = 0

    def marks(self) -> list[int]:
        return [self.offset, self.epoch, self.step, self.usual, self.before, self.run]

    def take_up(self, rows: Array, marks: Any) -> None:
        self._append(rows)
        self.offset, self.epoch, self.step, self.usual, self.before, self.run = map(int, marks)

    def kept(self) -> Array:
        return self.rows[self._start : self._stop]

    def push(self, x: Array, offsets: Integers, epochs: Integers, steps: Integers) -> Pairs:
        n, lag = len(x), self._lag
        runs = self._runs(offsets, epochs, steps)
        self._append(x)
        first = self._stop - n
        number = np.flatnonzero(runs >= lag)
        late = first + number
        # Copied before the oldest frames are let go of.
        pairs = Pairs(self.rows[late - lag], self.rows[late], number)
        self._start = max(self._start, self._stop - lag)
        return pairs

    def _runs(self, offsets: Integers, epochs: Integers, steps: Integers) -> Integers:
        """Return how many frames before each one are there without a gap."""
        runs = np.zeros(len(offsets), np.int64)
        for i, (offset, epoch, step) in enumerate(
            zip(offsets.tolist(), epochs.tolist(), steps.tolist(), strict=True)
        ):
            good = False
            if offset == self.offset + 1 and epoch == self.epoch and self.offset != _NONE:
                difference = step - self.step
                if self.usual == _NONE or difference == self.before:
                    self.usual = difference
                good = difference == self.usual
                self.before = difference
            self.run = self.run + 1 if good else 0
            self.offset, self.epoch, self.step = offset, epoch, step
            runs[i] = self.run
        return runs

    def _append(self, x: Array) -> None:
        n, kept = len(x), self._stop - self._start
        if self._stop + n > len(self.rows):
            size = max(len(self.rows), kept + n)
            larger = np.empty((size, *self.rows.shape[1:]), self.rows.dtype)
            larger[:kept] = self.kept()
            self.rows, self._start, self._stop = larger, 0, kept
        self.rows[self._stop : self._stop + n] = x
        self._stop += n
