"""The last frames of a simulation, kept so that pairs reach across the seams of batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Tail"]

Array = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


class Tail:
    """A window on a stream that holds its last `lag` frames between calls.

    Rows are appended to a buffer of twice the size and moved to its front when it is full, so
    that on average a row is copied twice however long the lag.

    Parameters
    ----------
    lag
        Frames to keep.
    n_features
        Length of a row.
    """

    __slots__ = ("_epochs", "_lag", "_offsets", "_rows", "_start", "_stop")

    def __init__(self, lag: int, n_features: int) -> None:
        self._lag = lag
        self._start = self._stop = 0
        self._rows: Array = np.empty((2 * lag + 64, n_features))
        self._offsets: Integers = np.empty(2 * lag + 64, np.int64)
        self._epochs: Integers = np.empty(2 * lag + 64, np.int64)

    def __len__(self) -> int:
        return self._stop - self._start

    @property
    def last(self) -> tuple[int, int]:
        """Offset and epoch of the last frame; there must be one."""
        return int(self._offsets[self._stop - 1]), int(self._epochs[self._stop - 1])

    def push(self, rows: Array, offsets: Integers, epochs: Integers) -> tuple[Array, Array, Any]:
        """Append frames, and return the pairs that the new ones complete.

        Returns
        -------
        tuple
            The earlier and the later row of each pair (views, or copies), and the number among
            the new frames of each later one. Two frames are a pair where their offsets differ by
            the lag exactly, every frame between them came, and the epoch is one.
        """
        n, lag = len(rows), self._lag
        if self._stop + n > len(self._rows):
            self._make_space(n)
        old, stop = len(self), self._stop + n
        self._rows[self._stop : stop] = rows
        self._offsets[self._stop : stop] = offsets
        self._epochs[self._stop : stop] = epochs
        self._stop = stop
        split = self._start + lag
        pairs = max(0, stop - split)
        early, late = slice(self._start, self._start + pairs), slice(split, split + pairs)
        number = np.arange(lag - old, lag - old + pairs)
        # Offsets increase strictly, so the right distance means that nothing is missing between.
        good = self._offsets[late] - self._offsets[early] == lag
        good &= self._epochs[late] == self._epochs[early]
        first, second = self._rows[early], self._rows[late]
        self._start = max(self._start, stop - lag)
        if not good.all():
            return first[good], second[good], number[good]
        return first, second, number

    def _make_space(self, n: int) -> None:
        size = max(len(self._rows), len(self) + n)
        for name in ("_rows", "_offsets", "_epochs"):
            buffer = getattr(self, name)
            larger = np.empty((size, *buffer.shape[1:]), buffer.dtype)
            larger[: len(self)] = buffer[self._start : self._stop]
            setattr(self, name, larger)
        self._start, self._stop = 0, len(self)

    def content(self) -> tuple[Array, Integers, Integers]:
        """Return views of the rows, offsets and epochs that are kept."""
        kept = slice(self._start, self._stop)
        return self._rows[kept], self._offsets[kept], self._epochs[kept]
