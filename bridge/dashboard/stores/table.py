"""Rows of many simulations in arrays that grow: what the other stores are built on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["KEYS", "Block", "Table"]

Array = npt.NDArray[Any]

KEYS: dict[str, str] = {
    "simulation": "<u2",
    "offset": "<i8",
    "step": "<i8",
    "time": "<f8",
    "epoch": "<i4",
    "stamp": "<f8",
    "seq": "<i8",
}
"""What each row has besides its columns. `offset` is ``-1 - offset`` where the frame is gone for
good, since its stager was started anew; `seq` grows from row to row."""

Block = tuple[dict[str, Array], Mapping[str, Array]]
"""Keys of some rows, and their columns of shape (n, k) each."""


class Table:
    """Rows, of which only the newest or every so many are kept.

    Columns are float32 of shape (n, k); rows that lack one have NaN there.

    Attributes
    ----------
    n
        Rows.
    keys, columns
        Arrays with room for more rows; use `key` and `column`.
    """

    def __init__(self) -> None:
        self.n = 0
        self.keys: dict[str, Array] = {k: np.zeros(0, d) for k, d in KEYS.items()}
        self.columns: dict[str, Array] = {}

    def __len__(self) -> int:
        return self.n

    def key(self, name: str) -> Array:
        """Return one of the keys of all rows, as a view."""
        return self.keys[name][: self.n]

    def column(self, name: str) -> Array:
        """Return a column of all rows, as a view of shape (n, k)."""
        return self.columns[name][: self.n]

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(a.nbytes for a in (*self.keys.values(), *self.columns.values()))

    def extend(self, keys: Mapping[str, Array], columns: Mapping[str, Array]) -> None:
        """Add rows at the end; they are copied."""
        more = len(keys["offset"])
        stop = self.n + more
        if stop > len(self.keys["offset"]):
            self._grow(max(stop, 1024, len(self.keys["offset"]) * 3 // 2))
        for name, values in keys.items():
            self.keys[name][self.n : stop] = values
        for name, values in columns.items():
            mine = self.columns.get(name)
            if mine is None or mine.shape[1] < values.shape[1]:
                mine = self._widen(name, values.shape[1])
            mine[self.n : stop, : values.shape[1]] = values
            mine[self.n : stop, values.shape[1] :] = np.nan
        for name in self.columns.keys() - columns.keys():
            self.columns[name][self.n : stop] = np.nan
        self.n = stop

    def keep(self, rows: Array) -> None:
        """Keep the rows of a mask or of ascending indices, and forget the others."""
        for table in (self.keys, self.columns):
            for name, values in table.items():
                # A copy, so that the room of what is forgotten comes free.
                table[name] = values[: self.n][rows]
        self.n = len(self.keys["offset"])

    def _grow(self, size: int) -> None:
        for table in (self.keys, self.columns):
            for name, values in table.items():
                room = np.empty((size, *values.shape[1:]), values.dtype)
                room[: self.n] = values[: self.n]
                table[name] = room

    def _widen(self, name: str, width: int) -> Array:
        room = np.full((len(self.keys["offset"]), width), np.nan, np.float32)
        before = self.columns.get(name)
        if before is not None:
            room[: self.n, : before.shape[1]] = before[: self.n]
        self.columns[name] = room
        return room
