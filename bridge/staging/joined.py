"""Small records of an answer in one buffer, since each buffer costs more than they do.

See `bridge.staging.messages.FetchedJoined`: how they lie in it is told here alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from bridge.errors import ProtocolError

__all__ = ["AT", "SMALL", "JoinedRecords", "split_records"]

AT = 8
"""Each record begins at a multiple of so many bytes."""

SMALL = 16 << 10
"""Bytes up to which a record shares a buffer with others."""

_ZEROS = bytes(AT)


class JoinedRecords:
    """Records on their way out, in their order."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._sizes: list[int] = []

    def add(self, data: bytes) -> bool:
        """Take a record; returns whether it is small, and not sent in a buffer of its own."""
        size = len(data)
        if size > SMALL:
            self._sizes.append(-1)
            return False
        self._sizes.append(size)
        self._parts += (data, _ZEROS[: -size % AT])
        return True

    def close(self) -> tuple[list[Any], list[int]]:
        """Return the shared buffer, if any, and the sizes of all records, -1 for large ones."""
        return ([b"".join(self._parts)], self._sizes) if self._parts else ([], [])


def split_records(joined: Sequence[int], arrived: Iterator[memoryview]) -> Iterator[memoryview]:
    """Return the records of an answer, one after the other.

    Parameters
    ----------
    joined
        Sizes; empty where each record has a buffer of its own.
    arrived
        Buffers that came; the shared one is taken out at once.

    Raises
    ------
    ProtocolError
        If the shared buffer is not as long as the sizes say.
    """
    if not joined:
        return arrived
    shared = next(arrived, memoryview(b""))
    views: list[memoryview | None] = []
    at = 0
    for size in joined:
        if size < 0:
            views.append(None)
            continue
        views.append(shared[at : at + size])
        at += size + -size % AT
    if at != len(shared):
        raise ProtocolError(
            f"The stager announced records of {at} bytes together; {len(shared)} came."
        )
    return (next(arrived) if view is None else view for view in views)
