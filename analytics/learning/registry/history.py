"""What was served under a name: an append-only file, one JSON object a line."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from analytics.learning.registry.files import append_line
from bridge.errors import ConfigError, CorruptData

__all__ = ["History", "Served", "Token", "predecessors"]

Token = tuple[int, int, int]


class Served(msgspec.Struct, frozen=True):
    """A version that began to be served under a name.

    Attributes
    ----------
    number
        Which one in the history of the name, from 1.
    version
        Hash of its contents.
    at
        Unix time in seconds at which that was.
    reason
        A sentence.
    kind
        Whether it was promoted, or went back to after another one had been.
    metrics
        Figures that it had then, on frames that it had not learned from.
    author
        Who did it: a person, or a pipeline and its operator.
    """

    number: int
    version: str
    at: float
    reason: str
    kind: Literal["promotion", "rollback"] = "promotion"
    metrics: dict[str, float] = {}
    author: str = ""


class _Line(msgspec.Struct, frozen=True):
    check: str
    served: msgspec.Raw


class History:
    """The history of one name; any number of processes may read it while one appends.

    Parameters
    ----------
    path
        The file; it need not be there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._name = os.fspath(path)
        # Both in one: threads that read at once must not mix theirs.
        self._known: tuple[Token, tuple[Served, ...]] = ((0, 0, 0), ())

    def token(self) -> Token:
        """Return something that changes when the history does; asks the file system alone."""
        try:
            status = os.stat(self._name)
        except FileNotFoundError:
            return (0, 0, 0)
        except OSError as error:
            raise ConfigError(f"Cannot look at {self.path}: {error.strerror}.") from error
        return (status.st_ino, status.st_size, status.st_mtime_ns)

    def read(self) -> tuple[Served, ...]:
        """Return all entries, oldest first; read anew only when the file has changed.

        A last line that is not whole does not count: its writer is writing it, or was killed.

        Raises
        ------
        CorruptData
            If a line is damaged.
        ConfigError
            If the file cannot be read.
        """
        token = self.token()
        known, entries = self._known
        if token != known:
            # What was written since the look at the file is read now and once more next time.
            entries = self._read() if token[1] else ()
            self._known = (token, entries)
        return entries

    def append(self, entry: Served) -> None:
        """Put an entry behind the others; whoever calls this holds the lock of the name.

        Raises
        ------
        StorageFull, ConfigError
            If it cannot be written; the history is as it was.
        """
        body = msgspec.json.encode(entry)
        append_line(self.path, msgspec.json.encode(_Line(_check(body), msgspec.Raw(body))))

    def _read(self) -> tuple[Served, ...]:
        try:
            data = self.path.read_bytes()
        except OSError as error:
            raise ConfigError(f"Cannot read {self.path}: {error.strerror}.") from error
        lines = data.split(b"\n")[:-1]
        return tuple(self._decode(line, number) for number, line in enumerate(lines, 1))

    def _decode(self, line: bytes, number: int) -> Served:
        try:
            stored = msgspec.json.decode(line, type=_Line)
            if stored.check == _check(bytes(stored.served)):
                plain = msgspec.json.decode(stored.served)
                metrics = plain.get("metrics", {})
                plain["metrics"] = {k: float("nan") if v is None else v for k, v in metrics.items()}
                entry = msgspec.convert(plain, Served)
                if entry.number == number:
                    return entry
                said = f"it has the number {entry.number}"
            else:
                said = "its checksum does not match"
        except (msgspec.MsgspecError, UnicodeDecodeError, AttributeError) as error:
            said = str(error).rstrip(".")
        raise CorruptData(
            f"Line {number} of the history {self.path} is damaged or is something else: {said}. "
            "Restore the file from a copy; or cut it off before that line, and promote a version "
            "anew."
        )


def predecessors(entries: Sequence[Served]) -> list[Served]:
    """Return what a rollback would go back to, the newest last; the one in service is left out.

    A promotion stands on what was served before it. Going back takes off what stood on the version
    gone back to, so that a second rollback goes further back, and not forward again.
    """
    stack: list[Served] = []
    for entry in entries:
        if entry.kind == "rollback":
            places = [i for i, one in enumerate(stack) if one.version == entry.version]
            # The newest of them: the same version may have been promoted several times.
            del stack[places[-1] if places else len(stack) :]
        stack.append(entry)
    return stack[:-1]


def _check(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()[:16]
