"""Where items lie, as packed numbers: a log of millions of items is no heap of objects."""

from __future__ import annotations

import struct
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


class _Rows:
    """Packed rows, of which the first can be forgotten."""

    __slots__ = ("_data", "_row")

    def __init__(self, row: str) -> None:
        self._row = struct.Struct(row)
        self._data = bytearray()

    def __len__(self) -> int:
        return len(self._data) // self._row.size

    def forget(self, count: int) -> None:
        """Forget the first `count` rows."""
        del self._data[: count * self._row.size]

    def _at(self, index: int) -> tuple[Any, ...]:
        return self._row.unpack_from(self._data, index * self._row.size)


class RecordIndex(_Rows):
    """Records: 48 bytes each."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__("=qqqqQd")

    def append(self, item: StoredRecord) -> None:
        """Add a record at the end."""
        self._data += self._row.pack(
            item.offset, item.segment, item.position, item.length, item.checksum, item.stamp
        )

    def __getitem__(self, index: int) -> StoredRecord:
        return StoredRecord(*self._at(index))


class EntryIndex(_Rows):
    """Frames: 88 bytes an entry of one part; the parts of decomposed frames are kept beside.

    An entry of one row each, as a slow simulation makes them, took 700 bytes as an object.
    """

    __slots__ = ("_more",)

    def __init__(self) -> None:
        super().__init__("=qqdqqqqqQqq")
        self._more: dict[int, tuple[Part, ...]] = {}

    def append(self, item: Entry) -> None:
        """Add an entry at the end."""
        p = item.parts[0]
        self._data += self._row.pack(
            item.offset, item.count, item.stamp, p.segment, p.position, p.capacity, p.row,
            p.count, p.checksum, p.lead, p.start,
        )  # fmt: skip
        if len(item.parts) > 1 or p.ids or p.rank:
            self._more[item.offset] = tuple(item.parts)

    def __getitem__(self, index: int) -> Entry:
        (
            offset, count, stamp, segment, position, capacity, row, rows, checksum, lead, start
        ) = self._at(index)  # fmt: skip
        parts = self._more.get(offset)
        if parts is None:
            part = Part(segment, position, capacity, row, rows, checksum, lead, False, start, 0)
            return Entry(offset, count, [part], stamp)
        return Entry(offset, count, list(parts), stamp)

    def forget(self, count: int) -> None:
        """Forget the first `count` entries."""
        if self._more:
            for index in range(count):
                self._more.pop(self._at(index)[0], None)
        super().forget(count)
