"""Files that several processes share: whole or not at all, one writer at a time."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import time
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from bridge.errors import ConfigError, RegistryError, StorageFull

__all__ = [
    "STALE",
    "append_line",
    "lock",
    "make_folder",
    "remove_stale",
    "remove_unknown",
    "write_whole",
]

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_PART = ".part"

STALE = 3600.0
"""Seconds after which a part of a file is taken for one that a killed writer left behind."""


def make_folder(path: Path) -> None:
    """Make a folder, and those above it; does nothing where it is there.

    Raises
    ------
    ConfigError
        If that is not allowed, or something else has the name.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"Cannot make the folder {path}: {error.strerror}.") from error


def write_whole(path: Path, data: bytes) -> None:
    """Put `data` into a file: after a kill at any moment it is there as a whole, or not at all.

    Survives a power failure once this has returned. Several processes may do it at once; the last
    one counts.

    Raises
    ------
    StorageFull
        There is no space; nothing is left of the attempt.
    ConfigError
        The folder cannot be written.
    """
    # A name of its own for each writer: two never write into the same part.
    part = path.with_name(f".{path.name}-{os.getpid()}-{secrets.token_hex(4)}{_PART}")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            _write(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(part, path)
        _sync_folder(path.parent)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise _explain(error, path, len(data)) from error


def append_line(path: Path, line: bytes) -> None:
    """Put one line behind those of a file; whoever calls this holds the file's lock.

    What a killed writer left of a last line is cut off first. The line survives a power failure
    once this has returned.

    Raises
    ------
    StorageFull
        There is no space; the file is as it was.
    ConfigError
        The file cannot be written.
    """
    try:
        is_new = not path.exists()
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        try:
            size = _whole_lines(descriptor)
            if size < os.fstat(descriptor).st_size:
                os.ftruncate(descriptor, size)
            try:
                _write(descriptor, line + b"\n")
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, size)
                raise
        finally:
            os.close(descriptor)
        if is_new:
            _sync_folder(path.parent)
    except OSError as error:
        raise _explain(error, path, len(line) + 1) from error


@contextlib.contextmanager
def lock(path: Path, *, timeout: float = 30.0) -> Iterator[None]:
    """Keep others out, threads and processes of all machines that share the folder.

    The system gives the lock back when its holder dies, however it does.

    Raises
    ------
    RegistryError
        If somebody else held it for `timeout` seconds, or the file system knows no locks.
    ConfigError
        If the file cannot be made.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise _explain(error, path, 0) from error
    try:
        deadline = time.monotonic() + timeout
        wait = 0.001
        while not _try_lock(descriptor, path):
            if time.monotonic() > deadline:
                raise RegistryError(
                    f"Waited {timeout:.0f} s for the lock {path}; another process has it. See who "
                    "has the file open (lsof or fuser tell), and end it if it hangs."
                )
            # A lock of a file on a shared disk wakes nobody: there is only asking again.
            time.sleep(wait)
            wait = min(2 * wait, 0.05)
        yield
    finally:
        os.close(descriptor)


def remove_stale(folder: Path, *, now: float) -> None:
    """Remove what writers that were killed left in a folder, an hour and more ago."""
    for part in folder.glob(f".*{_PART}"):
        with contextlib.suppress(OSError):
            if now - part.stat().st_mtime > STALE:
                part.unlink()


def remove_unknown(
    paths: Iterable[Path], known: Collection[str], *, at_once: Collection[str] = (), now: float
) -> None:
    """Remove the files whose name, without its ending, nobody knows.

    One that is new may be about to be known, and stays for an hour, unless it is among `at_once`.
    """
    for path in paths:
        with contextlib.suppress(OSError):
            is_old = path.stem in at_once or now - path.stat().st_mtime > STALE
            if path.stem not in known and is_old:
                path.unlink()


def _try_lock(descriptor: int, path: Path) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise RegistryError(
            f"The file system of {path} has no locks ({error.strerror}); put the registry where "
            "there are, such as a local disk, NFS 4, or Lustre mounted with 'flock'."
        ) from error
    return True


def _whole_lines(descriptor: int) -> int:
    """Return how many bytes of a file are whole lines."""
    end = os.fstat(descriptor).st_size
    while end:
        start = max(0, end - 4096)
        at = os.pread(descriptor, end - start, start).rfind(b"\n")
        if at >= 0:
            return start + at + 1
        end = start
    return 0


def _write(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _explain(error: OSError, path: Path, size: int) -> StorageFull | ConfigError:
    if error.errno in _FULL:
        said = os.strerror(error.errno or 0).lower()
        return StorageFull(
            f"{path} cannot take {size} bytes: {said}. Nothing was half written. Free some space, "
            "or let the registry keep fewer versions ('keep')."
        )
    return ConfigError(f"Cannot write {path}: {error.strerror}. Check who may write there.")
