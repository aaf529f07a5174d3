"""Anything that a run tells, as data that JSON can carry: bounded, and without NaN."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

__all__ = ["fields", "plain", "shorten"]

ITEMS, LETTERS, DEPTH = 256, 8_000, 8
"""What is kept of a container, of a text, and of containers within each other."""


def plain(value: Any, *, depth: int = DEPTH, items: int = ITEMS) -> Any:
    """Return a value as JSON knows them.

    NaN and infinities become None, bytes their number, and what is longer than is fit for a page
    is cut: texts at 8,000 letters, containers at `items` entries, nesting at `depth`.
    """
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return value if len(value) <= LETTERS else value[:LETTERS] + "…"
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bytes | bytearray | memoryview):
        return f"({len(value)} bytes)"
    if isinstance(value, np.generic | np.ndarray):
        array = np.asarray(value)
        if array.dtype.kind not in "biufSU":
            return str(array.dtype)
        if array.dtype.kind == "S":
            array = np.char.decode(array, "utf-8", "replace")
        return plain(array.reshape(-1)[:items].tolist() if array.ndim else array.item())
    if depth <= 0:
        return "…"
    if isinstance(value, msgspec.Struct):
        return fields(value)
    if isinstance(value, Mapping):
        some = list(value.items())[:items]
        return {str(k): plain(v, depth=depth - 1, items=items) for k, v in some}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(v, depth=depth - 1, items=items) for v in list(value)[:items]]
    return plain(str(value))


def fields(value: msgspec.Struct) -> dict[str, Any]:
    """Return all fields of a struct, those at their defaults too: pages look for them."""
    return {name: plain(one) for name, one in msgspec.structs.asdict(value).items()}


def shorten(table: dict[str, Any], limit: int = 16_384) -> dict[str, Any]:
    """Return numbers behind a decision or an event as they are, unless they take much room."""
    if not table:
        return table
    try:
        small = len(msgspec.msgpack.encode(table)) <= limit
    except (TypeError, ValueError, OverflowError):
        small = False
    return table if small else dict(plain(table, depth=4, items=32))
