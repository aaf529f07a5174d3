"""Points of the reduced space: an even sample of them, and then what came since."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bridge.dashboard.stores.columns import Columns, version_column
from bridge.dashboard.stores.results import ResultStore, true_offsets
from bridge.dashboard.stores.table import Table

__all__ = ["Cursor", "extent", "points", "spread"]

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a reader stands; a text for him.

    All who have asked the same and have read so far have the same one, whenever they began: what is
    made for one of them is made for all.
    """

    question: int
    """What was asked, as a checksum: another question begins anew."""
    generation: int
    """Of the store; points that were thinned anew are sent anew."""
    seq: int
    """Number after the last row that was looked at."""
    stride: int
    """One offset in so many is sent."""
    at: float
    """Time up to which rows were sent; infinite while the run is followed."""

    def __str__(self) -> str:
        return f"{self.question}:{self.generation}:{self.seq}:{self.stride}:{self.at!r}"

    @classmethod
    def read(cls, text: str | None, question: int) -> Cursor | None:
        """Return what a text says; None if it says nothing, or is of another question."""
        try:
            parts = (text or "").split(":")
            numbers = [int(p) for p in parts[:4]]
            found = cls(*numbers, at=float(parts[4]))  # type: ignore[misc]
        except (ValueError, IndexError, TypeError):
            return None
        return found if found.question == question else None


def ask(*question: Any) -> int:
    """Return a checksum of what is asked."""
    return zlib.crc32(repr(question).encode())


def extent(values: Array) -> list[float] | None:
    """Return least and greatest of the finite values; None without any."""
    finite = values[np.isfinite(values)]
    return [float(finite.min()), float(finite.max())] if len(finite) else None


