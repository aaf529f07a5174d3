"""The rows that a network is given, and what becomes of those that are not finite."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from analytics.features.inputs import check_finite
from bridge.errors import ConfigError, SchemaError
from bridge.frames import FrameBatch

__all__ = ["Nonfinite", "check_nonfinite", "finite_rows", "rows_of"]

Array = npt.NDArray[Any]
Nonfinite = Literal["error", "nan"]

_LARGEST = float(np.finfo(np.float32).max)


def check_nonfinite(value: Nonfinite) -> Nonfinite:
    """Return the parameter, or raise a `ConfigError`."""
    if value not in get_args(Nonfinite):
        raise ConfigError(f"The parameter 'nonfinite' must be 'error' or 'nan'; it is {value!r}.")
    return value


def rows_of(batch: FrameBatch, names: Sequence[str], operator: str) -> Array:
    """Return one column as it is, or several side by side as float32 of shape (n, k).

    Raises
    ------
    SchemaError
        If one is missing, or is no real number.
    """
    columns = []
    for name in names:
        if name not in batch:
            raise SchemaError(
                f"{operator} finds no column {name!r} (its parameter 'input') in the frames of "
                f"{batch.simulation!r}; there are: {', '.join(batch.columns) or 'none'}."
            )
        column = batch[name]
        if column.dtype.kind not in "fiub":
            raise SchemaError(
                f"{operator} needs real numbers in the column {name!r} (its parameter 'input'); "
                f"{batch.simulation!r} sends dtype {column.dtype}."
            )
        columns.append(column)
    if len(columns) == 1:
        return columns[0]
    n = len(batch)
    flat = [c.reshape(n, int(np.prod(c.shape[1:]))) for c in columns]
    return np.concatenate(flat, axis=1, dtype=np.float32)


def finite_rows(
    rows: Array, batch: FrameBatch, names: Sequence[str], operator: str, nonfinite: Nonfinite
) -> npt.NDArray[np.bool_] | None:
    """Return which rows are finite in float32, None for all.

    Raises
    ------
    SchemaError
        If one is not, and that is an error.
    """
    if rows.dtype.kind != "f" or not rows.size:
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        if rows.dtype.itemsize > 4:
            if rows.min() >= -_LARGEST and rows.max() <= _LARGEST:
                return None
        elif math.isfinite(np.add.reduce(rows, axis=None)):
            return None
        each = np.isfinite(rows.reshape(len(rows), -1).astype(np.float32))
    good: npt.NDArray[np.bool_] = np.logical_and.reduce(each, axis=1)
    if good.all():
        return None
    if nonfinite == "error":
        source = " and ".join(map(repr, names))
        check_finite(rows, batch, operator, source)
        raise SchemaError(
            f"{operator} found a number in {source} of {batch.simulation!r} at offset "
            f"{batch.offsets[~good][0]} that is beyond float32, in which networks compute; such "
            "frames must be taken out before it."
        )
    return good
