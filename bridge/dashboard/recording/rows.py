"""Rows of results in files: those that are new in a file more, all of them anew when thinned."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bridge.dashboard.stores.memory import Memory
from bridge.dashboard.stores.results import true_offsets
from bridge.dashboard.stores.table import KEYS
from bridge.errors import ConfigError

__all__ = ["RowFiles", "load_arrays", "save_arrays"]

Array = npt.NDArray[Any]

MOST_PARTS = 40
"""Files after which all rows are written into one."""


def save_arrays(path: Path, arrays: dict[str, Array]) -> int:
    """Write arrays whole or not at all; returns the bytes."""
    beside = path.with_name(path.name + ".part")
    with beside.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    os.replace(beside, path)
    return path.stat().st_size


def load_arrays(path: Path) -> dict[str, Array]:
    """Read arrays.

    Raises
    ------
    ConfigError
        If the file is missing or damaged.
    """
    try:
        # Opened here: numpy leaves the file of a damaged archive open.
        with path.open("rb") as data, np.load(data, allow_pickle=False) as file:
            return dict(file)
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise ConfigError(f"Cannot read the recording {path}: {error}.") from error
    except Exception as error:  # a damaged archive raises what it likes
        raise ConfigError(f"The recording {path} is damaged: {error}.") from error


class RowFiles:
    """Writes the even sample of a run's results.

    Parameters
    ----------
    folder
        Of the recording.
    limit
        Bytes of all files; of more rows, every second, fourth... offset is written.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.names: list[str] = []
        self.nbytes = 0
        self._folder = folder
        self._limit = limit
        self._generation = -1
        self._seq = 0
        self._stride = 1
        self._count = 0
        self._token = secrets.token_hex(4)

    def write(self, memory: Memory) -> list[str]:
        """Write what is new; returns the files that are not needed any more."""
        with memory.lock:
            store = memory.results
            anew = store.generation != self._generation or len(self.names) >= MOST_PARTS
            first = 0 if anew else int(np.searchsorted(store.sample.key("seq"), self._seq))
            arrays = {f"key/{k}": store.sample.key(k)[first:].copy() for k in KEYS}
            arrays |= {
                f"column/{k}": store.sample.column(k)[first:].copy() for k in store.sample.columns
            }
            generation, seq = store.generation, store.seq
            if anew:
                row = store.sample.nbytes / max(1, len(store.sample.key("seq")))
                self._stride = store.stride
                while store.sample.n * row * store.stride / self._stride > self._limit:
                    self._stride *= 2
        offsets = true_offsets(arrays["key/offset"])
        keep = offsets % self._stride == 0
        if not anew and not keep.any():
            return []
        if not keep.all():
            arrays = {k: v[keep] for k, v in arrays.items()}
        old = self.names if anew else []
        self._count += 1
        name = f"rows-{self._token}-{generation}-{self._count}.npz"
        written = save_arrays(self._folder / name, arrays)
        self.names = [name] if anew else [*self.names, name]
        self.nbytes = written if anew else self.nbytes + written
        self._generation, self._seq = generation, seq
        if self.nbytes > self._limit:
            self._generation = -1  # all anew next time, with fewer rows
        return old
