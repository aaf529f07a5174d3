"""Time series of results: thinned where they are old, as they came where they are new."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bridge.dashboard.stores.columns import Columns
from bridge.dashboard.stores.points import Cursor, ask, extent
from bridge.dashboard.stores.results import ResultStore
from bridge.dashboard.stores.table import Table
from bridge.dashboard.stores.thinning import extremes
from bridge.errors import ConfigError

__all__ = ["series"]

Array = npt.NDArray[Any]

AXES = ("time", "wall", "step")


def series(
    store: ResultStore,
    columns: Columns,
    wanted: Sequence[str],
    *,
    simulations: Sequence[str] | None = None,
    x: str = "time",
    limit: int = 2000,
    since: str | None = None,
    at: float | None = None,
    base: float = 0.0,
    frames: Table | None = None,
    between: Sequence[float] | None = None,
) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return series, see `bridge.dashboard.feed.Feed.series`."""
    if x not in AXES:
        raise ConfigError(f"The axis of a series is one of {', '.join(AXES)}; it is {x!r}.")
    low, high = (-np.inf, np.inf) if between is None else (float(v) for v in between)
    if not low < high:
        raise ConfigError(
            f"A stretch goes from a smaller to a greater number, not {low} to {high}."
        )
    names = [columns.meant(text) for text in wanted]
    for text in names:
        columns.check(text)
    of_frames = [text for text in names if columns.of_frames(text)]
    of_results = [text for text in names if text not in of_frames]
    question = ask(
        tuple(names), tuple(simulations or ()), simulations is None, x, limit, low, high, store.life
    )
    cursor = Cursor.read(since, question)
    until = np.inf if at is None else at
    stride = int(frames.key("seq")[-1]) + 1 if frames is not None and frames.n else 0
    if cursor is not None:
        # New rows come as they are; all are sent anew, thinned, after so many.
        most = max(1, 3 * limit * len(store.names) // len(names))
        behind = (cursor.seq + cursor.stride) // most != (store.seq + stride) // most
        cursor = None if behind or cursor.at != until else cursor
    listed: list[dict[str, Any]] = []
    arrays: dict[str, Array] = {}
    parts: list[tuple[Table, list[str]]] = []
    if of_results:
        # The newest rows are there as they came; of what is older, the sample.
        first = int(store.recent.key("seq")[0]) if store.recent.n else store.seq
        parts.append((_both(store, first, cursor, of_results), of_results))
    if of_frames and frames is not None:
        parts.append((_tail(frames, None if cursor is None else cursor.stride), of_frames))
    for table, texts in parts:
        inside = _within(table, x, (low + base, high + base) if x == "wall" else (low, high))
        _series_of(table, inside, texts, store, simulations, x, limit, until, base, listed, arrays)
    after = Cursor(question, 0, store.seq, stride, until)
    meta = {
        "cursor": str(after),
        "reset": cursor is None,
        "x": x,
        "stamp0": base,
        "columns": names,
        "series": listed,
        "stride": store.stride,
        "sampled": store.stride > 1,
    }
    return meta, arrays


def _within(table: Table, x: str, span: tuple[float, float]) -> Array:
    """Return the rows whose place on the axis lies in a stretch."""
    if span == (-np.inf, np.inf):
        return np.arange(table.n)
    places = Columns.pick(table, np.arange(table.n), x)
    return np.flatnonzero((places >= span[0]) & (places <= span[1]))


def _series_of(
    table: Table,
    rows: Array,
    texts: Sequence[str],
    store: ResultStore,
    simulations: Sequence[str] | None,
    x: str,
    limit: int,
    until: float,
    base: float,
    listed: list[dict[str, Any]],
    arrays: dict[str, Array],
) -> None:
    """Add the series of some rows, one for each simulation and column."""
    chosen = store.numbers(simulations)
    if chosen is not None:
        rows = rows[chosen[table.key("simulation")[rows]]]
    if np.isfinite(until):
        rows = rows[table.key("stamp")[rows] <= until]
    if not len(rows):
        return
    numbers = table.key("simulation")[rows]
    order = np.argsort(numbers, kind="stable")
    rows, numbers = rows[order], numbers[order]
    found, starts = np.unique(numbers, return_index=True)
    stops = [*starts[1:], len(rows)]
    ordered = sorted(zip(found, starts, stops, strict=True), key=lambda f: store.names[f[0]])
    for number, start, stop in ordered:
        mine = rows[start:stop]
        for text in texts:
            v = Columns.pick(table, mine, text)
            some = np.flatnonzero(np.isfinite(v))
            if not len(some):
                continue
            kept = some[extremes(v[some], limit)]
            index = len(listed)
            xs = Columns.pick(table, mine[kept], x)
            arrays[f"x{index}"] = xs - base if x == "wall" else xs
            arrays[f"y{index}"] = v[kept].astype(np.float32)
            arrays[f"e{index}"] = table.key("epoch")[mine[kept]]
            listed.append(
                {
                    "simulation": store.names[number],
                    "column": text,
                    "index": index,
                    "points": len(xs),
                    "total": len(some),
                    "thinned": "minmax" if len(kept) < len(some) else "none",
                    "stride": store.stride,
                    "range": extent(arrays[f"y{index}"]),
                }
            )


def _both(store: ResultStore, first: int, cursor: Cursor | None, texts: Sequence[str]) -> Table:
    """Return the rows behind a cursor, of the sample up to row number `first` and then all."""
    begin = cursor.seq if cursor is not None else 0
    roots = {text.partition("[")[0] for text in texts}
    out = Table()
    for table, low, high in (
        (store.sample, begin, first),
        (store.recent, max(begin, first), store.seq),
    ):
        seqs = table.key("seq")
        rows = slice(*np.searchsorted(seqs, [low, max(low, high)]).tolist())
        out.extend(
            {k: v[: table.n][rows] for k, v in table.keys.items()},
            {k: v[: table.n][rows] for k, v in table.columns.items() if k in roots},
        )
    return out


def _tail(table: Table, seq: int | None) -> Table:
    """Return the rows from a number on."""
    if not seq:
        return table
    rows = slice(int(np.searchsorted(table.key("seq"), seq)), table.n)
    out = Table()
    out.extend(
        {k: v[: table.n][rows] for k, v in table.keys.items()},
        {k: v[: table.n][rows] for k, v in table.columns.items()},
    )
    return out
