"""Mapping of segment files: the stager maps its own, clients keep a few mapped at a time.

A mapping is handed out as a memoryview and lives as long as anything refers to it: a slice,
an array, a frame. It is never closed by hand (that would fail while views exist, or pull the
memory from under them); forgetting one drops a reference and no more. Unlinking the file changes
nothing for those who have it mapped.
"""

from __future__ import annotations

import mmap
import os
import re
import stat
from collections import OrderedDict
from pathlib import Path

from bridge.errors import CorruptSegment
from bridge.staging.directories import is_in_memory

__all__ = ["SegmentMap", "map_segment"]

_NAME = re.compile(r"[0-9]{10,}\.segment")


def map_segment(path: str | Path, size: int, *, write: bool) -> memoryview:
    """Map the first `size` bytes of a segment file, shared with all who map it.

    Parameters
    ----------
    path
        A regular file called like a segment; anything else is refused, since clients are told
        the path by a peer.
    size
        In bytes; the file must have at least as many.
    write
        Whether the view is writable. In a RAM file system all its pages are then made present
        at once, which costs less than a page fault for each of them.

    Returns
    -------
    memoryview
        `size` bytes; the mapping goes when the last reference to the view or a part of it does.

    Raises
    ------
    CorruptSegment
        The file is missing, too short, or not a segment.
    """
    name = os.path.basename(path)
    if not _NAME.fullmatch(name):
        raise CorruptSegment(f"{path} is not called like a segment file and is not mapped.")
    try:
        descriptor = os.open(
            path, (os.O_RDWR if write else os.O_RDONLY) | os.O_CLOEXEC | os.O_NOFOLLOW
        )
    except FileNotFoundError as error:
        raise CorruptSegment(
            f"The segment file {path} does not exist: it was released in the meantime, or it "
            "lies on another node."
        ) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size < size:
            raise CorruptSegment(
                f"The segment file {path} has {status.st_size} bytes where {size} are expected: "
                "it was cut off."
            )
        # On a disk populating would read, and make dirty, what nobody has asked for yet.
        populate = mmap.MAP_POPULATE if write and is_in_memory(descriptor) else 0
        mapping = mmap.mmap(
            descriptor,
            size,
            flags=mmap.MAP_SHARED | populate,
            prot=mmap.PROT_READ | (mmap.PROT_WRITE if write else 0),
        )
    finally:
        os.close(descriptor)
    return memoryview(mapping)


class SegmentMap:
    """The mappings that a client keeps, least recently used forgotten first.

    One thread at a time may use a map. Each mapping holds one file descriptor.

    Parameters
    ----------
    count
        How many mappings are kept; those that are still in use elsewhere live on without it.
    """

    def __init__(self, *, count: int = 64) -> None:
        if count < 1:
            raise ValueError(f"A segment map keeps at least one mapping; {count} were asked for.")
        self.count = count
        self._views: OrderedDict[tuple[str, bool], memoryview] = OrderedDict()

    def get(self, path: str | Path, size: int, *, write: bool = False) -> memoryview:
        """Return the `size` bytes of a segment file, mapped now or before.

        Parameters
        ----------
        path, size
            As the stager told them.
        write
            Whether the view is writable; readers map read-only.

        Raises
        ------
        CorruptSegment
            The file is missing, too short, or not a segment.
        """
        key = (str(path), write)
        view = self._views.get(key)
        if view is not None and len(view) == size:
            self._views.move_to_end(key)
            return view
        view = map_segment(path, size, write=write)
        self._views[key] = view
        self._views.move_to_end(key)
        while len(self._views) > self.count:
            self._views.popitem(last=False)
        return view

    def forget(self, path: str | Path) -> None:
        """Forget the mappings of one file, as when the stager has released it."""
        for write in (False, True):
            self._views.pop((str(path), write), None)

    def clear(self) -> None:
        """Forget all mappings, as when another stager has taken the place of the one before."""
        self._views.clear()

    def __len__(self) -> int:
        return len(self._views)

    def __contains__(self, path: object) -> bool:
        return any((str(path), write) in self._views for write in (False, True))
