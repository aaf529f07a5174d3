"""Frames as Arrow columns, and back."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import types as t

from bridge.engines.spark.columns import arrow_schema, frame_batches, record_batch, spark_schema
from bridge.errors import SchemaError
from bridge.frames import FrameBatch
from bridge.schema import StreamSchema, Variable

KINDS = ["?", "<i1", "<i2", "<i4", "<i8", "<u1", "<u2", "<u4", "<u8", "<f2", "<f4", "<f8", "<c8"]


def make(dtype: str, shape: tuple[int, ...], n: int = 5) -> tuple[StreamSchema, FrameBatch]:
    schema = StreamSchema((Variable("v", dtype, shape, unit="nm"),), time_unit="ps")
    values = np.random.default_rng(1).integers(0, 90, (n, *shape)).astype(dtype)
    return schema, FrameBatch.from_arrays("sim", {"v": values}, first_offset=7)


@pytest.mark.parametrize("shape", [(), (3,), (4, 3), (2, 0)])
@pytest.mark.parametrize("dtype", KINDS)
def test_every_type_of_a_variable_has_a_column(dtype: str, shape: tuple[int, ...]) -> None:
    schema, batch = make(dtype, shape)
    columns = spark_schema(schema, ())
    rows = record_batch([batch, batch], arrow_schema(columns))
    assert rows.schema.equals(arrow_schema(columns))
    rows.validate(full=True)
    assert rows["simulation"].to_pylist() == ["sim"] * 10
    assert rows["offset"].to_pylist() == [*range(7, 12)] * 2
    wanted = batch["v"]
    if wanted.dtype.kind == "c":
        wanted = np.stack([wanted.real, wanted.imag], axis=-1)
    flat = wanted.reshape(5, -1) if wanted.ndim > 1 else wanted
    assert rows["v"].to_pylist() == flat.tolist() * 2


def test_units_and_shapes_are_told() -> None:
    schema, _ = make("<f4", (22, 3))
    columns = spark_schema(schema, ())
    assert columns["v"].metadata["unit"] == "nm"
    assert columns["v"].metadata["shape"] == [22, 3]
    assert columns["time"].metadata["unit"] == "ps"
    assert columns["v"].dataType == t.ArrayType(t.FloatType(), containsNull=False)


def test_bytes_become_binary() -> None:
    schema = StreamSchema((Variable("v", "|S4"),))
    batch = FrameBatch.from_arrays("sim", {"v": np.array([b"abcd", b"x"], "S4")})
    rows = record_batch([batch], arrow_schema(spark_schema(schema, ())))
    assert rows["v"].to_pylist() == [b"abcd", b"x\0\0\0"]


def test_a_column_that_a_stream_has_in_another_type_is_refused() -> None:
    schema, _ = make("<f4", (3,))
    _, other = make("<f8", (3,))
    with pytest.raises(SchemaError, match="is of type list<"):
        record_batch([other], arrow_schema(spark_schema(schema, ())))


def test_an_unknown_variable_is_named() -> None:
    schema, _ = make("<f4", (3,))
    with pytest.raises(SchemaError, match="no variable 'w'"):
        spark_schema(schema, ("w",))


def test_rows_become_frames_in_order() -> None:
    rows = pa.RecordBatch.from_pydict(
        {
            "simulation": ["b", "a", "b", "a"],
            "offset": [1, 4, 0, 2],
            "vector": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]],
            "word": ["x", "yy", "z", "w"],
        }
    )
    a, b = frame_batches(rows)
    assert (a.simulation, a.offsets.tolist(), a["word"].tolist()) == ("a", [2, 4], ["w", "yy"])
    assert b["vector"].tolist() == [[5.0, 6.0], [1.0, 2.0]]
    assert b.steps.tolist() == b.offsets.tolist()


@pytest.mark.parametrize(
    ("column", "says"),
    [
        (pa.array([1.0, None]), "has 1 nulls"),
        (pa.array([[1.0], [1.0, 2.0]]), "differ in length"),
        (pa.array([{"a": 1}, {"a": 2}]), "is of type struct"),
    ],
)
def test_what_frames_cannot_hold_is_refused(column: pa.Array, says: str) -> None:
    rows = pa.RecordBatch.from_arrays(
        [pa.array(["a", "a"]), pa.array([0, 1]), column], ["simulation", "offset", "v"]
    )
    with pytest.raises(SchemaError, match=says):
        list(frame_batches(rows))


def test_the_sink_says_what_it_needs() -> None:
    rows = pa.RecordBatch.from_pydict({"offset": [1]})
    with pytest.raises(SchemaError, match="needs the column 'simulation'"):
        list(frame_batches(rows))
