"""Where items lie, in columns of numbers: a log of millions of items is no heap of objects."""

from __future__ import annotations

from array import array
from typing import Any

import msgspec

from bridge.staging.messages import Entry, Part

__all__ = ["EntryIndex", "RecordIndex", "StoredRecord"]


class StoredRecord(msgspec.Struct, frozen=True):
    """Where one record lies.

    Attributes
    ----------
    offset
        Position in the topic.
    segment, position, length
        Where its bytes are.
    checksum
        XXH3-64 of its bytes.
    stamp
        Unix time in seconds.
    """

    offset: int
    segment: int
    position: int
    length: int
    checksum: int
    stamp: float


class _Columns:
    """Columns of the same length, of which the first rows can be forgotten."""

    __slots__ = ("_columns",)

    def __init__(self, types: str) -> None:
        self._columns: tuple[Any, ...] = tuple(array(t) for t in types)

    def __len__(self) -> int:
        return len(self._columns[0])

    def forget(self, count: int) -> None:
        """Forget the first `count` rows."""
        for column in self._columns:
            del column[:count]


class RecordIndex(_Columns):
    """Records: 48 bytes each."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__("qqqqQd")

    def append(self, item: StoredRecord) -> None:
        """Add a record at the end."""
        row = (
            item.offset, item.segment, item.position, item.length, item.checksum, item.stamp
        )  # fmt: skip
        for column, value in zip(self._columns, row, strict=True):
            column.append(value)

    def __getitem__(self, index: int) -> StoredRecord:
        offset, segment, position, length, checksum, stamp = (c[index] for c in self._columns)
        return StoredRecord(
            int(offset), int(segment), int(position), int(length), int(checksum), stamp
        )


class EntryIndex(_Columns):
    """Frames: 88 bytes an entry of one part; the parts of decomposed frames are kept beside.

    An entry of one row each, as a slow simulation makes them, took 700 bytes as an object.
    """

    __slots__ = ("_more",)

    def __init__(self) -> None:
        super().__init__("qqdqqqqqQqq")
        self._more: dict[int, tuple[Part, ...]] = {}

    def append(self, item: Entry) -> None:
        """Add an entry at the end."""
        p = item.parts[0]
        row = (
            item.offset, item.count, item.stamp, p.segment, p.position, p.capacity, p.row,
            p.count, p.checksum, p.lead, p.start,
        )  # fmt: skip
        for column, value in zip(self._columns, row, strict=True):
            column.append(value)
        if len(item.parts) > 1 or p.ids or p.rank:
            self._more[item.offset] = tuple(item.parts)

    def __getitem__(self, index: int) -> Entry:
        (
            offset, count, stamp, segment, position, capacity, row, rows, checksum, lead, start
        ) = (c[index] for c in self._columns)  # fmt: skip
        parts = self._more.get(offset)
        if parts is None:
            # Arrays of integers give integers.
            part = Part(segment, position, capacity, row, rows, checksum, lead, False, start, 0)
            return Entry(offset, count, [part], stamp)
        return Entry(offset, count, list(parts), stamp)

    def forget(self, count: int) -> None:
        """Forget the first `count` entries."""
        if self._more:
            for offset in self._columns[0][:count]:
                self._more.pop(int(offset), None)
        super().forget(count)
