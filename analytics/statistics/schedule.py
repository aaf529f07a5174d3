"""Doing something at exact frame counts, wherever batches begin and end."""

from __future__ import annotations

from collections.abc import Iterator

from bridge.errors import ConfigError

__all__ = ["check_count", "segments"]


def segments(seen: int, n: int, every: int) -> Iterator[tuple[int, int, bool]]:
    """Cut `n` rows where the number of rows seen becomes a multiple of `every`.

    Parameters
    ----------
    seen
        Rows seen before these.
    n
        Number of rows.
    every
        The multiple.

    Yields
    ------
    tuple
        First row, row after the last, and whether the count is a multiple of `every` after it.
    """
    start = 0
    while start < n:
        stop = min(n, start + every - (seen + start) % every)
        yield start, stop, (seen + stop) % every == 0
        start = stop


def check_count(value: int, parameter: str, *, least: int = 1) -> int:
    """Return a whole number of at least `least`, or raise a `ConfigError` naming the parameter."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(
            f"The parameter {parameter!r} is {value!r}; it must be a whole number of at least "
            f"{least}."
        )
    return value
