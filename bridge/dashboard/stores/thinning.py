"""Fewer rows of a line without losing its spikes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["extremes"]


def extremes(values: npt.NDArray[Any], limit: int) -> npt.NDArray[np.int64]:
    """Return which rows to keep: the least and the greatest of each stretch, in their order.

    The first and the last row stay, so that a line is as long as it was.

    Parameters
    ----------
    values
        Finite numbers of shape (n,).
    limit
        Rows to keep at most, and at least 4.

    Returns
    -------
    array
        Ascending indices; all of them where there are `limit` rows or fewer.
    """
    n = len(values)
    if n <= max(4, limit):
        return np.arange(n)
    width = -(-n // max(1, limit // 2 - 1))
    stretches = -(-n // width)
    padded = np.resize(values, stretches * width)
    # What is beyond the end repeats the last row, which changes no extreme of its stretch.
    padded[n:] = values[-1]
    table = padded.reshape(stretches, width)
    first = np.arange(stretches) * width
    kept = np.concatenate([first + table.argmin(1), first + table.argmax(1), [0, n - 1]])
    return np.unique(np.minimum(kept, n - 1))
