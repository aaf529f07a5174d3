"""From what was read to the arrays of a frame, where ADIOS2 cannot write right into them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bridge.errors import SchemaError
from bridge.schema import Variable
from bridge.transports.adios.library import stored_as
from bridge.transports.adios.plan import Field

__all__ = ["assemble", "clear_rows", "stored_view"]

Array = npt.NDArray[Any]


def assemble(
    field: Field,
    out: Array,
    parts: Sequence[Array | float],
    plus: Sequence[Array | float],
    where: Any,
) -> None:
    """Join the sources of a field into its array.

    Parameters
    ----------
    parts, plus
        What was read for ``field.sources`` and ``field.plus``; numbers stand for themselves.
    where
        Rows that the values go to: a slice or an array of indices; None for a field without rows.

    Raises
    ------
    SchemaError
        If there is another number of values than before.
    """
    if field.diagonal:
        out[...] = np.diag(np.concatenate([np.ravel(np.asarray(p)) for p in parts]))
        return
    if len(parts) > 1:
        for column, part in enumerate(parts):
            value = part
            if plus:
                value = part + np.asarray(plus[column]) * field.plus_scale
            if where is None:
                out.reshape(-1, len(parts))[:, column] = np.ravel(np.asarray(value))
            else:
                out[where, column] = value
        return
    value = np.asarray(parts[0])
    if field.columns:
        value = value[:, list(field.columns)]
        value = value[:, 0] if len(field.columns) == 1 else value
    if plus:
        value = value + np.asarray(plus[0]) * field.plus_scale
    if where is not None:
        out[where] = value
        return
    if value.size != out.size:
        raise SchemaError(
            f"The values of {field.name!r} changed their shape to {value.shape}; the stream was "
            f"opened with {out.shape}."
        )
    out[...] = value.reshape(out.shape)


def clear_rows(arrays: Iterable[Array], total: int, order: npt.NDArray[np.int64] | None) -> None:
    """Write NaN, or 0 into integers, into the rows that have no particle."""
    for out in arrays:
        empty: Any = slice(total, None)
        if order is not None:
            empty = np.ones(len(out), bool)
            empty[order] = False
        out[empty] = np.nan if out.dtype.kind in "fc" else 0


def stored_view(out: Array, variable: Variable) -> Array:
    """Return the bytes of an array as the type that ADIOS2 has for it."""
    dtype, shape = stored_as(variable.numpy_dtype, variable.shape)
    if dtype == out.dtype:
        return out
    return out.reshape(*variable.shape, 1).view(dtype).reshape(shape)
