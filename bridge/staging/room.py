"""Where a producer's next chunk may lie: in leased segments, or in memory if bytes must travel."""

from __future__ import annotations

import time
from collections import deque

from bridge.schema import StreamSchema
from bridge.staging.layout import ChunkLayout, chunk_layout, rows_for
from bridge.staging.messages import StreamOptions
from bridge.staging.segments import SegmentMap

__all__ = ["Room"]

INLINE_WINDOW = 64 << 20
"""Bytes that may travel without being acknowledged, unless a stream's capacity is less."""

MAX_SEGMENT = 16 << 20
GATHERED = 16
"""Rows of a chunk, where several frames are gathered before they are sent: readers have those that
follow each other in one chunk as one batch."""

BUSY = 0.1
"""A segment filled in less than this many seconds is followed by one of twice its size."""


class _Leased:
    """A segment to write into."""

    __slots__ = ("number", "since", "size", "used", "view")

    def __init__(self, number: int, view: memoryview, size: int) -> None:
        self.number = number
        self.view = view
        self.size = size
        self.used = 0
        self.since = time.monotonic()


class Room:
    """Finds places for chunks; `take` is the simulation thread's, the rest the I/O thread's.

    Attributes
    ----------
    wants_lease
        Another segment should be asked for.
    """

    def __init__(self, schema: StreamSchema, options: StreamOptions, *, mapped: bool) -> None:
        self.wants_lease = mapped
        self._schema = schema
        self._options = options
        self._mapped = mapped
        self._maps = SegmentMap(count=64)
        self._leases: deque[_Leased] = deque()
        self._current: _Leased | None = None
        self._next_size = 0
        self._pool: deque[memoryview] = deque()
        self._out = 0
        self._window = max(1, min(INLINE_WINDOW, options.capacity))

    @property
    def leases_waiting(self) -> int:
        """Segments that are ready to be used."""
        return len(self._leases)

    def next_size(self) -> int:
        """Bytes that the next segment should have; 0 leaves it to the stager."""
        return self._next_size

    # ------------------------------------------------------- simulation thread

    def take(
        self, rows: int, lead: int, ids: bool, inline_bytes: int, *, several: bool = False
    ) -> tuple[memoryview, int, int, int] | None:
        """Return buffer, position, segment number (-1 if the bytes must travel) and capacity.

        Parameters
        ----------
        rows
            Rows that the chunk must have; 0 for as many as suit.
        inline_bytes
            Bytes that travel at present.
        several
            Even large frames shall share a chunk.
        """
        if not self._mapped:
            return self._take_memory(rows, lead, ids, inline_bytes)
        while True:
            current = self._current
            if current is not None:
                layout = self._fitting(current, rows, lead, ids, GATHERED if several else 1)
                if layout is not None:
                    position = current.used
                    current.used += layout.nbytes
                    return current.view, position, current.number, layout.capacity
                self._used_up(current)
            if not self._leases:
                self.wants_lease = True
                return None
            self._current = self._leases.popleft()
            self._current.since = time.monotonic()
            self.wants_lease = True

    def _fitting(
        self, current: _Leased, rows: int, lead: int, ids: bool, least: int
    ) -> ChunkLayout | None:
        left = current.size - current.used
        capacity = rows or max(least, rows_for(self._schema, current.size))
        layout = chunk_layout(self._schema, capacity, lead=lead, ids=ids)
        if layout.nbytes <= left:
            return layout
        if rows:
            return None
        # The last chunk of a segment takes what is left.
        capacity = min(capacity, left * capacity // layout.nbytes)
        while capacity > 0:
            layout = chunk_layout(self._schema, capacity, lead=lead, ids=ids)
            if layout.nbytes <= left:
                return layout
            capacity -= 1 + capacity // 64
        return None

    def _used_up(self, current: _Leased) -> None:
        if not current.used:
            # A block may be larger than the segment that was leased for others.
            self._next_size = current.size * 2
        elif time.monotonic() - current.since < BUSY:
            self._next_size = max(current.size, min(current.size * 2, MAX_SEGMENT))
        self._current = None

    def _take_memory(
        self, rows: int, lead: int, ids: bool, inline_bytes: int
    ) -> tuple[memoryview, int, int, int] | None:
        capacity = rows or rows_for(self._schema, self._window)
        size = chunk_layout(self._schema, capacity, lead=lead, ids=ids).nbytes
        if inline_bytes and inline_bytes + 2 * size > self._window:
            return None
        while self._pool:
            buffer = self._pool.popleft()
            if len(buffer) >= size:
                return buffer, 0, -1, capacity
        return memoryview(bytearray(size)), 0, -1, capacity

    # -------------------------------------------------------------- I/O thread

    def add_lease(self, number: int, path: str, size: int) -> None:
        """Map a segment that the stager leased."""
        self._leases.append(_Leased(number, self._maps.get(path, size, write=True), size))

    def give_back(self, buffer: memoryview) -> None:
        """Keep a buffer whose bytes have arrived, for another chunk."""
        if len(self._pool) < 64:
            self._pool.append(buffer)

    def drop_leases(self, *, mapped: bool) -> None:
        """Forget what another stager leased."""
        self._leases.clear()
        self._current = None
        self._mapped = mapped
        self.wants_lease = mapped
