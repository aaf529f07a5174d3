"""The key files of a run: which ones the stager uses, and which ones everybody else does."""

from __future__ import annotations

from pathlib import Path

from bridge.errors import ConfigError
from bridge.transports.curve import ClientKeys, KeyPair

__all__ = ["ALLOWED", "CLIENT", "STAGER", "client_keys", "stager_keys"]

STAGER, CLIENT, ALLOWED = "stager", "client", "allowed"
"""Names of the key files, without their endings, and of the folder of those who are let in."""


def stager_keys(folder: str | Path) -> tuple[KeyPair | None, Path | None]:
    """Return the stager's key pair and its allow-list, None twice without a folder.

    Raises
    ------
    ConfigError
        If a file is missing, damaged, or can be read by others.
    """
    if not folder:
        return None, None
    return KeyPair.load(Path(folder) / f"{STAGER}.key"), Path(folder) / ALLOWED


def client_keys(folder: str | Path) -> ClientKeys | None:
    """Return the keys with which to reach the stager, None without a folder.

    Raises
    ------
    ConfigError
        If a file is missing, damaged, or can be read by others.
    """
    if not folder:
        return None
    place = Path(folder)
    if not place.is_dir():
        raise ConfigError(f"The folder of keys {place} does not exist; make it with headrace keys.")
    return ClientKeys.load(place / f"{CLIENT}.key", place / f"{STAGER}.pub")
