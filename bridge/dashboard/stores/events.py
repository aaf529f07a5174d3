"""The newest events of a run, numbered as they came, and how many there were of each kind."""

from __future__ import annotations

from collections import Counter, deque
from typing import Any

import msgspec

from bridge.commands import Event
from bridge.dashboard.stores.plain import fields, shorten

__all__ = ["EventStore"]


class EventStore:
    """Events, the oldest of which are forgotten.

    Parameters
    ----------
    keep
        How many at most.

    Attributes
    ----------
    last
        Number of the newest; they count from 1.
    counts
        Kind to number of all that came.
    """

    def __init__(self, keep: int = 10_000) -> None:
        self.last = 0
        self.counts: Counter[str] = Counter()
        self._events: deque[tuple[int, Event]] = deque(maxlen=max(1, keep))

    def __len__(self) -> int:
        return len(self._events)

    @property
    def first(self) -> float:
        """Unix time of the oldest that is kept; 0 while there is none."""
        return self._events[0][1].stamp if self._events else 0.0

    def all(self) -> list[Event]:
        """Return those that are kept, oldest first."""
        return [event for _, event in self._events]

    def add(self, event: Event) -> None:
        """Take in one."""
        data = shorten(event.data)
        if data is not event.data:
            event = msgspec.structs.replace(event, data=data)
        self.last += 1
        self.counts[event.kind] += 1
        self._events.append((self.last, event))

    def since(self, number: int) -> list[Event]:
        """Return those behind a number, oldest first."""
        found: list[Event] = []
        for n, event in reversed(self._events):
            if n <= number:
                break
            found.append(event)
        return found[::-1]

    def read(self, after: int = 0, limit: int = 500, at: float | None = None) -> dict[str, Any]:
        """Return events as plain data.

        Parameters
        ----------
        after
            Those with greater numbers, oldest first; with 0, the newest of all.
        limit
            How many at most.
        at
            Unix time in seconds; what came later is left out.
        """
        limit = max(1, limit)
        found: list[tuple[int, Event]] = []
        for number, event in reversed(self._events):
            if number <= after or (not after and len(found) >= limit):
                break
            if at is None or event.stamp <= at:
                found.append((number, event))
        found = found[::-1][:limit]
        return {
            "last": found[-1][0] if found else after,
            "total": self.last,
            "forgotten": self.last - len(self._events),
            "counts": dict(self.counts),
            "events": [{"number": number, **fields(event)} for number, event in found],
        }
