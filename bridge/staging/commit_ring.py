"""Commits that a producer writes into mapped memory instead of sending them one by one.

Where nobody waits for frames nobody needs to hear of a commit at once; but a message wakes two
threads at either end, each of which takes a core from the simulation and the caches that it has
filled. So the producer writes it into a ring, and the stager takes it out when it wakes for
something else: before it carries out whatever it is asked, so that nobody sees less than if the
commit had been sent, and a few times a second. While somebody waits for frames, or for room,
`CommitRing.wanted` says so, and commits are sent as messages. One process writes, the other reads;
both look at the same file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import xxhash

from bridge.errors import ProtocolError

__all__ = ["RING_BYTES", "CommitRing"]

RING_BYTES = 1 << 14
"""Bytes of a ring: about 80 commits. What finds no room in it is sent."""

_HEAD, _TAIL, _WANTED = 0, 8, 16  # of numbers of 8 bytes; each has a cache line of its own
_DATA = 192  # bytes before the records
_LENGTH = struct.Struct("<II")
_ROUND = 8


class CommitRing:
    """One end of a ring.

    Parameters
    ----------
    view
        The file's bytes, writable.
    new
        Make it an empty one; the stager does that before it tells of it.
    """

    def __init__(self, view: memoryview, *, new: bool = False) -> None:
        # Aligned numbers of 8 bytes are written and read in one go.
        self._numbers: npt.NDArray[np.uint64] = np.frombuffer(view[:_DATA], np.uint64)
        self._data = view[_DATA:]
        self._room = len(self._data) // _ROUND * _ROUND
        if new:
            self._numbers[:] = 0

    @property
    def wanted(self) -> bool:
        """Whether somebody waits, so that commits are to be sent."""
        return bool(self._numbers[_WANTED])

    @wanted.setter
    def wanted(self, value: bool) -> None:
        self._numbers[_WANTED] = value

    def __bool__(self) -> bool:
        """Whether there is something to take out."""
        return bool(self._numbers[_HEAD] != self._numbers[_TAIL])

    def put(self, data: bytes) -> bool:
        """Write a record; False, and nothing, if there is no room for it."""
        head, tail = int(self._numbers[_HEAD]), int(self._numbers[_TAIL])
        size = _padded(len(data))
        at = head % self._room
        # A record lies in one piece: what is left over at the end is passed over.
        skip = self._room - at if at + size > self._room else 0
        if head + skip + size - tail > self._room:
            return False
        if skip:
            _LENGTH.pack_into(self._data, at, 0, 0)
            at = 0
        _LENGTH.pack_into(self._data, at, len(data), xxhash.xxh32_intdigest(data))
        start = at + _LENGTH.size
        self._data[start : start + len(data)] = data
        self._numbers[_HEAD] = head + skip + size
        return True

    def look(self) -> Iterator[bytes]:
        """Yield records in their order; each is taken out when the next one is asked for.

        Raises
        ------
        ProtocolError
            If the other side wrote what is no ring.
        """
        tail, head = int(self._numbers[_TAIL]), int(self._numbers[_HEAD])
        if not 0 <= head - tail <= self._room or (head | tail) % _ROUND:
            raise ProtocolError(f"A ring of commits goes from {tail} to {head}, which cannot be.")
        while tail < head:
            at = tail % self._room
            length, check = _LENGTH.unpack_from(self._data, at)
            if not length:
                tail += self._room - at
                self._numbers[_TAIL] = tail
                continue
            size = _padded(length)
            if at + size > self._room:
                raise ProtocolError(f"A ring of commits has a record of {length} bytes at {at}.")
            start = at + _LENGTH.size
            data = bytes(self._data[start : start + length])
            if xxhash.xxh32_intdigest(data) != check:
                # On some processors the numbers may be seen before what they tell of.
                return
            yield data
            tail += size
            self._numbers[_TAIL] = tail


def _padded(length: int) -> int:
    return -(-(_LENGTH.size + length) // _ROUND) * _ROUND
