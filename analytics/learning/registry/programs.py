"""Exported programs: files that are the model of a version, kept under the hash of their bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from analytics.learning.registry import files
from bridge.errors import ConfigError, CorruptData

__all__ = ["Programs"]

_KEY, _HASHED, _ENDING = "program", "sha256:", ".pt2"


class Programs:
    """The programs that versions name as ``program`` among their hyper-parameters.

    In a card, the value is ``sha256:`` and the hash of the file's bytes; in a model that was made,
    the path of the file in the registry.

    Parameters
    ----------
    folder
        Where they are; made when one is stored.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def name_by_hash(self, hyper: Mapping[str, Any]) -> tuple[dict[str, Any], bytes | None]:
        """Return hyper-parameters as a card holds them, and the program, None without one.

        Raises
        ------
        ConfigError
            If the file cannot be read.
        """
        named = dict(hyper)
        path = named.get(_KEY)
        if not isinstance(path, str | Path) or not path:
            return named, None
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise ConfigError(
                f"Cannot read the exported program {path} of the model: {error.strerror}."
            ) from error
        named[_KEY] = _HASHED + hashlib.sha256(data).hexdigest()
        return named, data

    def store(self, data: bytes) -> None:
        """Keep a program; whoever calls this holds the registry's lock."""
        path = self._path(hashlib.sha256(data).hexdigest())
        if not path.exists():
            files.make_folder(self.folder)
            files.write_whole(path, data)

    def find(self, hyper: Mapping[str, Any]) -> dict[str, Any]:
        """Return hyper-parameters to make a model from, with the path of the program, checked.

        Raises
        ------
        CorruptData
            If the program is gone or damaged.
        """
        made = dict(hyper)
        digest = _digest(hyper)
        if digest is None:
            return made
        path = self._path(digest)
        try:
            sound = hashlib.sha256(path.read_bytes()).hexdigest() == digest
        except OSError as error:
            raise CorruptData(
                f"The exported program {path} cannot be read: {error.strerror}. Restore it from "
                "a copy, or promote another version of the same name."
            ) from error
        if not sound:
            raise CorruptData(
                f"The exported program {path} is damaged: its bytes have another hash. Restore it "
                "from a copy, or promote another version of the same name."
            )
        made[_KEY] = str(path)
        return made

    def keep_only(self, hypers: Iterable[Mapping[str, Any]], *, now: float) -> None:
        """Remove the programs that none of these names, an hour after they were stored."""
        wanted = {digest for hyper in hypers if (digest := _digest(hyper)) is not None}
        files.remove_unknown(self.folder.glob(f"[!.]*{_ENDING}"), wanted, now=now)

    def _path(self, digest: str) -> Path:
        return self.folder / f"{digest}{_ENDING}"


def _digest(hyper: Mapping[str, Any]) -> str | None:
    value = hyper.get(_KEY)
    if isinstance(value, str) and value.startswith(_HASHED):
        return value.removeprefix(_HASHED)
    return None
