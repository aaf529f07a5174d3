"""What the feed hands out that is no plain data."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy.typing as npt

from bridge.errors import ConfigError

__all__ = ["Bounds", "Table", "read_bounds"]

Array = npt.NDArray[Any]

Bounds = tuple[float, float] | None
"""Least and greatest value along an axis; None for all there is."""


class Table(NamedTuple):
    """Arrays and what they mean."""

    meta: dict[str, Any]
    """Plain data."""
    arrays: dict[str, Array]
    """Name to array, little-endian."""


def read_bounds(given: Any, y: str | None) -> tuple[Bounds, Bounds]:
    """Return the range of each axis, however it was written."""
    if given is None:
        return None, None
    values = list(given)
    if len(values) == 2 and all(isinstance(v, int | float) for v in values) and not y:
        return (float(values[0]), float(values[1])), None
    if len(values) == 4 and all(isinstance(v, int | float) for v in values):
        return (values[0], values[1]), (values[2], values[3])
    if len(values) > 2 or any(
        v is not None and (isinstance(v, int | float) or len(v) != 2) for v in values
    ):
        raise ConfigError(
            "The range of a histogram is a pair of numbers for each axis, such as [[0, 1], [0, 2]]."
        )
    pairs = [None if v is None else tuple(v) for v in values]
    return (*pairs, None, None)[:2]  # type: ignore[return-value]
