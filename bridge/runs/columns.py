"""Columns as the configuration names them: ``novelty``, or one number of several, ``tica[0]``."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from bridge.errors import ConfigError

__all__ = ["pick_column", "root_of"]

_COLUMN = re.compile(r"(?P<root>[^\[\]]+)(\[(?P<index>\d+)\])?")


def root_of(text: str) -> str:
    """Return the name of the column without the index.

    Raises
    ------
    ConfigError
        If the text is neither a name nor a name with an index.
    """
    match = _COLUMN.fullmatch(text)
    if match is None:
        raise ConfigError(f"{text!r} is no column; write its name, or one of its numbers: name[0].")
    return match["root"]


def pick_column(
    columns: Mapping[str, npt.NDArray[np.generic]], text: str
) -> npt.NDArray[np.float64]:
    """Return one number for each frame.

    Parameters
    ----------
    columns
        Name to array of shape (n, ...), flattened to (n, k).
    text
        What to pick; the index may be left out where k is 1.

    Returns
    -------
    array
        float64 of shape (n,).

    Raises
    ------
    ConfigError
        If there is no such column, or it has no such number.
    """
    root = root_of(text)
    if root not in columns:
        near = difflib.get_close_matches(root, columns, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(columns)}."
        raise ConfigError(f"The results have no column {root!r}; {hint}")
    array = columns[root]
    flat = array.reshape(len(array), -1) if array.size else array.reshape(len(array), 0)
    match = _COLUMN.fullmatch(text)
    given = match["index"] if match else None
    if given is None and flat.shape[1] > 1:
        raise ConfigError(
            f"The column {root!r} has {flat.shape[1]} numbers for each frame; say which one, for "
            f"example {root}[0]."
        )
    index = int(given or 0)
    if len(flat) and index >= flat.shape[1]:
        raise ConfigError(
            f"The column {root!r} has {flat.shape[1]} numbers for each frame; there is no "
            f"{text}, counted from 0."
        )
    return flat[:, index].astype(np.float64) if len(flat) else np.zeros(0)
