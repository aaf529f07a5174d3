"""Segments: the memory-mapped files that payloads are written into and read from.

Making the pages of a new file costs ten times what writing to them does, so a segment that is not
needed any more goes into a pool and is taken out again, same file, same mapping, for the next
lease. All the space is taken when a file is made: a full disk is an error of `SegmentStore.take`,
never a bus error in the middle of a write.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection
from pathlib import Path

from bridge.errors import CorruptSegment, StagingError, StorageFull
from bridge.staging.directories import Ownership, default_directory, take_ownership
from bridge.staging.files import describe_full, is_full, replace_file
from bridge.staging.segment_file import Segment, create_segment, segment_name, segment_number
from bridge.staging.segment_map import SegmentMap

__all__ = ["Segment", "SegmentMap", "SegmentStore", "default_directory"]

# Numbers are reserved this many at a time, so that few segments cost a write to the disk.
_STRIDE = 1024


class SegmentStore:
    """The segment files of one stager, in one folder that belongs to it alone.

    One thread at a time may use a store.

    Parameters
    ----------
    directory
        Made if it is not there (mode 0700). Nobody else may have a store in it.
    limit
        Bytes that all segments may have together, those in the pool among them.

    Raises
    ------
    StagingError
        Another stager that is running owns the folder.
    """

    def __init__(self, directory: Path, *, limit: int) -> None:
        self.directory = Path(directory)
        self.limit = limit
        self._ownership: Ownership = take_ownership(self.directory)
        self._used: dict[int, Segment] = {}
        self._pool: list[Segment] = []
        self._allocated = 0
        self._numbers = self.directory / "numbers"
        self._next = self._reserved = self._first_number()

    @property
    def allocated(self) -> int:
        """Bytes of all segment files, those in the pool among them."""
        return self._allocated

    @property
    def pooled(self) -> int:
        """Bytes of the segment files that wait for use."""
        return sum(segment.size for segment in self._pool)

    def take(self, size: int) -> Segment:
        """Return a segment of `size` bytes; what is in it is not defined.

        One of the same size comes out of the pool, the one put back last first; else a file is
        made, and others of the pool are removed if the limit or the disk asks for it.

        Raises
        ------
        StorageFull
            The limit or the disk does not allow for it; nothing has changed then but that the
            pool may be empty.
        """
        if size < 1:
            raise ValueError(f"A segment has at least one byte; {size} were asked for.")
        for index in range(len(self._pool) - 1, -1, -1):
            if self._pool[index].size == size:
                segment = self._pool.pop(index)
                self._used[segment.number] = segment
                return segment
        self._shrink_pool(self.limit - size)
        if self._allocated + size > self.limit:
            raise StorageFull(
                f"The segments in {self.directory} have {self._allocated} bytes and may have "
                f"{self.limit}: another of {size} bytes is over the limit. Raise the stager's "
                "limit, let the streams keep less, or commit what was read."
            )
        segment = self._make(size)
        self._used[segment.number] = segment
        self._allocated += size
        return segment

    def give_back(self, segment: Segment, *, reuse: bool) -> None:
        """Take a segment back, into the pool or, unless `reuse`, out of the world.

        Who has the file mapped keeps what is in it only without `reuse`.
        """
        if self._used.pop(segment.number, None) is not segment:
            raise ValueError(f"{segment!r} was given back already or is of another store.")
        if reuse:
            self._pool.append(segment)
        else:
            self._remove(segment)

    def adopt(self, number: int, size: int) -> Segment:
        """Take up a file that an earlier store of this folder has made.

        Raises
        ------
        CorruptSegment
            The file is missing or has fewer than `size` bytes.
        """
        path = self._path(number)
        try:
            found = path.stat().st_size
        except FileNotFoundError as error:
            raise CorruptSegment(
                f"The segment file {path}, which should have {size} bytes, is missing."
            ) from error
        if found < size:
            raise CorruptSegment(
                f"The segment file {path} has {found} bytes where {size} are expected: "
                "it was cut off."
            )
        if number in self._used:
            raise ValueError(f"The segment {number} of {self.directory} is in use already.")
        segment = Segment(number, path, size)
        self._used[number] = segment
        self._allocated += size
        return segment

    def sweep(self, keep: Collection[int]) -> int:
        """Remove the segment files that are neither in `keep` nor known to this store.

        Returns
        -------
        int
            How many were removed.
        """
        known = {*keep, *self._used, *(segment.number for segment in self._pool)}
        removed = 0
        for number, path in self._files():
            if number not in known:
                path.unlink(missing_ok=True)
                removed += 1
        return removed

    def close(self, *, remove: bool) -> None:
        """Let go of all segments and of the folder; more than once does no harm.

        Parameters
        ----------
        remove
            Whether the segment files are removed, and the folder if nothing else is in it.
            Views that others hold stay valid. The pool is removed in any case.
        """
        if self._ownership.held:  # A forked child holds nothing, and closes nothing of its parent.
            self._shrink_pool(-1)
            if remove:
                for segment in self._used.values():
                    segment.path.unlink(missing_ok=True)
                self._numbers.unlink(missing_ok=True)
                self._ownership.remove()
            self._ownership.release()
        for segment in self._used.values():
            segment.close()
        self._used.clear()
        self._pool.clear()
        self._allocated = 0

    def _path(self, number: int) -> Path:
        return self.directory / segment_name(number)

    def _files(self) -> list[tuple[int, Path]]:
        found = ((segment_number(name), name) for name in os.listdir(self.directory))
        return [(number, self.directory / name) for number, name in found if number is not None]

    def _remove(self, segment: Segment) -> None:
        segment.close()
        segment.path.unlink(missing_ok=True)
        self._allocated -= segment.size

    def _shrink_pool(self, bound: int) -> None:
        """Remove what waits longest until at most `bound` bytes are allocated."""
        while self._pool and self._allocated > bound:
            self._remove(self._pool.pop(0))

    def _first_number(self) -> int:
        """Return a number greater than any that a store of this folder ever gave."""
        above = [number + 1 for number, _ in self._files()]
        with contextlib.suppress(FileNotFoundError, ValueError):
            above.append(int(self._numbers.read_bytes()))
        return max(above, default=0)

    def _make(self, size: int) -> Segment:
        try:
            if self._next >= self._reserved:
                # Ahead of use: a client that still maps a file of before a restart must never
                # take it for a new one, even when that one was removed.
                replace_file(self._numbers, b"%d\n" % (self._reserved + _STRIDE))
                self._reserved += _STRIDE
            segment = Segment(self._next, self._path(self._next), size)
            try:
                create_segment(segment.path, size)
            except OSError as error:
                if not (is_full(error) and self._pool):
                    raise
                self._shrink_pool(-1)
                create_segment(segment.path, size)
        except FileNotFoundError as error:
            raise StagingError(
                f"The directory {self.directory} of the stager is gone: somebody removed it. "
                "Start the stager again."
            ) from error
        except OSError as error:
            if not is_full(error):
                raise
            raise StorageFull(
                f"A segment of {size} bytes cannot be made in {self.directory}: "
                f"{describe_full(error, self.directory)}, {self._allocated} are in segments "
                "already. Free some space, let the streams keep less, or give the stager another "
                "directory."
            ) from error
        self._next += 1
        return segment
