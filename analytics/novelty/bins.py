"""Counts of frames in the bins of a space of few dimensions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bridge.errors import ConfigError

__all__ = ["Bins", "bin_keys"]

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

_LARGEST = float(1 << 62)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def bin_keys(coordinates: Floats, width: Floats) -> npt.NDArray[np.uint64]:
    """Name the bin of each frame by one number.

    Bins are anchored at the origin: bin b of a dimension is ``[b * width, (b + 1) * width)``. The
    indices of all dimensions are mixed by SplitMix64 (Steele et al. 2014,
    doi:10.1145/2714064.2660195): exact in one dimension, and in more than one two given bins
    fall together with a chance of 5e-20.

    Parameters
    ----------
    coordinates
        Finite, shape (n, k).
    width
        Shape (k,), or one for all.

    Returns
    -------
    npt.NDArray[np.uint64]
        Shape (n,).
    """
    cells = np.clip(np.floor(coordinates / width), -_LARGEST, _LARGEST).astype(np.int64)
    keys = np.zeros(len(cells), np.uint64)
    for column in cells.view(np.uint64).T:
        keys = (keys ^ column) + _GOLDEN
        keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        keys ^= keys >> np.uint64(31)
    return keys


class Bins:
    """Which slot of a memory lies in which bin, and how many each bin has.

    Parameters
    ----------
    capacity
        Number of slots.
    width
        Of a bin, in the unit of the space; one number, or one for each dimension.
    relative
        `width` is a multiple of the standard deviation of the remembered coordinates, which is
        taken at each `rebuild`.

    Attributes
    ----------
    counts
        int64; entry i is the number of slots in bin i, zero for a free number.
    index
        int32 of shape (capacity,): the bin of each slot, -1 for none.
    """

    def __init__(
        self, capacity: int, width: float | Sequence[float], *, relative: bool = False
    ) -> None:
        self._given = np.atleast_1d(np.asarray(width, np.float64))
        if self._given.ndim != 1 or not (np.isfinite(self._given) & (self._given > 0)).all():
            raise ConfigError(f"The width of a bin must be a positive number; it is {width!r}.")
        self.relative = relative
        self.index = np.full(capacity, -1, np.int32)
        self.counts = np.zeros(0, np.int64)
        self._width = self._given
        self._keys = np.zeros(0, np.uint64)
        self._number: dict[int, int] = {}
        self._free: list[int] = []

    def __len__(self) -> int:
        return len(self._number)

    def rebuild(self, coordinates: Floats) -> None:
        """Count anew, the first ``len(coordinates)`` slots being in use."""
        self._width = self._given
        if self.relative and len(coordinates):
            spread = coordinates.std(axis=0)
            self._width = self._given * np.where(spread > 0.0, spread, 1.0)
        keys, index, counts = np.unique(
            self.keys(coordinates), return_inverse=True, return_counts=True
        )
        self.index[:] = -1
        self.index[: len(coordinates)] = index
        self.counts = counts.astype(np.int64)
        self._keys = keys
        self._number = {key: i for i, key in enumerate(keys.tolist())}
        self._free = []

    def add(self, slots: Array, coordinates: Floats) -> list[int]:
        """Put frames in slots, in order; whoever was there leaves.

        Returns
        -------
        list of int
            The count of each frame's bin right after it came, itself included, also for a frame
            that was not kept (slot -1).
        """
        out = []
        keys = self.keys(coordinates).tolist()
        for slot, key in zip(slots.tolist(), keys, strict=True):
            if slot < 0:
                number = self._number.get(key)
                out.append(1 if number is None else int(self.counts[number]) + 1)
                continue
            self._leave(slot)
            number = self._number.get(key)
            if number is None:
                number = self._open(key)
            self.index[slot] = number
            self.counts[number] += 1
            out.append(int(self.counts[number]))
        return out

    def keys(self, coordinates: Floats) -> npt.NDArray[np.uint64]:
        """Name the bins of coordinates, by the present widths."""
        if len(self._width) not in (1, coordinates.shape[1]):
            raise ConfigError(
                f"{len(self._width)} bin widths are given for a space of "
                f"{coordinates.shape[1]} dimensions; give one, or one for each dimension."
            )
        return bin_keys(coordinates, self._width)

    def draw(self, random: np.random.Generator, power: float) -> int:
        """Draw a slot: a bin with weight ``1 / count**power``, then one of its frames uniformly."""
        weights = np.where(self.counts > 0, np.maximum(self.counts, 1) ** -float(power), 0.0)
        edges = np.cumsum(weights)
        number = int(np.searchsorted(edges, random.random() * edges[-1], side="right"))
        if number == len(edges):  # the product was rounded up to the sum
            number = int(np.flatnonzero(weights)[-1])
        members = np.flatnonzero(self.index == number)
        return int(members[int(random.random() * len(members))])

    def save(self, prefix: str) -> dict[str, Any]:
        """Return the state as entries whose names begin with `prefix`."""
        return {
            f"{prefix}.index": self.index.copy(),
            f"{prefix}.counts": self.counts.copy(),
            f"{prefix}.keys": self._keys.copy(),
            f"{prefix}.free": np.array(self._free, np.int64),
            f"{prefix}.width": self._width.copy(),
        }

    def restore(self, prefix: str, state: Mapping[str, Any]) -> None:
        """Take up what `save` returned."""
        self.index = np.array(state[f"{prefix}.index"])
        self.counts = np.array(state[f"{prefix}.counts"])
        self._keys = np.array(state[f"{prefix}.keys"])
        self._free = state[f"{prefix}.free"].tolist()
        self._width = np.array(state[f"{prefix}.width"])
        free = set(self._free)
        used = range(len(self.counts))
        self._number = {
            k: i for i, k in zip(used, self._keys.tolist(), strict=False) if i not in free
        }

    def _leave(self, slot: int) -> None:
        number = int(self.index[slot])
        if number < 0:
            return
        self.counts[number] -= 1
        if not self.counts[number]:
            del self._number[int(self._keys[number])]
            self._free.append(number)

    def _open(self, key: int) -> int:
        if not self._free:
            old = len(self.counts)
            more = max(64, old)
            self.counts = np.concatenate([self.counts, np.zeros(more, np.int64)])
            self._keys = np.concatenate([self._keys, np.zeros(more, np.uint64)])
            self._free = list(range(old + more - 1, old - 1, -1))
        number = self._free.pop()
        self._keys[number] = key
        self._number[key] = number
        return number
