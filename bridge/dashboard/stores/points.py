"""Points of the reduced space: an even sample of them, and then what came since."""

from __future__ import annotations

import math
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
    if not len(values):
        return None
    span = [float(values.min()), float(values.max())]
    if math.isfinite(span[0]) and math.isfinite(span[1]):
        return span
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

    def pick(rows: Array | slice, text: str) -> Array:
        if frames is not None and columns.of_frames(text):
            every = np.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows
            return from_frames(frames, table, every, text)
        return columns.find(table, rows, text)

    xs, ys = pick(rows, x), pick(rows, y)
    good = np.isfinite(xs)
    good &= np.isfinite(ys)
    versions = columns.find(table, rows, version) if version else None
    if versions is not None:
        good &= versions > 0
    total = int(np.count_nonzero(good))
    left_out = len(good) - total
    stride = store.stride if cursor is None else max(cursor.stride, store.stride)
    if left_out or stride > store.stride or total > limit:
        # Otherwise all of them are wanted, as they lie there; ten times a second, mostly.
        offsets = table.key("offset")[rows]
        chosen, stride = _choose(good, offsets, stride, limit, thin=cursor is None)
        xs, ys = xs[chosen], ys[chosen]
        versions = None if versions is None else versions[chosen]
        rows = rows.start + chosen if isinstance(rows, slice) else rows[chosen]
    after = Cursor(question, store.generation, store.seq, stride, until)
    arrays = {
        "x": xs.astype(np.float32),
        "y": ys.astype(np.float32),
        "colour": pick(rows, colour).astype(np.float32),
        "simulation": table.key("simulation")[rows].copy(),
        "offset": np.maximum(table.key("offset")[rows], -1),
        "stamp": table.key("stamp")[rows] - base,
        "version": np.ones(len(xs), np.uint32) if versions is None else versions.astype(np.uint32),
        "step": table.key("step")[rows].copy(),
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


def _choose(
    good: Array, offsets: Array, stride: int, limit: int, *, thin: bool
) -> tuple[Array, int]:
    """Return which of some rows are sent, as indices, and of how many offsets one is.

    Parameters
    ----------
    thin
        Take a greater stride where there are more than `limit`.
    """
    places = true_offsets(offsets)
    chosen = np.flatnonzero(good & (places % stride == 0))
    while thin and len(chosen) > limit and stride < 1 << 40:
        stride *= 2
        chosen = chosen[places[chosen] % stride == 0]
    return chosen[spread(len(chosen), limit)], stride


def _crowded(store: ResultStore, cursor: Cursor, limit: int, until: float) -> bool:
    """Return whether all points are to be sent anew, since as many may have come as are shown."""
    table, room = store.sample, limit * max(1, cursor.stride // store.stride)

    def count(seq: int, at: float) -> int:
        if np.isfinite(at):
            return int(np.count_nonzero(table.key("stamp") <= at))
        return table.n if seq == store.seq else int(table.key("seq").searchsorted(seq))

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
) -> Array | slice:
    """Return the rows of the sample that a reader has not got yet: their indices, or a slice."""
    table = store.sample
    first = 0
    if cursor is not None and np.isinf(until):
        first = int(table.key("seq").searchsorted(cursor.seq))
    if simulations is None and np.isinf(until):
        return slice(first, table.n)
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
    numbers = table.key("simulation")[first:]
    rows: Array = np.arange(first, table.n)
    chosen = store.numbers(simulations)
    if np.isfinite(until) or chosen is not None:
        wanted = table.key("stamp")[first:] <= until
        if chosen is not None:
            wanted &= chosen[numbers]
        rows, numbers = rows[wanted], numbers[wanted]
    newest = np.full(len(store.names), -1)
    # The last one of each stays.
    newest[numbers] = rows
    found = np.flatnonzero(newest >= 0)
    rows = newest[found]
    return {
        "head_x": columns.find(table, rows, x).astype(np.float32),
        "head_y": columns.find(table, rows, y).astype(np.float32),
        "head_simulation": found.astype(np.uint16),
        "head_offset": np.maximum(table.key("offset")[rows], -1),
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
