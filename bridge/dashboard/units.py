"""In which unit numbers are shown: angles in degrees, though they are stored in radians.

The page does the same, in ``js/plots/columns.js``; what is asked for by `Feed` or the API comes as
it is stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bridge.schema import plain_unit

__all__ = ["shown_of", "unit_of", "with_unit"]


def unit_of(name: str, run: Mapping[str, Any]) -> str:
    """Return the unit that a column, or one number of it, is declared in; empty if none is."""
    root = name.partition("[")[0]
    return str(next((c["unit"] for c in run["columns"] if c["name"] == root), ""))


def shown_of(name: str, run: Mapping[str, Any]) -> tuple[str, float]:
    """Return the unit that the numbers of a column are shown in, and what to multiply them by."""
    unit = unit_of(name, run)
    if unit == "rad":
        return "°", 180.0 / np.pi
    return plain_unit(unit), 1.0


def with_unit(name: str, unit: str) -> str:
    """Return what an axis is called."""
    return f"{name} / {unit}" if unit else name
