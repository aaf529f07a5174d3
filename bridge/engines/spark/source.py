"""The data source ``headrace``: streams of frames as tables, and results back into staging.

Spark calls a source in three places, each in a Python process of its own: the schema and the plan
of a batch read (a short-lived one), the offsets of a stream (one that lives as long as the query),
and the reading itself (the workers of the executors).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
from pyspark.sql.datasource import (
    DataSource,
    DataSourceReader,
    DataSourceStreamReader,
    InputPartition,
)
from pyspark.sql.streaming.datasource import (
    ReadAllAvailable,
    ReadLimit,
    ReadMaxBytes,
    ReadMaxRows,
    SupportsTriggerAvailableNow,
)

from bridge.engines.spark.columns import arrow_schema, spark_schema
from bridge.engines.spark.options import SinkOptions, SourceOptions
from bridge.engines.spark.planning import Range, pack, share
from bridge.engines.spark.reading import FRAMES, read_ranges
from bridge.engines.spark.sink import HeadraceStreamWriter, HeadraceWriter
from bridge.errors import OffsetOutOfRange, UnknownTopic
from bridge.staging.client_like import ClientLike
from bridge.staging.messages import TopicStatus

__all__ = ["HeadraceReader", "HeadraceSource", "HeadraceStreamReader", "RangePartition"]


def _streams(client: ClientLike, options: SourceOptions) -> dict[str, TopicStatus]:
    found = {t.name.removeprefix(FRAMES): t for t in client.topics(FRAMES)}
    return {name: found[name] for name in options.chosen(sorted(found))}


def _ranges(spans: Mapping[str, tuple[int, int]], sizes: Mapping[str, int]) -> list[Range]:
    return [
        Range(name, start, stop, (stop - start) * sizes[name])
        for name, (start, stop) in spans.items()
        if stop > start
    ]


def _size(stream: TopicStatus) -> int:
    # A frame costs something though it has hardly any bytes.
    return 64 + (stream.schema.frame_nbytes if stream.schema is not None else 0)


class RangePartition(InputPartition):  # type: ignore[misc]
    """What one task reads."""

    def __init__(self, ranges: Sequence[Range]) -> None:
        super().__init__(None)
        self.ranges = tuple(ranges)


class HeadraceSource(DataSource):  # type: ignore[misc]
    """Frames from staging, and results into it; see `bridge.engines.spark.options`."""

    @classmethod
    def name(cls) -> str:
        """Return ``headrace``."""
        return "headrace"

    def schema(self) -> Any:
        """Return the columns, as the first of the streams declares them.

        Raises
        ------
        UnknownTopic
            If no stream comes in time.
        """
        options = SourceOptions.parse(self.options)
        deadline = time.monotonic() + options.wait
        with options.connect("spark planner") as client:
            while True:
                for stream in _streams(client, options).values():
                    if stream.schema is not None:
                        return spark_schema(stream.schema, options.variables)
                if time.monotonic() > deadline:
                    break
                time.sleep(0.05)
        raise UnknownTopic(
            f"No stream of {', '.join(options.simulations)} came within {options.wait:.0f} s, so "
            "the types of the columns are not known. Start a simulation first, raise the option "
            "'wait', or give the schema."
        )

    def reader(self, schema: Any) -> HeadraceReader:
        """Return what reads a finished range."""
        return HeadraceReader(SourceOptions.parse(self.options), schema)

    def streamReader(self, schema: Any) -> HeadraceStreamReader:  # noqa: N802 - Spark's name
        """Return what reads streams as they come."""
        return HeadraceStreamReader(SourceOptions.parse(self.options), schema)

    def writer(self, schema: Any, overwrite: bool) -> HeadraceWriter:
        """Return what stores results once."""
        return HeadraceWriter(SinkOptions.parse(self.options))

    def streamWriter(self, schema: Any, overwrite: bool) -> HeadraceStreamWriter:  # noqa: N802
        """Return what stores the results of each micro-batch."""
        return HeadraceStreamWriter(SinkOptions.parse(self.options))


class HeadraceReader(DataSourceReader):  # type: ignore[misc]
    """Reads what is held when the read is planned."""

    def __init__(self, options: SourceOptions, schema: Any) -> None:
        self._options = options
        self._schema = schema

    def partitions(self) -> Sequence[RangePartition]:
        """Plan.

        Raises
        ------
        OffsetOutOfRange
            If `start` was released already, and that is to be an error.
        """
        options = self._options
        with options.connect("spark planner") as client:
            streams = _streams(client, options)
        for name, stream in streams.items():
            if 0 < options.start < stream.low and options.fail_on_data_loss:
                raise OffsetOutOfRange(
                    f"The frames {options.start} to {stream.low - 1} of {name!r} were released "
                    f"already. Begin at {stream.low} with the option 'start', or set "
                    "failOnDataLoss to false."
                )
        spans = {
            name: (max(s.low, options.start), min(s.end, options.stop or s.end))
            for name, s in streams.items()
        }
        ranges = _ranges(spans, {name: _size(s) for name, s in streams.items()})
        packed = pack(ranges, options.partitions, options.bytes_per_task)
        return [RangePartition(chosen) for chosen in packed or [[]]]

    def read(self, partition: RangePartition) -> Iterator[pa.RecordBatch]:
        """Read one task's ranges."""
        return read_ranges(partition.ranges, self._options, arrow_schema(self._schema))


