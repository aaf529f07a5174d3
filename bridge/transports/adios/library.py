"""The package ``adios2``: imported when it is needed, its types and its messages made ours."""

from __future__ import annotations

import re
import sys
from functools import cache
from typing import Any

import numpy as np

from bridge.errors import MissingExtra

__all__ = ["JOINED", "dtype_of", "load", "stored_as", "words_of"]

JOINED = 2**64 - 2
"""ADIOS2's ``JoinedDim``, which the Python bindings do not name: blocks are put one behind
another along this axis."""

_DTYPES = {name: np.dtype(code) for name, code in {
    "char": "<i1", "int8_t": "<i1", "uint8_t": "<u1", "int16_t": "<i2", "uint16_t": "<u2",
    "int32_t": "<i4", "uint32_t": "<u4", "int64_t": "<i8", "uint64_t": "<u8", "float": "<f4",
    "double": "<f8", "complex": "<c8", "float complex": "<c8", "double complex": "<c16",
}.items()}  # fmt: skip


@cache
def load() -> Any:
    """Return ADIOS2's bindings.

    Raises
    ------
    MissingExtra
        If the package is not installed.
    """
    # The package imports torch where that is installed, which takes two seconds of processor.
    lacks = "torch" not in sys.modules
    if lacks:
        sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        from adios2 import bindings
    except ImportError as error:
        raise MissingExtra("adios2", "adios2", "ADIOS2 streams and files") from error
    finally:
        if lacks:
            del sys.modules["torch"]
    return bindings


def dtype_of(kind: str) -> np.dtype[Any] | None:
    """Return the dtype of one of ADIOS2's types; None for text and for what NumPy does not have."""
    return _DTYPES.get(kind)


def stored_as(
    dtype: np.dtype[Any], shape: tuple[int, ...]
) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Return as what ADIOS2 stores an array whose type it does not have: bit for bit the same.

    Booleans, bytes and text are unsigned integers there, half floats 16-bit integers.
    """
    if dtype.kind == "b":
        return np.dtype("<u1"), shape
    if dtype.kind in "SU":
        return np.dtype("<u1"), (*shape, dtype.itemsize)
    if dtype.kind == "f" and dtype.itemsize == 2:
        return np.dtype("<u2"), shape
    return dtype, shape


def words_of(error: BaseException | str) -> str:
    """Return what ADIOS2 says, on one line and without colours."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    text = re.sub(r"\[[^\]]*\d{4}\]\s*\[ADIOS2 EXCEPTION\]\s*", "", text)
    text = re.sub(r"(<\w+>\s*)+:\s*", "", text)
    return " ".join(text.split()).rstrip(".")
