"""Which version answered which frames, written ahead, so that a replay gives the same answer.

One small file a simulation, ``<folder>/<pipeline>/<operator>/<simulation>.swaps``: the offset up to
which frames were answered (the frontier), and a record for each swap, "from offset n on, number k".
A swap is on the disk before the first frame is answered with the new version. The frontier is
written before each batch is answered, without waiting for the disk: it survives the kill of the
process; after a power failure, the last frames may be answered by a newer version.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import zlib
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bridge.errors import CorruptData

__all__ = ["SwapLedger"]

_MAGIC = b"HRSWAPS1"
_HEAD = struct.Struct("<8sq")
_FRONTIER = struct.Struct("<q")
_SWAP = struct.Struct("<qqQ")  # offset, number, check
_OPEN = 256  # files kept open

Numbers = npt.NDArray[np.int64]


def _check(offset: int, number: int) -> int:
    return zlib.crc32(struct.pack("<qq", offset, number))


class _Book:
    """The ledger of one simulation."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self.frontier = 0
        self._offsets: list[int] = []
        self._numbers: list[int] = []
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        try:
            if not os.fstat(self._fd).st_size:
                os.pwrite(self._fd, _HEAD.pack(_MAGIC, 0), 0)
                os.fsync(self._fd)
            self._head = mmap.mmap(self._fd, _HEAD.size)
            self._read()
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def close(self) -> None:
        self._head.close()
        os.close(self._fd)

    def claim(self, offsets: Numbers, number: int) -> Numbers:
        """Return which number answers each row; those never answered get at least `number`."""
        if _FRONTIER.unpack_from(self._head, 8)[0] != self.frontier:
            # Somebody else served this simulation in between.
            self._read()
        first = int(offsets[0])
        out = np.empty(len(offsets), np.int64)
        old = int(np.searchsorted(offsets, self.frontier)) if first < self.frontier else 0
        if old:
            places = np.searchsorted(self._offsets, offsets[:old], side="right") - 1
            out[:old] = np.asarray(self._numbers, np.int64)[np.maximum(places, 0)]
        if old < len(offsets):
            last = self._numbers[-1] if self._numbers else -1
            number = max(number, last)
            if number > last:
                self._swap(int(offsets[old]), number)
            self.frontier = int(offsets[-1]) + 1
            _FRONTIER.pack_into(self._head, 8, self.frontier)
            out[old:] = number
        return out

    def _swap(self, offset: int, number: int) -> None:
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        try:
            end = _HEAD.size + len(self._offsets) * _SWAP.size
            os.pwrite(self._fd, _SWAP.pack(offset, number, _check(offset, number)), end)
            os.fsync(self._fd)
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)
        self._offsets.append(offset)
        self._numbers.append(number)

    def _read(self) -> None:
        size = os.fstat(self._fd).st_size
        data = os.pread(self._fd, size, 0)
        if size < _HEAD.size or data[:8] != _MAGIC:
            raise CorruptData(
                f"The ledger of swaps {self.path} is damaged, or is another file; remove it "
                "together with the checkpoint to begin anew."
            )
        self.frontier = int(_HEAD.unpack_from(data)[1])
        self._offsets, self._numbers = [], []
        for at in range(_HEAD.size, size - _SWAP.size + 1, _SWAP.size):
            offset, number, check = _SWAP.unpack_from(data, at)
            if check != _check(offset, number):
                if at + _SWAP.size < size:
                    raise CorruptData(
                        f"The ledger of swaps {self.path} is damaged at byte {at}; remove it "
                        "together with the checkpoint to begin anew."
                    )
                break  # torn: nothing was answered with it, and it is written over
            self._offsets.append(offset)
            self._numbers.append(number)


class SwapLedger:
    """The ledgers of one operator; one thread may use it.

    Parameters
    ----------
    folder
        Of all ledgers, on a disk that survives this process, and is the same for all workers.
    pipeline, operator
        Whose.
    """

    def __init__(self, folder: Path, pipeline: str, operator: str) -> None:
        self.folder = folder / (pipeline or "pipeline") / (operator or "operator")
        self._books: OrderedDict[str, _Book] = OrderedDict()

    def claim(self, simulation: str, offsets: npt.NDArray[Any], number: int) -> Numbers:
        """Return the number of the version that answers each row, and write that down.

        Parameters
        ----------
        simulation
            Whose rows.
        offsets
            int64 of shape (n,), increasing, at least one.
        number
            What is in service; 0 for nothing. Rows that were answered before get what they got
            then; all others get this number, or the one before where that is greater.

        Raises
        ------
        CorruptData
            If the file is damaged.
        """
        book = self._books.get(simulation)
        if book is None:
            book = self._books[simulation] = _Book(self.folder / f"{simulation}.swaps")
            if len(self._books) > _OPEN:
                self._books.popitem(last=False)[1].close()
        else:
            self._books.move_to_end(simulation)
        return book.claim(offsets, number)

    def close(self) -> None:
        """Close all files; more than once does no harm."""
        while self._books:
            self._books.popitem()[1].close()
