"""Samples over the course of a run, thinned out evenly in time, so that one can go back."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import Generic, TypeVar

__all__ = ["History"]

T = TypeVar("T")


class History(Generic[T]):
    """Values with their times, at most so many: when there are more, every second one goes.

    Parameters
    ----------
    limit
        How many at most.
    every
        Seconds between two, at first; values that come sooner are not kept.
    """

    def __init__(self, limit: int = 1024, every: float = 0.0) -> None:
        self._limit = max(2, limit)
        self._every = every
        self._stamps: list[float] = []
        self._values: list[T] = []

    def __len__(self) -> int:
        return len(self._stamps)

    def __iter__(self) -> Iterator[tuple[float, T]]:
        return iter(zip(self._stamps, self._values, strict=True))

    @property
    def start(self) -> float | None:
        """Time of the oldest; None while there is none."""
        return self._stamps[0] if self._stamps else None

    def add(self, stamp: float, value: T) -> bool:
        """Take in a value, unless the last one is too close; returns whether it was kept."""
        if self._stamps and not stamp - self._stamps[-1] >= max(self._every, 0.0):
            return False
        self._stamps.append(stamp)
        self._values.append(value)
        if len(self._stamps) > self._limit:
            span = self._stamps[-1] - self._stamps[0]
            # The newest stays: the end of a run is looked at most.
            keep = len(self._stamps) % 2 ^ 1
            self._stamps = self._stamps[keep::2]
            self._values = self._values[keep::2]
            self._every = max(self._every * 2, span / self._limit)
        return True

    def at(self, stamp: float | None) -> T | None:
        """Return the newest value that is not younger than a time; None if there is none."""
        if stamp is None:
            return self._values[-1] if self._values else None
        index = bisect_right(self._stamps, stamp)
        return self._values[index - 1] if index else None

    def before(self, stamp: float | None, count: int) -> list[tuple[float, T]]:
        """Return the last few that are not younger than a time, oldest first."""
        stop = len(self._stamps) if stamp is None else bisect_right(self._stamps, stamp)
        start = max(0, stop - count)
        return list(zip(self._stamps[start:stop], self._values[start:stop], strict=True))
