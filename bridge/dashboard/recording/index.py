"""The index of a recording: which files belong to it, and what they hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bridge.errors import ConfigError

__all__ = ["FORMAT", "INDEX", "read_index"]

FORMAT, INDEX = 1, "recording.json"


def read_index(folder: Path) -> dict[str, Any]:
    """Return what the index of a recording says.

    Raises
    ------
    ConfigError
        If there is none, or it was written by another version.
    """
    try:
        index: dict[str, Any] = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"Cannot read the recording in {folder}: {error}.") from error
    wanted = {"format", "started", "seen", "rows", "names", "sizes", "stride", "seq", "pictures"}
    if not isinstance(index, dict) or not wanted <= index.keys() or index["format"] != FORMAT:
        raise ConfigError(f"The recording in {folder} was written by another version.")
    return index
