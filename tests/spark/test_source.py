"""The data source: what it plans, what it reads, what it lets go of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql.streaming.datasource import ReadAllAvailable, ReadMaxBytes, ReadMaxRows

from bridge.engines.spark.columns import spark_schema
from bridge.engines.spark.options import SourceOptions
from bridge.engines.spark.source import HeadraceReader, HeadraceStreamReader
from bridge.errors import ConfigError, OffsetOutOfRange
from bridge.frames import FrameBatch
from bridge.schema import StreamSchema
from bridge.staging import Stager, StagerClient
from bridge.staging.messages import StreamOptions
from bridge.testing.sources import END, ScriptedSource, make_frames
from tests.bridge.engines.common import make_streams, play, read_events

COLUMNS = spark_schema(StreamSchema.from_arrays({"x": np.zeros((4, 3), np.float32)}), ())


def parse(stager: Stager, **options: Any) -> SourceOptions:
    return SourceOptions.parse(
        {"stager": stager.address, **{k: str(v) for k, v in options.items()}}
    )


def stream(stager: Stager, **options: Any) -> HeadraceStreamReader:
    return HeadraceStreamReader(parse(stager, **options), COLUMNS)


def take(reader: Any, *span: Any) -> pa.Table:
    batches = [b for p in reader.partitions(*span) for b in reader.read(p)]
    return pa.Table.from_batches(batches)


def check(rows: pa.Table, streams: dict[str, FrameBatch]) -> None:
    """Assert that rows are these streams, each frame once."""
    assert rows.num_rows == sum(map(len, streams.values()))
    rows = rows.sort_by([("simulation", "ascending"), ("offset", "ascending")])
    wanted = [streams[name] for name in sorted(streams)]
    assert rows["simulation"].to_pylist() == [b.simulation for b in wanted for _ in range(len(b))]
    assert rows["step"].to_pylist() == [s for b in wanted for s in b.steps.tolist()]
    found = np.array(rows["x"].to_pylist(), np.float32).reshape(-1, 4, 3)
    assert np.array_equal(found, np.concatenate([b["x"] for b in wanted]))


def test_a_table_of_frames(spark: Any, stager: Stager) -> None:
    streams = make_streams(50)
    play(stager.address, streams)
    table = spark.read.format("headrace").option("stager", stager.address).load()
    assert table.schema.simpleString() == (
        "struct<simulation:string,offset:bigint,step:bigint,time:double,epoch:int,x:array<float>>"
    )
    assert table.schema["x"].metadata["shape"] == [4, 3]
    check(table.toArrow(), streams)
    counted = table.where("simulation = 'b' and offset >= 10").count()
    assert counted == 40


def test_a_mistake_is_told_in_a_sentence(spark: Any, stager: Stager) -> None:
    play(stager.address, make_streams(1, "a"))
    table = spark.read.format("headrace").option("stager", stager.address)
    with pytest.raises(Exception, match=r"has no variable 'y'\. There are: x"):
        table.option("variables", "y").load()
    with pytest.raises(Exception, match=r"no option 'simulation'\. Did you mean 'simulations'"):
        table.option("simulation", "a").load()


def test_options_are_checked(stager: Stager) -> None:
    with pytest.raises(ConfigError, match="needs the option 'stager'"):
        SourceOptions.parse({})
    with pytest.raises(ConfigError, match="'failOnDataLoss' is true or false"):
        parse(stager, failOnDataLoss="maybe")
    with pytest.raises(ConfigError, match="'maxFramesPerBatch' is a number"):
        parse(stager, maxframesperbatch="many")
    with pytest.raises(ConfigError, match="'startingOffsets' is"):
        parse(stager, startingOffsets="middle")
    with pytest.raises(ConfigError, match="'group' says whose"):
        parse(stager, startingOffsets="committed")


def test_a_range_of_some_streams(stager: Stager) -> None:
    streams = make_streams(50, ("walker0", "walker1", "other"))
    play(stager.address, streams)
    options = parse(stager, simulations="walker*", start=10, stop=20, bytesPerTask=100)
    reader = HeadraceReader(options, COLUMNS)
    assert len(reader.partitions()) == 2
    chosen = {n: streams[n].take(slice(10, 20)) for n in ("walker0", "walker1")}
    check(take(reader), chosen)


def test_micro_batches_are_the_stream(stager: Stager) -> None:
    streams = make_streams(60)
    play(stager.address, streams)
    reader = stream(stager, maxFramesPerBatch=25, bytesPerTask=100)
    assert reader.getDefaultReadLimit() == ReadMaxRows(25)
    at, parts = reader.initialOffset(), []
    while (end := reader.latestOffset(at, ReadMaxRows(25))) != at:
        parts.append(take(reader, at, end))
        assert parts[-1].num_rows <= 25
        at = end
    check(pa.concat_tables(parts), streams)
    whole = take(reader, {}, reader.latestOffset({}, ReadAllAvailable()))
    check(whole, streams)
    reader.stop()


def test_a_fast_stream_does_not_starve_slow_ones(stager: Stager) -> None:
    streams = {n: make_frames(n, k, {"x": (4, 3)}) for n, k in (("fast", 2000), ("slow", 7))}
    play(stager.address, streams)
    frames = stream(stager, maxFramesPerBatch=20)
    assert frames.latestOffset({}, ReadMaxRows(20)) == {
        "fast": {"from": 0, "to": 13},
        "slow": {"from": 0, "to": 7},
    }
    size = 64 + 48
    limited = stream(stager, maxBytesPerBatch=30 * size)
    assert limited.getDefaultReadLimit() == ReadMaxBytes(30 * size)
    assert limited.latestOffset({}, ReadMaxBytes(30 * size)) == {
        "fast": {"from": 0, "to": 23},
        "slow": {"from": 0, "to": 7},
    }
    frames.stop()
    limited.stop()


def test_new_streams_are_picked_up(stager: Stager) -> None:
    play(stager.address, make_streams(5, "a"))
    reader = stream(stager, startingOffsets="latest")
    begin = reader.initialOffset()
    assert begin == {"a": {"from": 5, "to": 5}}
    late = make_streams(3, "b")
    play(stager.address, late)
    end = reader.latestOffset(begin, ReadAllAvailable())
    check(take(reader, begin, end), late)
    reader.stop()


def test_commit_releases_what_was_read(stager: Stager, reader: StagerClient) -> None:
    frames = make_frames("a", 4000, {"x": (400, 3)})
    small = StreamOptions(capacity=4 << 20, segment=1 << 20, keep=0)
    source = ScriptedSource("a", [frames, END], address=stager.address, options=small)
    query = stream(stager, group="spark")
    columns = spark_schema(StreamSchema.from_arrays({"x": frames["x"][0]}), ())
    query._schema = columns
    at: dict[str, Any] = {}
    seen = 0
    with source:  # blocks when 4 MiB are held
        while seen < 4000:
            end = query.latestOffset(at, ReadAllAvailable())
            if end != at:
                rows = take(query, at, end)
                assert rows["offset"].to_pylist() == list(range(seen, seen + rows.num_rows))
                seen += rows.num_rows
                query.commit(end)
                at = end
    status = reader.status("frames/a")
    assert status.groups == {"spark": 4000}
    assert status.low > 0
    query.stop()


@pytest.fixture
def lossy(stager: Stager) -> FrameBatch:
    """A stream whose first frames are gone."""
    frames = make_frames("a", 3000, {"x": (4, 3)})
    options = StreamOptions("drop_oldest", capacity=64 << 10, segment=16 << 10, keep=0)
    play(stager.address, {"a": frames}, options=options)
    return frames


def test_lost_frames_are_an_error(stager: Stager, lossy: FrameBatch) -> None:
    reader = stream(stager)
    with pytest.raises(OffsetOutOfRange, match=r"The frames 0 to \d+ of 'a' were released"):
        take(reader, {}, {"a": {"from": 0, "to": 3000}})
    reader.stop()
    with pytest.raises(OffsetOutOfRange, match="Begin at"):
        HeadraceReader(parse(stager, start=1), COLUMNS).partitions()


def test_or_lost_frames_are_told_of(
    stager: Stager, reader: StagerClient, lossy: FrameBatch
) -> None:
    query = stream(stager, failOnDataLoss="false")
    rows = take(query, {}, {"a": {"from": 0, "to": 3000}})
    (event,) = read_events(reader, "gap")
    assert rows.num_rows + event.data["count"] == 3000
    check(rows, {"a": lossy.take(slice(event.data["stop"], None))})
    query.stop()


def test_a_query_goes_on_from_its_checkpoint(
    spark: Any, stager: Stager, reader: StagerClient, checkpoint: Path
) -> None:
    from bridge.engines.results import iterate_results, read_results

    frames = make_frames("a", 90, {"x": (4, 3)})

    def run() -> None:
        source = spark.readStream.format("headrace").option("stager", stager.address)
        rows = source.option("group", "g").option("maxFramesPerBatch", 20).load()
        rows = rows.selectExpr("simulation", "offset", "step", "x[0] as first")
        sink = rows.writeStream.format("headrace").option("stager", stager.address)
        sink = sink.option("name", "firsts").option("checkpointLocation", str(checkpoint))
        query = sink.trigger(availableNow=True).start()
        assert query.awaitTermination(150)
        assert query.exception() is None

    ScriptedSource("a", [frames.take(slice(0, 50))], address=stager.address).play()
    run()
    assert len(list(iterate_results(reader, "firsts", "a"))) == 3
    ScriptedSource("a", [frames, END], address=stager.address).play()
    run()
    results = read_results(reader, "firsts", "a")
    assert results is not None
    assert results.offsets.tolist() == list(range(90))
    assert results.steps.tolist() == frames.steps.tolist()
    assert np.array_equal(results["first"], frames["x"][:, 0, 0])
    assert reader.status("frames/a").groups["g"] >= 50
