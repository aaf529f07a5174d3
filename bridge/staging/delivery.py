"""A producer's memory of what the stager has not acknowledged yet; free of I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

from bridge.staging.layout import Chunk
from bridge.staging.messages import Part

__all__ = ["OpenChunk", "Sent", "Window"]


class OpenChunk:
    """A chunk that frames are written into, row by row.

    Two threads share it: the simulation's writes rows and then raises `filled`; the I/O thread
    sends rows up to `filled` and then raises `sent`.

    Attributes
    ----------
    chunk
        The arrays.
    segment
        Number of the leased segment; -1 if the bytes must travel.
    first
        Sequence number of row 0.
    filled, sent
        Rows written, and rows sent.
    closed
        No more rows will be written.
    stamp
        Unix time at which the oldest row that is not sent was written.
    inline
        The bytes must travel: they are not in a segment that the stager knows.
    """

    __slots__ = (
        "arrays",
        "capacity",
        "chunk",
        "closed",
        "filled",
        "first",
        "ids",
        "inline",
        "lead",
        "segment",
        "sent",
        "stamp",
        "start",
    )

    def __init__(
        self,
        chunk: Chunk,
        segment: int,
        first: int,
        *,
        lead: int = -1,
        ids: bool = False,
        start: int = 0,
    ) -> None:
        self.chunk = chunk
        self.arrays = chunk.arrays
        self.capacity = chunk.layout.capacity
        self.segment = segment
        self.inline = segment < 0
        self.first = first
        self.filled = 0
        self.sent = 0
        self.closed = False
        self.stamp = 0.0
        self.lead = lead
        self.ids = ids
        self.start = start


class Sent:
    """Rows of a chunk that were sent and not acknowledged yet."""

    __slots__ = ("checksum", "count", "open", "row", "stamp")

    def __init__(self, open_chunk: OpenChunk, row: int, count: int, stamp: float) -> None:
        self.open = open_chunk
        self.row = row
        self.count = count
        self.stamp = stamp
        self.checksum = open_chunk.chunk.checksum(row, count)

    @property
    def sequence(self) -> int:
        """Sequence number of the first row."""
        return self.open.first + self.row

    @property
    def stop(self) -> int:
        """Sequence number after the last row."""
        return self.open.first + self.row + self.count

    @property
    def nbytes(self) -> int:
        """Bytes that travel if the rows are sent inline."""
        layout = self.open.chunk.layout
        return self.count * layout.nbytes // layout.capacity

    def part(self, rank: int) -> Part:
        """Describe the rows where they lie; or as a chunk of their own, if they are sent inline."""
        o = self.open
        if o.inline:
            return Part(
                0, 0, self.count, 0, self.count, self.checksum, o.lead, o.ids, o.start, rank
            )
        return Part(
            o.segment, o.chunk.position, o.capacity, self.row, self.count, self.checksum,
            o.lead, o.ids, o.start, rank,
        )  # fmt: skip

    def last(self) -> tuple[int, float, int]:
        """Return step, time and epoch of the last row."""
        arrays, row = self.open.arrays, self.row + self.count - 1
        return int(arrays["step"][row]), float(arrays["time"][row]), int(arrays["epoch"][row])

    def buffers(self) -> list[Any]:
        """Return the bytes to send along."""
        return [self.open.chunk.pack(self.row, self.count)] if self.open.inline else []


class Window:
    """What was sent, in order, until it is acknowledged.

    Attributes
    ----------
    acknowledged
        Everything below this sequence number is stored.
    inline_bytes
        Bytes that were sent inline and wait for their acknowledgement.
    """

    def __init__(self, acknowledged: int = 0) -> None:
        self.acknowledged = acknowledged
        self.inline_bytes = 0
        self._sent: deque[Sent] = deque()

    def __len__(self) -> int:
        return len(self._sent)

    def add(self, sent: Sent) -> None:
        """Remember rows that are being sent."""
        self._sent.append(sent)
        if sent.open.inline:
            self.inline_bytes += sent.nbytes

    def acknowledge(self, sequence: int) -> list[memoryview]:
        """Forget what is stored; return the buffers that are free for other chunks."""
        self.acknowledged = max(self.acknowledged, sequence)
        free = []
        while self._sent and self._sent[0].stop <= self.acknowledged:
            gone = self._sent.popleft()
            opened = gone.open
            if opened.inline:
                self.inline_bytes -= gone.nbytes
            if opened.segment < 0 and opened.closed and gone.stop == opened.first + opened.filled:
                free.append(opened.chunk.buffer)
        return free

    def unacknowledged(self) -> Iterator[Sent]:
        """Return what must be sent again after a connection was lost, in order."""
        return iter(tuple(self._sent))

    def give_up(self) -> int:
        """Forget what was not acknowledged; return how many rows that was."""
        lost = sum(sent.stop - max(sent.sequence, self.acknowledged) for sent in self._sent)
        self._sent.clear()
        self.inline_bytes = 0
        return lost

    def make_inline(self) -> None:
        """The stager knows the segments no more: what waits must be sent with its bytes."""
        for sent in self._sent:
            sent.open.inline = True
        self.inline_bytes = sum(s.nbytes for s in self._sent)
