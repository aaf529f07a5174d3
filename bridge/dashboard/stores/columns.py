"""Which numbers a name stands for: a column of the results, one of its numbers, a time, a guess."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from bridge.dashboard.stores.results import ResultStore, true_offsets
from bridge.dashboard.stores.table import Table
from bridge.errors import ConfigError
from bridge.runs.columns import root_of

__all__ = ["Columns", "version_column"]

Array = npt.NDArray[Any]

KEYS = ("time", "step", "epoch", "wall", "offset", "simulation")
"""Names that every row has a value for; ``wall`` is Unix time in seconds."""

_MEANT = {
    "novelty": ("novelty", "lof", "outlier", "error"),
    "energy": ("potential_energy", "energy"),
}


def version_column(name: str, known: Mapping[str, int]) -> str:
    """Return the column that says which model made another one; empty if there is none.

    ``tica_version`` is that of ``tica[0]``, and ``latent_version`` that of ``latent_error``.
    """
    root = name.partition("[")[0]
    for stem in (root, root.rpartition("_")[0]):
        if stem and f"{stem}_version" in known:
            return f"{stem}_version"
    return ""


class Columns:
    """Finds columns by their names.

    Parameters
    ----------
    results
        The rows.
    frames
        Variables of the frames themselves, name to their numbers in a frame.
    """

    def __init__(self, results: ResultStore, frames: Mapping[str, int] | None = None) -> None:
        self._results = results
        self._frames = dict(frames or {})

    def meant(self, text: str) -> str:
        """Return the column that a common word stands for: ``novelty``, ``energy``."""
        root = root_of(text)
        known = {**self._frames, **self._results.columns}
        if root in known or text in KEYS or text not in _MEANT:
            return text
        for part in _MEANT[text]:
            for name, size in known.items():
                if part in name and not name.endswith("_version"):
                    return name if size == 1 else f"{name}[0]"
        return text

    def of_frames(self, text: str) -> bool:
        """Return whether a column is a variable of the frames, and not one of the results."""
        return text not in KEYS and root_of(text) in self._frames.keys() - self._results.columns

    def check(self, text: str) -> None:
        """Raise if there is no such column, though there are some.

        Raises
        ------
        ConfigError
            The message says which ones there are.
        """
        known = {**self._frames, **self._results.columns}
        root = root_of(text)
        if text in KEYS or (not self._results.sizes and root not in known):
            return  # nothing came yet: it may be there later
        if root not in known:
            wide = self._results.sizes.get(root)
            if wide:
                raise ConfigError(
                    f"The column {root!r} has {wide} numbers for each frame, too many to be kept "
                    "by the dashboard; add an operator that picks the wanted ones."
                )
            names = ", ".join([*known, *KEYS][:40])
            raise ConfigError(f"There is no column {root!r}; there are: {names}.")
        index = _index_of(text)
        if index is None and known[root] > 1:
            raise ConfigError(
                f"The column {root!r} has {known[root]} numbers for each frame; say which one, "
                f"for example {root}[0]."
            )
        if (index or 0) >= known[root]:
            raise ConfigError(
                f"The column {root!r} has {known[root]} numbers for each frame; there is no "
                f"{text}, counted from 0."
            )

    @staticmethod
    def pick(table: Table, rows: Any, text: str) -> Array:
        """Return one number for each of some rows, NaN where it is missing.

        Parameters
        ----------
        table
            The rows.
        rows
            Slice, mask or indices.
        text
            Name, checked.

        Returns
        -------
        array
            float64 of shape (n,).
        """
        return Columns.find(table, rows, text).astype(np.float64)

    @staticmethod
    def find(table: Table, rows: Any, text: str) -> Array:
        """Return the same as `pick` as it lies in the table: of its own dtype, and maybe a view."""
        if text == "offset":
            return true_offsets(table.key("offset")[rows])
        if text in KEYS:
            values: Array = table.key("stamp" if text == "wall" else text)[rows]
            return values
        root = root_of(text)
        index = _index_of(text) or 0
        if root not in table.columns or index >= table.columns[root].shape[1]:
            return np.full(len(table.key("seq")[rows]), np.nan, np.float32)
        numbers: Array = table.column(root)[rows, index]
        return numbers


def _index_of(text: str) -> int | None:
    inside = text.partition("[")[2].removesuffix("]")
    return int(inside) if inside else None
