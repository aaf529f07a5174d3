"""What a Spark task does to read ranges of frames: fetch them from staging, hand them on as Arrow.

A Python worker serves one task after the other; it keeps its connections.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import msgspec
import pyarrow as pa

from bridge.commands import Event
from bridge.engines.spark.columns import record_batch
from bridge.engines.spark.options import SourceOptions
from bridge.engines.spark.planning import Range
from bridge.errors import OffsetOutOfRange, StagingError
from bridge.frames import FrameBatch
from bridge.staging.client import Fetched, Gap
from bridge.staging.client_like import ClientLike

__all__ = ["FRAMES", "read_ranges"]

FRAMES = "frames/"

_JOIN = 4 << 20  # bytes up to which batches are joined
_FETCH = 16 << 20

_clients: dict[tuple[str, str], ClientLike] = {}


def _client(options: SourceOptions) -> ClientLike:
    key = (options.stager, options.keys)
    if key not in _clients:
        _clients[key] = options.connect("spark reader")
    return _clients[key]


def read_ranges(
    ranges: Sequence[Range], options: SourceOptions, schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    """Yield the frames of some ranges, those of small ranges together.

    Raises
    ------
    OffsetOutOfRange
        If frames were released already, and that is to be an error.
    StagingError
        If staging does not bring them.
    """
    rounds: list[list[Range]] = []
    for one in ranges:
        # One stream can be at one place in a fetch.
        for chosen in rounds:
            if all(other.simulation != one.simulation for other in chosen):
                chosen.append(one)
                break
        else:
            rounds.append([one])
    client = _client(options)
    for chosen in rounds:
        yield from _Reading(client, chosen, options, schema).batches()


class _Reading:
    """Ranges of different simulations, read side by side."""

    def __init__(
        self, client: ClientLike, ranges: list[Range], options: SourceOptions, schema: pa.Schema
    ) -> None:
        self._client = client
        self._options = options
        self._schema = schema
        self._positions = {FRAMES + one.simulation: one.start for one in ranges}
        self._stops = {FRAMES + one.simulation: one.stop for one in ranges}

    def batches(self) -> Iterator[pa.RecordBatch]:
        last = time.monotonic()
        while self._positions:
            left = sum(self._stops[t] - p for t, p in self._positions.items())
            with self._client.fetch(
                self._positions, max_frames=left, max_bytes=_FETCH, wait=0.25
            ) as fetched:
                before = dict(self._positions)
                pieces = self._cut(fetched)
                yield from self._join(pieces)
                del pieces
            if self._positions != before:
                last = time.monotonic()
            elif time.monotonic() - last > self._options.timeout:
                topic, position = next(iter(self._positions.items()))
                raise StagingError(
                    f"Waited {self._options.timeout:.0f} s for the frames {position} to "
                    f"{self._stops[topic] - 1} of {topic.removeprefix(FRAMES)!r}: the stager does "
                    "not bring them. It may have been started anew without what it held."
                )

    def _cut(self, fetched: Fetched) -> list[FrameBatch]:
        for gap in fetched.gaps:
            self._miss(gap)
        pieces = []
        for batch in fetched.batches:
            topic = FRAMES + batch.simulation
            if topic not in self._positions:
                continue
            stop, position = self._stops[topic], self._positions[topic]
            rows = (batch.offsets >= position) & (batch.offsets < stop)
            piece = batch if bool(rows.all()) else batch.take(rows)
            if len(piece):
                pieces.append(piece)
                self._advance(topic, piece.stop)
        return pieces

    def _advance(self, topic: str, position: int) -> None:
        self._positions[topic] = position
        if position >= self._stops[topic]:
            del self._positions[topic]

    def _miss(self, gap: Gap) -> None:
        if gap.topic not in self._positions:
            return
        name = gap.topic.removeprefix(FRAMES)
        stop = min(gap.stop, self._stops[gap.topic])
        if self._options.fail_on_data_loss:
            raise OffsetOutOfRange(
                f"The frames {gap.first} to {stop - 1} of {name!r} were released before Spark read "
                "them. Give the source a 'group', so that staging keeps what was not read yet; to "
                "go on without them, set failOnDataLoss to false."
            )
        event = Event(
            "gap",
            f"{stop - gap.first} frames of {name!r} were released before Spark read them, between "
            f"the offsets {gap.first} and {stop - 1}.",
            simulation=name,
            source="spark",
            level="warning",
            data={"count": stop - gap.first, "first": gap.first, "stop": stop},
            stamp=time.time(),
        )
        writer = f"spark/{self._options.group}/{name}/gaps"
        data = msgspec.msgpack.encode(event)
        self._client.append("events", [data], writer=writer, first=gap.first, stop=stop)
        self._advance(gap.topic, stop)

    def _join(self, pieces: list[FrameBatch]) -> Iterator[pa.RecordBatch]:
        waiting: list[FrameBatch] = []
        nbytes = 0
        for piece in pieces:
            if waiting and nbytes + piece.nbytes > _JOIN:
                yield record_batch(waiting, self._schema)
                waiting, nbytes = [], 0
            waiting.append(piece)
            nbytes += piece.nbytes
        if waiting:
            yield record_batch(waiting, self._schema)
