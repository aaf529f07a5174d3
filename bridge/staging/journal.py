r"""The journal: what the stager must know again after it was killed.

An append-only file, all numbers little-endian::

    0   8s   magic b"HRJOURNL"
    8   u32  version (1)
    12  u32  zero
    16       records, one behind the other:
             4s   mark b"\xffHR\n"
             u32  length of the data
             u32  XXH32 of the data, seeded with the record's position in the file (modulo 2**32)
             ...  data

By the mark, a valid record is found even behind one whose length is damaged; the seed makes a
record valid only where it was written, whatever bytes its data holds. So a torn tail (the process
was killed in the middle of a write: nothing valid follows) is told apart from damage (something
valid follows), which is never cut off in silence.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

import xxhash

from bridge.closing import Closing
from bridge.errors import CorruptSegment, MessageTooLarge, StorageFull, VersionMismatch
from bridge.staging.files import describe_full, is_full, replace_file, write_at

__all__ = ["MAX_RECORD_BYTES", "VERSION", "Journal"]

VERSION = 1
MAX_RECORD_BYTES = 1 << 30

_MAGIC = b"HRJOURNL"
_HEADER = struct.Struct("<8sII")
_MARK = b"\xffHR\n"
_RECORD = struct.Struct("<4sII")
_BEGIN = _HEADER.pack(_MAGIC, VERSION, 0)


class Journal(Closing):
    """One journal file, open for as long as the object is.

    One thread of one process at a time may use it. Records that `append` has returned from
    survive the death of the process; only those that `sync` has returned from survive a power
    failure.

    Parameters
    ----------
    path
        Made (mode 0600) if it is not there.

    Raises
    ------
    CorruptSegment
        The file is not a journal.
    VersionMismatch
        The file was written by a release with another format.
    StorageFull
        There is no space to make the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        # What a rewrite left behind when it was killed.
        self.path.with_name(self.path.name + ".new").unlink(missing_ok=True)
        self._descriptor = self._open()
        self._end = 0
        self._replayed = False
        self._torn = False
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    @property
    def size(self) -> int:
        """Bytes of the file that hold the header and whole records."""
        return self._end

    def replay(self) -> list[bytes]:
        """Read all records, oldest first, and cut a torn tail off the file.

        Raises
        ------
        CorruptSegment
            A record is damaged and valid ones lie behind it; the file is left as it is.
        """
        data = _read(self._descriptor)
        records: list[bytes] = []
        position = _HEADER.size
        while (record := _record_at(data, position)) is not None:
            records.append(record)
            position += _RECORD.size + len(record)
        if position < len(data):
            valid = _find_valid(data, position + 1)
            if valid is not None:
                raise CorruptSegment(
                    f"The journal {self.path} is damaged: the record at position {position} does "
                    f"not match its checksum, yet a valid one follows at position {valid}. "
                    "Restore the file from a copy, or remove its directory to begin anew."
                )
            os.ftruncate(self._descriptor, position)
        self._end = position
        self._replayed = True
        self._torn = False
        return records

    def append(self, data: bytes | bytearray | memoryview) -> None:
        """Write one record behind the others; see `append_many`."""
        self.append_many((data,))

    def append_many(self, records: Sequence[bytes | bytearray | memoryview]) -> None:
        """Write records behind the others, with one call of the system.

        All of them are in the file when this returns, none when it raises. A kill in the middle
        leaves the first few of them.

        Raises
        ------
        StorageFull
            The disk is full.
        MessageTooLarge
            A record has more than `MAX_RECORD_BYTES`.
        """
        if not self._replayed:
            self.replay()
        data = _pack(records, self._end)
        try:
            if self._torn:
                self._cut()
            write_at(self._descriptor, data, self._end)
        except OSError as error:
            self._torn = True
            self._cut()
            if is_full(error):
                raise StorageFull(
                    f"The journal {self.path} cannot take {len(data)} bytes more: "
                    f"{describe_full(error, self.path.parent)}. Free some space, or give the "
                    "stager another directory."
                ) from error
            raise
        self._end += len(data)

    def sync(self) -> None:
        """Bring all records to the disk; blocks until they are there."""
        os.fdatasync(self._descriptor)

    def rewrite(self, records: Iterable[bytes | bytearray | memoryview]) -> None:
        """Put these records in the place of all others, on the disk when this returns.

        After a crash, or an error, the file is the old one or the new one.

        Raises
        ------
        StorageFull
            There is no space for the new file.
        MessageTooLarge
            A record has more than `MAX_RECORD_BYTES`.
        """
        data = _BEGIN + _pack(records, _HEADER.size)
        replace_file(self.path, data)
        self.close()
        self._descriptor = self._open()
        self._end = len(data)
        self._replayed = True
        self._torn = False

    def close(self) -> None:
        """Close the file; more than once does no harm."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _open(self) -> int:
        return os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def _begin(self) -> None:
        """Check the header, or write it where the file ends before it does."""
        head = os.pread(self._descriptor, _HEADER.size, 0)
        if len(head) < _HEADER.size and _BEGIN.startswith(head):
            replace_file(self.path, _BEGIN)
            self.close()
            self._descriptor = self._open()
            head = _BEGIN
        magic, version, zero = _HEADER.unpack(head.ljust(_HEADER.size, b"\xff"))
        if magic != _MAGIC or zero:
            raise CorruptSegment(
                f"{self.path} does not begin as a journal does (position 0): it is damaged, or a "
                "file of something else."
            )
        if version != VERSION:
            raise VersionMismatch(
                f"The journal {self.path} is of format version {version}; this Headrace reads "
                f"version {VERSION}. Read it with the release that wrote it."
            )
        self._end = _HEADER.size

    def _cut(self) -> None:
        os.ftruncate(self._descriptor, self._end)
        self._torn = False


def _pack(records: Iterable[bytes | bytearray | memoryview], position: int) -> bytearray:
    out = bytearray()
    for data in records:
        length = memoryview(data).nbytes
        if length > MAX_RECORD_BYTES:
            raise MessageTooLarge(
                f"A record of the journal has at most {MAX_RECORD_BYTES} bytes; {length} came."
            )
        seed = (position + len(out)) & 0xFFFFFFFF
        out += _RECORD.pack(_MARK, length, xxhash.xxh32_intdigest(data, seed))
        out += data
    return out


def _read(descriptor: int) -> bytes:
    size = os.fstat(descriptor).st_size
    pieces = []
    position = 0
    while position < size:
        piece = os.pread(descriptor, size - position, position)
        if not piece:
            break
        pieces.append(piece)
        position += len(piece)
    return b"".join(pieces)


def _record_at(data: bytes, position: int) -> bytes | None:
    """Return the data of the record at `position`, None if there is no valid one."""
    begin = position + _RECORD.size
    if begin > len(data):
        return None
    mark, length, digest = _RECORD.unpack_from(data, position)
    if mark != _MARK or length > min(MAX_RECORD_BYTES, len(data) - begin):
        return None
    record = data[begin : begin + length]
    if xxhash.xxh32_intdigest(record, position & 0xFFFFFFFF) != digest:
        return None
    return record


def _find_valid(data: bytes, position: int) -> int | None:
    """Return where the first valid record at or behind `position` is, None if there is none."""
    while (position := data.find(_MARK, position)) >= 0:
        if _record_at(data, position) is not None:
            return position
        position += 1
    return None
