"""Batches of results as Arrow tables: numbers as they are, arrays as lists of a fixed size."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from bridge.errors import MissingExtra, SchemaError
from bridge.frames import FrameBatch

__all__ = ["INDEX", "arrow", "kinds_of", "make_table"]

INDEX = ("simulation", "offset", "step", "time", "epoch")
"""Columns that every table begins with."""


def arrow() -> Any:
    """Return the module pyarrow, with its part for Parquet."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtra("pyarrow", "parquet", "Parquet files") from error
    return pyarrow


def kinds_of(batch: FrameBatch, names: tuple[str, ...]) -> dict[str, str]:
    """Return name of each column to its type and shape in a frame, as text.

    Raises
    ------
    SchemaError
        If one cannot be stored.
    """
    clash = sorted(set(names) & set(INDEX))
    if clash:
        raise SchemaError(
            f"The column {clash[0]!r} has the name of one that every row carries; give it another."
        )
    out = {}
    for name in names:
        column = batch[name]
        if column.dtype.kind not in "fiub" or column.dtype.itemsize > 8:
            raise SchemaError(
                f"The column {name!r} of {batch.simulation!r} has dtype {column.dtype}, which "
                "Parquet cannot hold; it must be boolean, integer or a real number of at most 64 "
                "bits. Name the columns to store in 'columns'."
            )
        if 0 in column.shape[1:]:
            raise SchemaError(
                f"The column {name!r} of {batch.simulation!r} has no numbers (shape "
                f"{column.shape[1:]}); Parquet cannot hold it."
            )
        out[name] = f"{column.dtype.newbyteorder('=').name} {list(column.shape[1:])}"
    return out


def make_table(batch: FrameBatch, names: tuple[str, ...], pipeline: str) -> Any:
    """Return an Arrow table of some columns.

    An array is flattened in each frame; its shape is in the field's metadata, ``shape``, and in
    the table's, ``headrace`` (JSON).
    """
    pa = arrow()
    fields = [
        pa.field("simulation", pa.string()),
        pa.field("offset", pa.int64()),
        pa.field("step", pa.int64()),
        pa.field("time", pa.float64()),
        pa.field("epoch", pa.int32()),
    ]
    arrays = [
        pa.array([batch.simulation] * len(batch), pa.string()),
        *(pa.array(v) for v in (batch.offsets, batch.steps, batch.times)),
        pa.array(batch.epochs.astype(np.int32)),
    ]
    shapes: dict[str, list[int]] = {}
    for name in names:
        column = batch[name]
        # Neither half precision nor foreign byte order is read everywhere.
        dtype = np.dtype(np.float32) if column.dtype == np.float16 else column.dtype
        flat = np.ascontiguousarray(column, dtype.newbyteorder("=")).reshape(-1)
        array, metadata = pa.array(flat), {}
        if column.ndim > 1:
            shapes[name] = list(column.shape[1:])
            metadata = {"shape": json.dumps(shapes[name])}
            array = pa.FixedSizeListArray.from_arrays(array, len(flat) // len(batch))
        arrays.append(array)
        fields.append(pa.field(name, array.type, metadata=metadata))
    about = json.dumps({"pipeline": pipeline, "shapes": shapes}, sort_keys=True)
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata={"headrace": about}))
