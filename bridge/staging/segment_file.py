"""One segment: a file of fixed size, made with all its pages and mapped by who uses it.

A mapping is handed out as a memoryview and lives as long as anything refers to it: a slice,
an array, a frame. It is never closed by hand (that would fail while views exist, or pull the
memory from under them); forgetting one drops a reference and no more. Unlinking the file changes
nothing for those who have it mapped.
"""

from __future__ import annotations

import errno
import mmap
import os
import re
import stat
import sys
from pathlib import Path

from bridge.errors import CorruptSegment
from bridge.staging.directories import is_in_memory
from bridge.staging.files import sync_directory, write_at

__all__ = ["Segment", "create_segment", "map_segment", "segment_name", "segment_number"]

_NAME = re.compile(r"([0-9]{10,})\.segment")
_ZEROS = memoryview(bytes(1 << 18))


def segment_name(number: int) -> str:
    """Return what the file of a segment is called."""
    return f"{number:010d}.segment"


def segment_number(name: str) -> int | None:
    """Return the number of the segment whose file is called `name`, None if it is none."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else None


def create_segment(path: Path, size: int) -> None:
    """Make a segment file and all its pages, or nothing at all; only this user may open it.

    Raises
    ------
    OSError
        There is no space for it, or the path cannot be used.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        if is_in_memory(descriptor):
            # Pages that exist are mapped three times as fast as pages that are only reserved,
            # and making them this way costs no more than reserving them (decision 0002).
            for position in range(0, size, len(_ZEROS)):
                write_at(descriptor, _ZEROS[: size - position], position)
        else:
            os.posix_fallocate(descriptor, 0, size)
    except OSError:
        # What the disk did take would be of use to nobody.
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
    sync_directory(path.parent)


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
        The file is missing, too short, not a segment, or of another user.
    """
    name = os.path.basename(path)
    if segment_number(name) is None:
        raise CorruptSegment(f"{path} is not called like a segment file and is not mapped.")
    try:
        # Without O_NONBLOCK a named pipe would keep us waiting for its other end.
        descriptor = os.open(
            path,
            (os.O_RDWR if write else os.O_RDONLY) | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK,
        )
    except FileNotFoundError as error:
        raise CorruptSegment(
            f"The segment file {path} does not exist: it was released in the meantime, or it "
            "lies on another node."
        ) from error
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
            raise
        raise CorruptSegment(
            f"The segment file {path} cannot be opened and is not mapped: {error.strerror}."
        ) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise CorruptSegment(f"{path} is not a regular file and is not mapped.")
        if status.st_size < size:
            raise CorruptSegment(
                f"The segment file {path} has {status.st_size} bytes where {size} are expected: "
                "it was cut off."
            )
        # On a disk populating would read, and make dirty, what nobody has asked for yet.
        populate = mmap.MAP_POPULATE if write and is_in_memory(descriptor) else 0
        flags = mmap.MAP_SHARED | populate
        protection = mmap.PROT_READ | (mmap.PROT_WRITE if write else 0)
        if sys.version_info >= (3, 13):
            mapping = mmap.mmap(descriptor, size, flags=flags, prot=protection, trackfd=False)
        else:
            mapping = mmap.mmap(descriptor, size, flags=flags, prot=protection)
    finally:
        os.close(descriptor)
    return memoryview(mapping)


class Segment:
    """One file of fixed size that the store has given out.

    Attributes
    ----------
    number
        Identifies the file; no other file of the same folder ever has it.
    path
        Where the file lies.
    size
        In bytes.
    """

    __slots__ = ("_view", "number", "path", "size")

    def __init__(self, number: int, path: Path, size: int) -> None:
        self.number = number
        self.path = path
        self.size = size
        self._view: memoryview | None = None

    @property
    def view(self) -> memoryview:
        """The bytes, writable; mapped at the first use.

        Raises
        ------
        CorruptSegment
            The file is missing or was cut off.
        """
        if self._view is None:
            self._view = map_segment(self.path, self.size, write=True)
        return self._view

    def sync(self) -> None:
        """Bring to the disk what any process has written; blocks until it is there."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Drop the mapping; views handed out before stay valid, a later `view` maps anew."""
        self._view = None

    def __repr__(self) -> str:
        return f"Segment({self.number}, {str(self.path)!r}, size={self.size})"
