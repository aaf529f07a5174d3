"""Whether an array is what a schema declares."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bridge.errors import SchemaError

__all__ = ["fit"]


def fit(
    whose: str,
    name: str,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    value: Any,
    *,
    convert: bool = True,
) -> npt.NDArray[Any]:
    """Return a value as an array of the declared shape, and of the declared dtype.

    Parameters
    ----------
    whose, name
        Simulation or output, and variable, for messages.
    dtype, shape
        What is declared.
    value
        Anything that NumPy makes an array of; None for nothing.
    convert
        False to leave the dtype to whoever copies the array; that it can be converted safely is
        looked at all the same.

    Raises
    ------
    SchemaError
        If there is nothing, or it has another shape or a dtype that cannot be converted safely.
    """
    if value is None:
        raise SchemaError(
            f"The frame of {whose!r} lacks the variable {name!r}, of shape {shape} and dtype "
            f"{dtype}."
        )
    array = np.asarray(value)
    if array.shape != shape:
        raise SchemaError(
            f"Variable {name!r} of {whose!r} has shape {array.shape}; the stream declares {shape}."
        )
    if array.dtype != dtype:
        if not np.can_cast(array.dtype, dtype, "same_kind"):
            raise SchemaError(
                f"Variable {name!r} of {whose!r} has dtype {array.dtype}; the stream declares "
                f"{dtype}, to which it cannot be converted safely."
            )
        return array.astype(dtype) if convert else array
    return array