class HeadraceStreamReader(DataSourceStreamReader, SupportsTriggerAvailableNow):  # type: ignore[misc]
    """Plans over offsets; the frames go from staging to the workers.

    The offset of a query is, for each stream, where it was taken up and how far it has been
    planned: ``{"walker0": {"from": 0, "to": 300}}``.
    """

    def __init__(self, options: SourceOptions, schema: Any) -> None:
        self._options = options
        self._schema = schema
        self._client: ClientLike | None = None
        self._streams: dict[str, TopicStatus] = {}
        self._joined: set[str] = set()
        self._target: dict[str, int] | None = None
        self._turn = 0

    def __getstate__(self) -> dict[str, Any]:
        # Workers do not plan.
        return {"_options": self._options, "_schema": self._schema}

    def _look(self) -> dict[str, TopicStatus]:
        if self._client is None:
            self._client = self._options.connect("spark planner")
        self._streams = _streams(self._client, self._options)
        new = {FRAMES + name for name in self._streams} - self._joined
        if new and self._options.group:
            # Known to retention from the first moment, so that nothing is released unread.
            self._client.commit(self._options.group, dict.fromkeys(sorted(new), 0))
        self._joined |= new
        return self._streams

    # ---------------------------------------------------------------- offsets

    def initialOffset(self) -> dict[str, Any]:  # noqa: N802 - Spark's name
        """Return where a new query begins."""
        out = {}
        if self._options.starting_offsets == "latest":
            for name, stream in self._look().items():
                out[name] = {"from": stream.end, "to": stream.end}
        return out

    def _begin(self, stream: TopicStatus) -> int:
        if self._options.starting_offsets == "committed":
            return max(stream.low, stream.groups.get(self._options.group, 0))
        return stream.low

    def getDefaultReadLimit(self) -> ReadLimit:  # noqa: N802 - Spark's name
        """Return the limit that the options set."""
        if self._options.max_frames_per_batch:
            return ReadMaxRows(self._options.max_frames_per_batch)
        if self._options.max_bytes_per_batch:
            return ReadMaxBytes(self._options.max_bytes_per_batch)
        return ReadAllAvailable()

    def latestOffset(self, start: dict[str, Any], limit: ReadLimit) -> dict[str, Any]:  # noqa: N802
        """Return how far the next micro-batch goes."""
        streams = self._look()
        begins = {
            name: start[name]["to"] if name in start else self._begin(stream)
            for name, stream in streams.items()
        }
        waiting = {
            name: max(0, min(s.end, self._last(name)) - begins[name]) for name, s in streams.items()
        }
        granted = waiting
        if not isinstance(limit, ReadAllAvailable):
            granted = self._limit(waiting)
        out = dict(start)
        for name, count in granted.items():
            if count > 0:
                first = start[name]["from"] if name in start else begins[name]
                out[name] = {"from": first, "to": begins[name] + count}
        return out

    def _last(self, name: str) -> int:
        return 1 << 62 if self._target is None else self._target.get(name, 0)

    def _limit(self, waiting: dict[str, int]) -> dict[str, int]:
        self._turn += 1
        options = self._options
        if options.max_frames_per_batch:
            ones = dict.fromkeys(waiting, 1)
            waiting = share(waiting, ones, options.max_frames_per_batch, first=self._turn)
        if options.max_bytes_per_batch:
            sizes = {name: _size(self._streams[name]) for name in waiting}
            waiting = share(waiting, sizes, options.max_bytes_per_batch, first=self._turn)
        return waiting

    def reportLatestOffset(self) -> dict[str, Any] | None:  # noqa: N802 - Spark's name
        """Return what staging held when last asked."""
        return {name: {"from": s.low, "to": s.end} for name, s in self._streams.items()}

    def prepareForTriggerAvailableNow(self) -> None:  # noqa: N802 - Spark's name
        """Note where streams end now: the query is to go up to there."""
        self._target = {name: stream.end for name, stream in self._look().items()}

    # ------------------------------------------------------------------- plan

    def partitions(self, start: dict[str, Any], end: dict[str, Any]) -> Sequence[RangePartition]:
        """Plan one micro-batch."""
        spans = {
            name: (start[name]["to"] if name in start else to["from"], to["to"])
            for name, to in end.items()
        }
        if any(name not in self._streams for name in spans):
            self._look()
        sizes = {n: _size(self._streams[n]) if n in self._streams else 64 for n in spans}
        packed = pack(_ranges(spans, sizes), self._options.partitions, self._options.bytes_per_task)
        return [RangePartition(chosen) for chosen in packed]

    def read(self, partition: RangePartition) -> Iterator[pa.RecordBatch]:
        """Read one task's ranges."""
        return read_ranges(partition.ranges, self._options, arrow_schema(self._schema))

    def commit(self, end: dict[str, Any]) -> None:
        """Let staging release what the query is done with."""
        if self._options.group and end:
            if self._client is None:
                self._look()
            assert self._client is not None
            offsets = {FRAMES + name: to["to"] for name, to in end.items()}
            self._client.commit(self._options.group, offsets)

    def stop(self) -> None:
        """Let go of the connection."""
        if self._client is not None:
            self._client.close()
            self._client = None