def spread(count: int, limit: int) -> Array:
    """Return the indices of at most so many rows, evenly spaced, the last one among them."""
    step = -(-count // max(1, limit))
    return np.arange((count - 1) % step, count, step) if count else np.zeros(0, np.int64)


def points(
    store: ResultStore,
    columns: Columns,
    x: str,
    y: str,
    colour: str = "time",
    *,
    since: str | None = None,
    limit: int = 100_000,
    at: float | None = None,
    simulations: Sequence[str] | None = None,
    version: str = "",
    base: float = 0.0,
    frames: Table | None = None,
) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return points, see `bridge.dashboard.feed.Feed.points`."""
    colour = columns.meant(colour)
    for text in (x, y, colour):
        columns.check(text)
    version = version or version_column(x, store.columns)
    # Numbers of frames come to points that were sent: those are sent anew now and then.
    known = int(3 * np.log2(1 + frames.n)) if frames is not None else 0
    asked = tuple(simulations or ()), simulations is None, limit, version, known
    question = ask(x, y, colour, asked, store.life)
    cursor = Cursor.read(since, question)
    until = np.inf if at is None else at
    if cursor is not None and (
        cursor.generation != store.generation
        or _crowded(store, cursor, limit, until)
        or cursor.at > until
        or (cursor.at < until and np.isinf(until))
    ):
        cursor = None
    table = store.sample
    rows = _rows(store, cursor, simulations, until)

    def pick(rows: Array, text: str) -> Array:
        if frames is not None and columns.of_frames(text):
            return from_frames(frames, table, rows, text)
        return columns.pick(table, rows, text)

    xs, ys = pick(rows, x), pick(rows, y)
    versions = columns.pick(table, rows, version) if version else np.ones(len(rows))
    good = np.isfinite(xs) & np.isfinite(ys) & (versions > 0)
    left_out = len(rows) - int(good.sum())
    stride = store.stride if cursor is None else max(cursor.stride, store.stride)
    offsets = true_offsets(table.key("offset")[rows])
    total = int(good.sum())
    if cursor is not None:
        chosen = np.flatnonzero(good & (offsets % stride == 0))
    else:
        chosen = np.flatnonzero(good)
        while len(chosen) > limit and stride < 1 << 40:
            stride *= 2
            chosen = chosen[offsets[chosen] % stride == 0]
    chosen = chosen[spread(len(chosen), limit)]
    rows = rows[chosen]
    after = Cursor(question, store.generation, store.seq, stride, until)
    shade = pick(rows, colour)
    where = table.key("offset")[rows]
    arrays = {
        "x": xs[chosen].astype(np.float32),
        "y": ys[chosen].astype(np.float32),
        "colour": shade.astype(np.float32),
        "simulation": table.key("simulation")[rows],
        "offset": np.where(where < 0, -1, where),
        "stamp": table.key("stamp")[rows] - base,
        "version": np.nan_to_num(versions[chosen]).astype(np.uint16),
        "step": table.key("step")[rows],
        "time": table.key("time")[rows].astype(np.float32),
    }
    moved = cursor is None or cursor.seq < store.seq
    heads = _heads(store, columns, x, y, simulations, until, moved)
    meta = {
        "cursor": str(after),
        "reset": cursor is None,
        "total": total,
        "of": _of(store, simulations, until),
        "left_out": left_out,
        "sampled": stride > 1,
        "stride": stride,
        "columns": {"x": x, "y": y, "colour": colour, "version": version or None},
        "simulations": list(store.names),
        "stamp0": base,
        "versions": store.versions(version, -1 if cursor is None else cursor.seq)
        if version
        else [],
        "ranges": {k: extent(arrays[k]) for k in ("x", "y", "colour")},
    }
    return meta, {**arrays, **heads}


def _crowded(store: ResultStore, cursor: Cursor, limit: int, until: float) -> bool:
    """Return whether all points are to be sent anew, since as many may have come as are shown."""
    table, room = store.sample, limit * max(1, cursor.stride // store.stride)

    def count(seq: int, at: float) -> int:
        if np.isfinite(at):
            return int(np.count_nonzero(table.key("stamp") <= at))
        return int(np.searchsorted(table.key("seq"), seq))

    return count(cursor.seq, cursor.at) // room != count(store.seq, until) // room


def _of(store: ResultStore, simulations: Sequence[str] | None, until: float) -> int:
    """Return how many rows came in all; of some, as far as the sample tells."""
    if simulations is None and np.isinf(until):
        return store.seq
    mine = store.sample.key("stamp") <= until
    chosen = store.numbers(simulations)
    if chosen is not None:
        mine &= chosen[store.sample.key("simulation")]
    return int(mine.sum()) * store.stride


def _rows(
    store: ResultStore, cursor: Cursor | None, simulations: Sequence[str] | None, until: float
) -> Array:
    """Return the indices of the rows of the sample that a reader has not got yet."""
    table = store.sample
    first = 0
    if cursor is not None and np.isinf(until):
        first = int(np.searchsorted(table.key("seq"), cursor.seq))
    rows = np.arange(first, table.n)
    if simulations is not None:
        chosen = store.numbers(simulations)
        assert chosen is not None
        rows = rows[chosen[table.key("simulation")[first:]]]
    if np.isfinite(until):
        stamps = table.key("stamp")[rows]
        since = cursor.at if cursor is not None else -np.inf
        rows = rows[(stamps <= until) & (stamps > since)]
    return rows


def _heads(
    store: ResultStore,
    columns: Columns,
    x: str,
    y: str,
    simulations: Sequence[str] | None,
    until: float,
    moved: bool,
) -> dict[str, Array]:
    """Return where each simulation is: its newest row; nothing if none has moved."""
    table = store.recent
    first = max(0, table.n - 64 * max(4, len(store.names))) if moved else table.n
    rows = np.arange(first, table.n)
    if np.isfinite(until):
        rows = rows[table.key("stamp")[rows] <= until]
    chosen = store.numbers(simulations)
    if chosen is not None:
        rows = rows[chosen[table.key("simulation")[rows]]]
    rows = rows[::-1]
    numbers, newest = np.unique(table.key("simulation")[rows], return_index=True)
    rows = rows[newest]
    where = table.key("offset")[rows]
    return {
        "head_x": columns.pick(table, rows, x).astype(np.float32),
        "head_y": columns.pick(table, rows, y).astype(np.float32),
        "head_simulation": numbers.astype(np.uint16),
        "head_offset": np.where(where < 0, -1, where),
    }


def from_frames(frames: Table, table: Table, rows: Array, text: str) -> Array:
    """Return a variable of sampled frames for rows: that of the nearest frame before each."""
    values = Columns.pick(frames, slice(None), text)
    here = np.flatnonzero(np.isfinite(values))
    out = np.full(len(rows), np.nan)
    if not len(here):
        return out
    keys = _place(frames, here)
    order = np.argsort(keys, kind="stable")
    keys, values = keys[order], values[here][order]
    wanted = _place(table, rows)
    index = np.searchsorted(keys, wanted, side="right") - 1
    found = (index >= 0) & (keys[np.maximum(index, 0)] >> 44 == wanted >> 44)
    out[found] = values[index[found]]
    return out


def _place(table: Table, rows: Array) -> Array:
    offsets = true_offsets(table.key("offset")[rows])
    return (table.key("simulation")[rows].astype(np.int64) << 44) | offsets
