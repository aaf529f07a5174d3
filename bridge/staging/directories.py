"""The folder of a stager: where it lies by default, and who owns it.

A folder is owned by the process that holds the lock (``flock``) on the file ``owner`` in it. The
system gives the lock up when that process ends, however it ends; so the next stager can tell
the folder of a dead one from the folder of a living one, and remove it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import threading
import time
import weakref
from pathlib import Path

from bridge.errors import StagingError

__all__ = [
    "Ownership",
    "default_directory",
    "is_in_memory",
    "remove_abandoned",
    "take_ownership",
]

_OWNER = "owner"
# Stands behind the process in the owner file of a folder that may be removed as a whole.
_TEMPORARY = b"temporary"
_RAM = Path("/dev/shm")
_RAM_TYPES = frozenset({"tmpfs", "ramfs"})
# A folder without an owner file is being made right now, or its maker died within microseconds.
_MAKING_SECONDS = 60.0


class Ownership:
    """The claim of this process to one folder, until `release` or the end of the process.

    Parameters
    ----------
    directory
        Made, with its parents, if it is not there; only this user may enter it.
    temporary
        Whether the folder is new and of this process alone, to be removed as a whole.

    Raises
    ------
    StagingError
        Another stager, of this or another process, owns the folder; or it cannot be made.
    """

    def __init__(self, directory: Path, *, temporary: bool = False) -> None:
        self.directory = directory
        self.temporary = temporary
        self._descriptor: int | None = None
        owner = directory / _OWNER
        if temporary:
            # Under another name first: an owner file that nobody holds marks an abandoned folder.
            beside = owner.with_suffix(".new")
            self._descriptor = _lock(beside, _TEMPORARY)
            beside.rename(owner)
        else:
            try:
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._descriptor = _lock(owner)
            except OSError as error:
                raise StagingError(
                    f"The directory {directory} cannot be used for the stager's files: {error}. "
                    "Give the stager a directory that this user may write to."
                ) from error
        _all.add(self)

    @property
    def held(self) -> bool:
        """Whether the claim has not been given up."""
        return self._descriptor is not None

    def release(self) -> None:
        """Give the claim up; more than once does no harm."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def remove(self) -> None:
        """Remove the folder, if it is temporary with everything in it; give the claim up.

        A folder that is not temporary stays if there is anything in it.
        """
        if self.temporary:
            shutil.rmtree(self.directory, ignore_errors=True)
        else:
            (self.directory / _OWNER).unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                self.directory.rmdir()
        self.release()

    def __del__(self) -> None:
        self.release()


_all: weakref.WeakSet[Ownership] = weakref.WeakSet()
# What `default_directory` made, until the store that is meant for it takes it over.
_waiting: dict[Path, Ownership] = {}
_guard = threading.Lock()


def _release_in_child() -> None:
    # A forked child shares the lock: without this the folder of a stager that was killed would
    # count as owned until the last of its children is gone.
    for ownership in list(_all):
        ownership.release()


os.register_at_fork(after_in_child=_release_in_child)


def _lock(path: Path, note: bytes = b"") -> int:
    """Lock the owner file and write down who holds it."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Somebody may have removed the folder as abandoned between the two lines above.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                    os.ftruncate(descriptor, 0)
                    os.pwrite(descriptor, b"%d %b\n" % (os.getpid(), note), 0)
                    return descriptor
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).partition(b" ")[0].decode("ascii", "replace")
            os.close(descriptor)
            raise StagingError(
                f"The directory {path.parent} belongs to another stager that is running "
                f"(process {holder or 'unknown'}). Stop that one, or give this one a directory "
                "of its own."
            ) from None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)


def take_ownership(directory: Path) -> Ownership:
    """Own `directory`, taking over the claim that `default_directory` left for it, if any."""
    with _guard:
        waiting = _waiting.pop(directory, None)
    return Ownership(directory) if waiting is None else waiting


def is_in_memory(path: Path | int) -> bool:
    """Tell whether a path, or an open file, lies in a RAM file system (tmpfs or ramfs)."""
    device = os.stat(path).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    for line in lines.splitlines():
        if line.split(" ", 3)[2] == wanted:
            return line.partition(" - ")[2].split(" ", 1)[0] in _RAM_TYPES
    return False


def default_directory(*, room: int = 0) -> Path:
    """Make a private folder in RAM for the segments of a stager that need not be durable.

    The folder is made in ``/dev/shm`` where that is a RAM file system that has `room` bytes
    free, else in the folder for temporary files. It belongs to this process at once. Folders
    that dead processes of this user left behind are removed on the way.

    Returns
    -------
    pathlib.Path
        A new folder, mode 0700, for one `bridge.staging.segments.SegmentStore`.
    """
    prefix = f"headrace-{os.getuid()}-"
    parents = [Path(tempfile.gettempdir())]
    with contextlib.suppress(OSError):
        if os.access(_RAM, os.W_OK | os.X_OK) and is_in_memory(_RAM):
            parents.insert(0, _RAM)
    for parent in parents:
        remove_abandoned(parent)
    status = os.statvfs(parents[0])
    if status.f_bavail * status.f_frsize < room:
        parents = parents[-1:]
    path = Path(tempfile.mkdtemp(prefix=prefix, dir=parents[0]))
    ownership = Ownership(path, temporary=True)
    with _guard:
        _waiting[path] = ownership
    return path


def remove_abandoned(parent: Path) -> int:
    """Remove the folders in `parent` that `default_directory` made for processes now dead.

    Returns
    -------
    int
        How many were removed.
    """
    removed = 0
    for path in parent.glob(f"headrace-{os.getuid()}-*"):
        try:
            status = os.lstat(path)
            if path.is_symlink() or not path.is_dir() or status.st_uid != os.getuid():
                continue
            owner = path / _OWNER
            if not owner.exists():
                if time.time() - status.st_ctime > _MAKING_SECONDS:
                    shutil.rmtree(path, ignore_errors=True)
                    removed += 1
            elif _TEMPORARY in owner.read_bytes():
                descriptor = _lock(owner, _TEMPORARY)
                shutil.rmtree(path, ignore_errors=True)
                os.close(descriptor)
                removed += 1
        except (StagingError, OSError):
            # It belongs to a living stager, or somebody else removes it just now.
            continue
    return removed
