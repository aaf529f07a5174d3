"""Frames as Arrow columns, and back.

A frame becomes a row: ``simulation`` (string), ``offset`` and ``step`` (long), ``time`` (double),
``epoch`` (int), then the variables. A scalar has its own type. An array becomes one list of its
values in row-major order, whatever its rank: its shape and its unit are in the column's metadata,
as ``shape`` and ``unit``. A complex number becomes two values, real and imaginary part.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import types as t
from pyspark.sql.pandas.types import to_arrow_schema

from bridge.errors import SchemaError
from bridge.frames import FrameBatch
from bridge.schema import StreamSchema, Variable

__all__ = ["FRAME_COLUMNS", "arrow_schema", "frame_batches", "record_batch", "spark_schema"]

Array = npt.NDArray[Any]

FRAME_COLUMNS = ("simulation", "offset", "step", "time", "epoch")

_TYPES: dict[str, tuple[Any, str]] = {
    "b1": (t.BooleanType(), "?"),
    "i1": (t.ByteType(), "<i1"),
    "i2": (t.ShortType(), "<i2"),
    "i4": (t.IntegerType(), "<i4"),
    "i8": (t.LongType(), "<i8"),
    "u1": (t.ShortType(), "<i2"),
    "u2": (t.IntegerType(), "<i4"),
    "u4": (t.LongType(), "<i8"),
    "u8": (t.LongType(), "<i8"),
    "f2": (t.FloatType(), "<f4"),
    "f4": (t.FloatType(), "<f4"),
    "f8": (t.DoubleType(), "<f8"),
    "c8": (t.FloatType(), "<f4"),
    "c16": (t.DoubleType(), "<f8"),
}


def _kind(dtype: np.dtype[Any]) -> tuple[Any, str]:
    if dtype.kind == "S":
        return t.BinaryType(), dtype.str
    return _TYPES[f"{dtype.kind}{dtype.itemsize}"]


def _field(variable: Variable) -> Any:
    kind, _ = _kind(variable.numpy_dtype)
    meta = {
        "unit": variable.unit,
        "shape": list(variable.shape),
        "dtype": variable.dtype,
        "description": variable.description,
    }
    if variable.shape or variable.numpy_dtype.kind == "c":
        kind = t.ArrayType(kind, containsNull=False)
    return t.StructField(variable.name, kind, nullable=False, metadata=meta)


def spark_schema(schema: StreamSchema, variables: Sequence[str]) -> Any:
    """Return the columns of a stream's frames.

    Parameters
    ----------
    schema
        What the simulation declared.
    variables
        Which of its variables, in this order; none for all.

    Returns
    -------
    pyspark.sql.types.StructType

    Raises
    ------
    SchemaError
        If there is no such variable.
    """
    own = [
        t.StructField("simulation", t.StringType(), nullable=False),
        t.StructField("offset", t.LongType(), nullable=False),
        t.StructField("step", t.LongType(), nullable=False),
        t.StructField("time", t.DoubleType(), False, {"unit": schema.time_unit}),
        t.StructField("epoch", t.IntegerType(), nullable=False),
    ]
    chosen = variables or schema.names
    return t.StructType([*own, *(_field(schema.variable(name)) for name in chosen)])


def arrow_schema(schema: Any) -> pa.Schema:
    """Return the Arrow schema that Spark expects for columns."""
    return to_arrow_schema(schema, timezone="UTC")


def _flat(array: Array, field: pa.Field, simulation: str) -> pa.Array:
    """Return one variable of some frames as an Arrow array."""
    if array.dtype.kind == "S":
        width = array.dtype.itemsize
        rows = np.ascontiguousarray(array)
        values = pa.array([bytes(row).ljust(width, b"\0") for row in rows.reshape(-1)], pa.binary())
    else:
        wanted = _TYPES[f"{array.dtype.kind}{array.dtype.itemsize}"][1]
        rows = np.ascontiguousarray(array)
        if rows.dtype.kind == "c":
            rows = rows.view(rows.real.dtype).reshape(*rows.shape, 2)
        if rows.dtype.str == "<u8" and rows.size and int(rows.max()) > np.iinfo(np.int64).max:
            raise SchemaError(
                f"The variable {field.name!r} of {simulation!r} has values beyond 2^63, which "
                "Spark has no type for."
            )
        rows = rows.astype(wanted, copy=False)
        values = pa.array(rows.reshape(-1))
    is_list = pa.types.is_list(field.type)
    if values.type != (field.type.value_type if is_list else field.type) or is_list != (
        rows.ndim > 1
    ):
        kind = f"list<{values.type}>" if rows.ndim > 1 else values.type
        raise SchemaError(
            f"The variable {field.name!r} of {simulation!r} is of type {kind} in Spark, where the "
            f"first stream has {field.type}; read streams that differ one by one, with the option "
            "'simulations'."
        )
    if is_list:
        width = int(np.prod(rows.shape[1:]))
        # Positions of 32 bits: a batch is cut before it has 2^31 values.
        edges = pa.array(np.arange(len(rows) + 1, dtype=np.int32) * np.int32(width))
        return pa.ListArray.from_arrays(edges, values, type=field.type)
    return values


def record_batch(batches: Sequence[FrameBatch], schema: pa.Schema) -> pa.RecordBatch:
    """Return frames as one Arrow batch; views of their memory where there is one batch alone.

    Raises
    ------
    SchemaError
        If a variable is missing, or has another type than the column.
    """
    columns: list[list[pa.Array]] = []
    for batch in batches:
        n = len(batch)
        name = pa.array([batch.simulation])
        row: list[pa.Array] = []
        for field in schema:
            match field.name:
                case "simulation":
                    row.append(name.take(pa.array(np.zeros(n, np.int8))))
                case "offset":
                    row.append(pa.array(batch.offsets))
                case "step":
                    row.append(pa.array(batch.steps))
                case "time":
                    row.append(pa.array(batch.times))
                case "epoch":
                    row.append(pa.array(batch.epochs))
                case _:
                    row.append(_flat(batch[field.name], field, batch.simulation))
        columns.append(row)
    if len(columns) == 1:
        return pa.RecordBatch.from_arrays(columns[0], schema=schema)
    joined = [pa.concat_arrays(list(parts)) for parts in zip(*columns, strict=True)]
    return pa.RecordBatch.from_arrays(joined, schema=schema)


def frame_batches(batch: pa.RecordBatch) -> Iterator[FrameBatch]:
    """Yield the rows of an Arrow batch as frames, simulation by simulation, by their offsets.

    Raises
    ------
    SchemaError
        If ``simulation`` or ``offset`` is missing, or a column cannot be a column of frames.
    """
    names = batch.schema.names
    for needed in ("simulation", "offset"):
        if needed not in names:
            raise SchemaError(
                f"The sink headrace needs the column {needed!r}; it is given: {', '.join(names)}."
            )
    if not batch.num_rows:
        return
    arrays = {name: _array(name, batch.column(i)) for i, name in enumerate(names)}
    whose = np.asarray(batch.column(names.index("simulation")).to_pylist(), dtype=object)
    for simulation in sorted(set(whose)):
        rows = np.flatnonzero(whose == simulation)
        offsets = arrays["offset"][rows].astype(np.int64)
        rows = rows[np.argsort(offsets, kind="stable")]
        taken = {name: a[rows] for name, a in arrays.items() if name not in FRAME_COLUMNS}
        yield FrameBatch(
            str(simulation),
            arrays["offset"][rows].astype(np.int64),
            steps=_own(arrays, "step", rows, np.int64),
            times=_own(arrays, "time", rows, np.float64),
            epochs=_own(arrays, "epoch", rows, np.int32) if "epoch" in arrays else None,
            columns=taken,
        )


def _own(arrays: dict[str, Array], name: str, rows: Array, kind: Any) -> Array:
    source = arrays.get(name, arrays["offset"])
    return source[rows].astype(kind)


def _array(name: str, column: pa.Array) -> Array:
    if column.null_count:
        raise SchemaError(
            f"The column {name!r} has {column.null_count} nulls; fill or drop them before the sink."
        )
    kind = column.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        lengths = set(np.diff(np.asarray(column.offsets)).tolist())
        if len(lengths) > 1:
            raise SchemaError(
                f"The lists of the column {name!r} differ in length ({min(lengths)} to "
                f"{max(lengths)}); frames hold arrays of one shape."
            )
        return _array(name, column.flatten()).reshape(len(column), -1)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return np.asarray(column.to_pylist(), dtype=np.str_)
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return np.asarray(column.to_pylist(), dtype=np.bytes_)
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return np.asarray(column.to_numpy(zero_copy_only=False))
    raise SchemaError(
        f"The column {name!r} is of type {kind}, which frames do not have; cast it to a number, "
        "a text, or an array of numbers."
    )
