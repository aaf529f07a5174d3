"""Keys for encrypted connections to stagers: files in a folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from bridge.transports.curve import ClientKeys

__all__ = ["KEYS_ENVIRONMENT", "find_keys", "load_keys", "store_keys"]

KEYS_ENVIRONMENT = "HEADRACE_KEYS"
"""Environment variable that names a folder of keys, beside ``HEADRACE_STAGER``."""


def load_keys(folder: Path) -> Any:
    """Return the keys for an encrypted connection, from a folder made by ``headrace keys``.

    Raises
    ------
    ConfigError
        If a file is missing, damaged, or can be read by others.
    """
    return ClientKeys.load(folder / "client.key", folder / "stager.pub")


def find_keys(keys: Any = None) -> Any:
    """Return keys that are given, else those of the folder that ``HEADRACE_KEYS`` names, or None.

    Raises
    ------
    ConfigError
        As for `load_keys`.
    """
    folder = os.environ.get(KEYS_ENVIRONMENT, "")
    return load_keys(Path(folder)) if folder and not keys else keys


def store_keys(keys: Any, folder: Path) -> None:
    """Write keys into a folder from which `load_keys` reads them; the secret one with mode 0600."""
    keys.store(folder / "client.key", folder / "stager.pub")
