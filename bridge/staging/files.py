"""What the stager's files have in common: full disks, whole writes, names that survive."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from bridge.errors import StorageFull

__all__ = ["describe_full", "is_full", "replace_file", "sync_directory", "write_at"]

# A quota and a limit on file sizes (RLIMIT_FSIZE) end a write as a full disk does.
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def is_full(error: OSError) -> bool:
    """Tell whether the system refused a write because there is no space for it."""
    return error.errno in _FULL


def describe_full(error: OSError, directory: Path) -> str:
    """Return what `error` means and how much is free, as a piece of a sentence."""
    status = os.statvfs(directory)
    free = status.f_bavail * status.f_frsize
    return f"{os.strerror(error.errno or 0).lower()}; {free} bytes are free there"


def write_at(descriptor: int, data: bytes | bytearray | memoryview, position: int) -> None:
    """Write all of `data` at `position`; the system may take it in several pieces."""
    rest = memoryview(data)
    while rest:
        done = os.pwrite(descriptor, rest, position)
        rest = rest[done:]
        position += done


def sync_directory(directory: Path) -> None:
    """Make the names in `directory` survive a power failure; blocks until they do."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, data: bytes | bytearray) -> None:
    """Put `data` in the place of `path`: after a crash it is the old file or the new one.

    Raises
    ------
    StorageFull
        There is no space for the new file; the old one is as it was.
    """
    beside = path.with_name(path.name + ".new")
    try:
        descriptor = os.open(
            beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )
        try:
            write_at(descriptor, data, 0)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(beside, path)
        sync_directory(path.parent)
    except OSError as error:
        beside.unlink(missing_ok=True)
        if is_full(error):
            raise StorageFull(
                f"{path} cannot be written anew with {len(data)} bytes: "
                f"{describe_full(error, path.parent)}. Free some space, or use another directory."
            ) from error
        raise
