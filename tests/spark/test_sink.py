"""The sink: each micro-batch once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from bridge.engines.results import iterate_results, read_results
from bridge.engines.spark.options import SinkOptions
from bridge.engines.spark.sink import HeadraceStreamWriter
from bridge.errors import ConfigError, StagingError
from bridge.staging import Stager, StagerClient


def rows(simulation: str, *offsets: int) -> pa.RecordBatch:
    values = [float(offset) for offset in offsets]
    return pa.RecordBatch.from_pydict(
        {"simulation": [simulation] * len(offsets), "offset": list(offsets), "value": values}
    )


def writer(stager: Stager) -> HeadraceStreamWriter:
    return HeadraceStreamWriter(SinkOptions.parse({"stager": stager.address, "name": "spark"}))


def test_a_repeated_micro_batch_is_stored_once(stager: Stager, reader: StagerClient) -> None:
    sink = writer(stager)
    first = [sink.write(iter([rows("a", 2), rows("b", 0)])), sink.write(iter([rows("a", 0, 1)]))]
    second = [sink.write(iter([rows("a", 3)])), None]
    sink.commit(first, 0)
    sink.commit(first, 0)
    sink.commit(second, 1)
    sink.commit(second, 1)
    found = read_results(reader, "spark", "a")
    assert found is not None
    assert found.offsets.tolist() == [0, 1, 2, 3]
    assert found["value"].tolist() == [0.0, 1.0, 2.0, 3.0]
    metas = [meta for _, meta in iterate_results(reader, "spark", "a")]
    assert metas == [
        {"pipeline": "spark", "first": 0, "stop": 3},
        {"pipeline": "spark", "first": 3, "stop": 4},
    ]
    assert len(list(iterate_results(reader, "spark", "b"))) == 1


def test_a_query_that_began_anew_is_told(stager: Stager) -> None:
    sink = writer(stager)
    for number in range(3):
        sink.commit([sink.write(iter([rows("a", number)]))], number)
    with pytest.raises(StagingError, match="the query began anew, with another checkpoint"):
        sink.commit([sink.write(iter([rows("a", 0)]))], 0)


def test_a_name_is_needed(stager: Stager) -> None:
    with pytest.raises(ConfigError, match="needs the option 'name'"):
        SinkOptions.parse({"stager": stager.address})


def test_a_table_is_stored(spark: Any, stager: Stager, reader: StagerClient) -> None:
    table = spark.range(20).selectExpr("'a' as simulation", "id as offset", "id * 0.5D as half")
    sink = table.write.format("headrace").mode("append").option("stager", stager.address)
    sink.option("name", "table").save()
    found = read_results(reader, "table", "a")
    assert found is not None
    assert np.array_equal(found["half"], np.arange(20) * 0.5)
