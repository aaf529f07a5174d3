"""What was seen of the order of rows that migrate, so that it is not looked at in each frame."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import numpy.typing as npt
import xxhash

__all__ = ["RowOrders", "hash_ids"]

MANY_ROWS = 20_000
"""Rows from which on it costs less to see that the order is the one of before (a million rows:
0.3 ms) than to see that each row comes once (1.5 ms)."""

_TOPICS = 16


class RowOrders:
    """Remembers, topic by topic, the ids of the newest frame whose blocks had each row once.

    By their hashes: as with the bytes of frames, two that are alike are taken for the same. One
    thread at a time uses it.
    """

    def __init__(self) -> None:
        self._hashes: OrderedDict[str, list[int]] = OrderedDict()

    def known(self, topic: str, total: int) -> list[int]:
        """Return the hashes of the ids of each block of the newest frame; none for few rows."""
        return self._hashes.get(topic, []) if total >= MANY_ROWS else []

    def remember(self, topic: str, hashes: list[int], total: int) -> None:
        """Note that blocks with these ids have each row once."""
        if total < MANY_ROWS:
            return
        self._hashes[topic] = hashes
        self._hashes.move_to_end(topic)
        if len(self._hashes) > _TOPICS:
            self._hashes.popitem(last=False)


def hash_ids(ids: npt.NDArray[np.int64]) -> int:
    """Return the XXH3-64 of a block's ids."""
    return xxhash.xxh3_64_intdigest(np.ascontiguousarray(ids).data)
