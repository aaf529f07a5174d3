"""How a report writes times, numbers and names."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

__all__ = ["count", "date", "duration", "number", "since", "words"]


def words(text: Any) -> str:
    """Return a name of the code as words."""
    return str(text or "").replace("_", " ")


def date(stamp: float) -> str:
    """Return a Unix time as a date."""
    return datetime.fromtimestamp(stamp, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def duration(seconds: float) -> str:
    """Return how long something took."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def since(stamp: float | None, run: Mapping[str, Any]) -> str:
    """Return the seconds from the start of the run, or the date where that is not known."""
    if not stamp:
        return ""
    return f"{stamp - run['started']:.2f}" if run["started"] else date(stamp)


def number(value: Any) -> str:
    """Return a piece of evidence, shortly."""
    return f"{value:.5g}" if isinstance(value, float) else str(value)[:120]


def count(value: int | None) -> str:
    """Return a count; nothing where there is none."""
    return "" if value is None else f"{value:,}"
