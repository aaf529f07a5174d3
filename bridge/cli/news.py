"""Which events of a run are told while it lasts; all of them are in ``events.jsonl``."""

from __future__ import annotations

from bridge.commands import Event
from bridge.runs.watch import Snapshot

__all__ = ["News"]

KINDS = frozenset({"promoted", "rolled_back", "version_changed"})
"""Told however light; candidates that were refused, and the like, are too many."""

ELSEWHERE = frozenset({"engine_failed", "failed"})
"""The run itself says so, in its own words."""

QUIET = 10.0
"""Seconds between two events of one kind, level and simulation, unless they are in `KINDS`."""


class News:
    """Picks what is new from one look at a run to the next."""

    def __init__(self) -> None:
        self._last: tuple[Event, ...] = ()
        self._seen: set[tuple[str, str, float]] = set()
        self._told: dict[tuple[str, str, str], float] = {}

    def fresh(self, snapshot: Snapshot, now: float) -> list[Event]:
        """Return the events to be told now, oldest first."""
        if snapshot.events is self._last:
            return []
        self._last = snapshot.events
        before, self._seen = self._seen, {_name(event) for event in snapshot.events}
        return [e for e in snapshot.events if _name(e) not in before and self._is_worth(e, now)]

    def _is_worth(self, event: Event, now: float) -> bool:
        if event.kind in KINDS:
            return True
        if event.level == "info" or event.kind in ELSEWHERE:
            return False
        key = (event.kind, event.level, event.simulation)
        if now - self._told.get(key, -QUIET) < QUIET:
            return False
        self._told[key] = now
        return True


def _name(event: Event) -> tuple[str, str, float]:
    return event.kind, event.message, event.stamp
