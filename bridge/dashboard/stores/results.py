"""Rows of results: evenly thinned over the whole run, and the newest ones as they are."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bridge.codec import BatchLayout, join_batches, open_batch, read_layout
from bridge.dashboard.stores.table import Block, Table
from bridge.frames import FrameBatch

__all__ = ["WIDEST", "ResultStore", "true_offsets"]

Array = npt.NDArray[Any]

WIDEST, WIDTH = 32, 256
"""Numbers of one column, and of all columns together, that are kept of each frame."""

LAYOUTS = 1000
"""Layouts of records that are known to be readable, at most."""

_KINDS = "biuf"
_OF_FRAMES = ("offset", "step", "time", "epoch")

_Origin = tuple[int, float, int, int]
"""Number of the simulation, stamp, the place in which it came, and its rows."""


def true_offsets(offsets: Array) -> Array:
    """Return the offsets that rows once had, those of frames that are gone included."""
    return np.where(offsets < 0, -1 - offsets, offsets)


def _count(values: Array, stamps: Array) -> list[tuple[int, float, int]]:
    """Return versions in some rows: which, since when, and in how many; 0 for none."""
    if not len(values):
        return []
    if values[0] >= 0 and values[0] == values.max() == values.min():
        # Mostly a single one.
        return [(int(values[0]), float(stamps.min()), len(values))]
    values = np.where(values > 0, values, 0).astype(np.int64)
    order = np.argsort(values, kind="stable")
    numbers, starts, counts = np.unique(values[order], return_index=True, return_counts=True)
    begins = np.minimum.reduceat(stamps[order], starts)
    return list(zip(numbers.tolist(), begins.tolist(), counts.tolist(), strict=True))


class ResultStore:
    """What the pipelines computed of the frames, in bounded memory.

    Every `stride`-th offset of each simulation is kept; when there are too many rows, the stride is
    doubled and every second row forgotten. So the rows are an even sample of all frames, and
    histograms of them are not biased. Beside them, the newest rows are kept as they came.

    Parameters
    ----------
    limit
        Rows of the even sample at most.
    recent
        Newest rows that are kept as they are.

    Attributes
    ----------
    names
        Simulations, in the order of their numbers.
    sample, recent
        The rows.
    stride
        One offset in so many is in the sample.
    generation
        Grows whenever rows of the sample were forgotten or changed.
    life
        Tells this store from another one, so that a cursor is not used with the wrong one.
    seq
        Rows that came; the next one gets this number.
    sizes
        Column to its numbers in a frame, those that are not kept included.
    columns
        The same of the columns that are kept.
    """

    def __init__(self, limit: int = 200_000, recent: int = 50_000) -> None:
        self.names: list[str] = []
        self.sample = Table()
        self.recent = Table()
        self.stride = 1
        self.generation = 0
        self.life = secrets.randbits(32)
        self.seq = 0
        self.sizes: dict[str, int] = {}
        self.columns: dict[str, int] = {}
        self._limit = max(16, limit)
        self._recent = max(16, recent)
        self._numbers: dict[str, int] = {}
        self._newest: dict[int, int] = {}
        self._versions: dict[str, tuple[int, int, dict[int, tuple[float, int, int]]]] = {}
        self._came = 0
        # What is not in the tables yet: records of one kind, and arrays of the same columns, whose
        # `seq` is the place in which they came.
        self._layouts: dict[tuple[bytes, int], tuple[BatchLayout, int]] = {}
        self._kinds: dict[Any, int] = {}
        self._fresh = itertools.count()
        self._records: dict[int, tuple[list[tuple[BatchLayout, memoryview]], list[_Origin]]] = {}
        self._pending: dict[tuple[Any, ...], list[Block]] = {}

    @property
    def nbytes(self) -> int:
        """Bytes of all rows."""
        return self.sample.nbytes + self.recent.nbytes

    def number(self, simulation: str) -> int:
        """Return the number of a simulation, which is given one if it has none."""
        found = self._numbers.get(simulation)
        if found is None:
            found = self._numbers[simulation] = len(self.names)
            self.names.append(simulation)
        return found

    def numbers(self, simulations: Sequence[str] | None) -> Array | None:
        """Return which simulations are meant, as a table of booleans; None for all."""
        if simulations is None:
            return None
        chosen = np.zeros(max(1, len(self.names)), np.bool_)
        for name in simulations:
            if name in self._numbers:
                chosen[self._numbers[name]] = True
        return chosen

    # -------------------------------------------------------------------- adding

    def add(self, batch: FrameBatch, stamp: float, simulation: str = "") -> None:
        """Take in results; their arrays must stay valid until `flush`.

        Parameters
        ----------
        batch
            Results.
        stamp
            Unix time in seconds at which they were stored.
        simulation
            Its name, if not that of the batch.
        """
        frames = (batch.offsets, batch.steps, batch.times, batch.epochs)
        arrays: dict[str, Array] = dict(zip(_OF_FRAMES, frames, strict=True))
        arrays |= batch.columns
        self._came += 1
        number = self.number(simulation or batch.simulation)
        self._gather(arrays, [(number, stamp, self._came, len(batch))])

    def add_record(self, data: memoryview, stamp: float, simulation: str) -> None:
        """Take in a record of results as it is stored; it must stay valid until `flush`.

        Raises
        ------
        HeadraceError
            If it cannot be read.
        """
        text, payload = open_batch(data)
        known = self._layouts.get((text, len(payload)))
        if known is None:
            layout = read_layout(text, payload)
            if len(self._layouts) >= LAYOUTS:
                self._layouts.clear()
                self._kinds.clear()
            if layout.kind not in self._kinds:
                # Never a number of before: records may wait under it.
                self._kinds[layout.kind] = next(self._fresh)
            known = layout, self._kinds[layout.kind]
            self._layouts[text, len(payload)] = known
        layout, kind = known
        self._came += 1
        alike = self._records.get(kind)
        if alike is None:
            alike = self._records[kind] = ([], [])
        alike[0].append((layout, payload))
        alike[1].append((self.number(simulation), stamp, self._came, layout.n))

    def _gather(self, arrays: dict[str, Array], origins: list[_Origin]) -> None:
        """Take in arrays of several batches: number, stamp, place and rows of each."""
        n = len(arrays["offset"])
        if not n:
            return
        numbers, stamps, came, rows = zip(*origins, strict=True)
        keys = {name: arrays.pop(name) for name in _OF_FRAMES}
        which = np.repeat(np.arange(len(rows)), rows)
        keys["simulation"] = np.array(numbers, np.uint16)[which]
        keys["stamp"] = np.array(stamps)[which]
        keys["seq"] = np.array(came)[which]
        columns = {k: v.reshape(n, -1) for k, v in arrays.items() if self._takes(k, v)}
        signature = tuple((k, v.shape[1]) for k, v in columns.items())
        self._pending.setdefault(signature, []).append((keys, columns))

    def _takes(self, name: str, values: Array) -> bool:
        if name not in self.sizes:
            width = 0
            if values.dtype.kind in _KINDS:
                width = int(np.prod(values.shape[1:], dtype=np.int64))
            self.sizes[name] = width
            if 0 < width <= WIDEST and sum(self.columns.values()) + width <= WIDTH:
                self.columns[name] = width
        return name in self.columns

    def flush(self) -> int:
        """Put what was added into the tables; returns how many rows there were."""
        # Those of one kind together: one by one, the arrays of a record cost more than its rows.
        for batches, origins in self._records.values():
            self._gather(join_batches(batches), origins)
        self._records.clear()
        count = sum(self._append(parts) for parts in self._pending.values())
        self._pending.clear()
        if self.recent.n > 2 * self._recent:
            self.recent.keep(np.arange(self.recent.n - self._recent, self.recent.n))
        return count

    def _append(self, parts: list[Block]) -> int:
        keys, columns = parts[0]
        if len(parts) > 1:
            keys = {k: np.concatenate([p[0][k] for p in parts]) for k in keys}
            columns = {k: np.concatenate([p[1][k] for p in parts]) for k in columns}
            order = np.argsort(keys["seq"], kind="stable")
            keys = {k: v[order] for k, v in keys.items()}
            columns = {k: v[order] for k, v in columns.items()}
        new = self._find_new(keys["simulation"], keys["offset"])
        if new is not None:
            keys = {k: v[new] for k, v in keys.items()}
            columns = {k: v[new] for k, v in columns.items()}
        n = len(keys["offset"])
        keys["seq"] = np.arange(self.seq, self.seq + n)
        self.seq += n
        if any(v.dtype != np.float32 for v in columns.values()):
            with np.errstate(over="ignore", invalid="ignore"):
                columns = {k: v.astype(np.float32, copy=False) for k, v in columns.items()}
        self.put(keys, columns)
        return n

    def _find_new(self, numbers: Array, offsets: Array) -> Array | None:
        """Return which rows were not there yet, as indices; None for all.

        Some come again to a dashboard that took up the recording of the one before it.
        """
        newest = self._newest
        new = []
        # Rows of a tenth of a second: a loop over them is done before numpy has begun.
        for row, (number, offset) in enumerate(
            zip(numbers.tolist(), offsets.tolist(), strict=True)
        ):
            if offset > newest.get(number, -1):
                newest[number] = offset
                new.append(row)
        return None if len(new) == len(offsets) else np.array(new, np.int64)

    def put(self, keys: Mapping[str, Array], columns: Mapping[str, Array]) -> None:
        """Take in rows that are in arrays already, and have their numbers."""
        self.recent.extend(keys, columns)
        if self.stride > 1:
            rows = np.flatnonzero(true_offsets(keys["offset"]) % self.stride == 0)
            keys = {k: v[rows] for k, v in keys.items()}
            columns = {k: v[rows] for k, v in columns.items()}
        self.sample.extend(keys, columns)
        while self.sample.n > self._limit and self.stride < 1 << 40:
            self.stride *= 2
            self.sample.keep(true_offsets(self.sample.key("offset")) % self.stride == 0)
            self.generation += 1

    def versions(self, column: str, since: int = -1) -> list[dict[str, Any]]:
        """Return versions in a column of the sample: since when, and in how many rows.

        Parameters
        ----------
        column
            Its name.
        since
            Only of those with rows behind this `seq`. A model that is learned anew each second has
            many thousands in a day, and few of them in one message.
        """
        generation, first, found = self._versions.get(column, (-1, 0, {}))
        if generation != self.generation:
            # Rows were forgotten, or changed.
            first, found = 0, {}
        if column in self.sample.columns and first < self.sample.n:
            values = self.sample.column(column)[first:, 0]
            for number, begin, count in _count(values, self.sample.key("stamp")[first:]):
                # What has changed stands last.
                stamp, before, _ = found.pop(number, (begin, 0, 0))
                found[number] = min(stamp, begin), before + count, self.seq
            self._versions[column] = (self.generation, self.sample.n, found)
        changed = []
        for number, (stamp, count, at) in reversed(found.items()):
            if at <= since:
                break
            if number > 0:
                changed.append({"version": number, "stamp": stamp, "count": count})
        return sorted(changed, key=lambda one: one["version"])

    def load(
        self, keys: Mapping[str, Array], columns: Mapping[str, Array], sizes: Mapping[str, int]
    ) -> None:
        """Take up the rows of a recording."""
        for name, size in sizes.items():
            self.sizes[name] = size
            self.columns.pop(name, None)
            if name in columns:
                self.columns[name] = size
        self.put(keys, columns)
        self.seq = max(self.seq, int(keys["seq"].max(initial=-1)) + 1)
        numbers, offsets = keys["simulation"], keys["offset"]
        for number in np.unique(numbers).tolist():
            newest = int(offsets[numbers == number].max())
            self._newest[number] = max(newest, self._newest.get(number, -1))

    def forget_frames(self, simulation: str) -> None:
        """Note that the frames of a simulation are gone: its offsets begin anew."""
        number = self._numbers.get(simulation)
        if number is None:
            return
        self.flush()
        self._newest.pop(number, None)
        for table in (self.sample, self.recent):
            rows = table.key("simulation") == number
            offsets = table.key("offset")
            offsets[rows] = np.where(offsets[rows] < 0, offsets[rows], -1 - offsets[rows])
        self.generation += 1
