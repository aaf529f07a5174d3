"""The sink ``headrace``: rows become results in staging, each micro-batch once.

Workers encode what they are given; the driver appends it under the number of the micro-batch, which
Spark repeats when it repeats a micro-batch. What staging holds already is dropped there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql.datasource import (
    DataSourceArrowWriter,
    DataSourceStreamArrowWriter,
    WriterCommitMessage,
)

from bridge.codec import decode_batch, encode_batch
from bridge.engines.results import results_topic
from bridge.engines.spark.columns import frame_batches
from bridge.engines.spark.options import SinkOptions
from bridge.errors import StagingError
from bridge.frames import FrameBatch
from bridge.staging.client_like import ClientLike

__all__ = ["Encoded", "HeadraceStreamWriter", "HeadraceWriter"]


class Encoded(WriterCommitMessage):  # type: ignore[misc]
    """What one task wrote: encoded batches of frames."""

    def __init__(self, batches: Sequence[bytes]) -> None:
        self.batches = tuple(batches)


def _encode(iterator: Iterator[pa.RecordBatch]) -> Encoded:
    parts: dict[str, list[FrameBatch]] = {}
    for batch in iterator:
        for frames in frame_batches(batch):
            parts.setdefault(frames.simulation, []).append(frames)
    return Encoded([bytes(encode_batch(_in_order(own))) for own in parts.values()])


def _in_order(parts: Sequence[FrameBatch]) -> FrameBatch:
    joined = FrameBatch.concatenate(parts)
    if len(parts) > 1:
        joined = joined.take(np.argsort(joined.offsets, kind="stable"))
    return joined


def _records(messages: Sequence[Encoded | None], name: str) -> dict[str, bytearray]:
    """Return one record for each simulation."""
    parts: dict[str, list[FrameBatch]] = {}
    for message in messages:
        for data in message.batches if message is not None else ():
            frames, _ = decode_batch(data)
            parts.setdefault(frames.simulation, []).append(frames)
    out = {}
    for simulation in sorted(parts):
        frames = _in_order(parts[simulation])
        meta: dict[str, Any] = {"pipeline": name, "first": frames.first, "stop": frames.stop}
        out[simulation] = encode_batch(frames, meta=meta)
    return out


class HeadraceWriter(DataSourceArrowWriter):  # type: ignore[misc]
    """Stores the rows of a table once."""

    def __init__(self, options: SinkOptions) -> None:
        self._options = options

    def write(self, iterator: Iterator[pa.RecordBatch]) -> Encoded:
        """Encode what one task is given."""
        return _encode(iterator)

    def commit(self, messages: list[Encoded | None]) -> None:
        """Append what all tasks encoded."""
        with self._options.connect("spark writer") as client:
            for simulation, data in _records(messages, self._options.name).items():
                client.append(results_topic(self._options.name, simulation), [data])


class HeadraceStreamWriter(DataSourceStreamArrowWriter):  # type: ignore[misc]
    """Stores the rows of each micro-batch exactly once."""

    def __init__(self, options: SinkOptions) -> None:
        self._options = options

    def write(self, iterator: Iterator[pa.RecordBatch]) -> Encoded:
        """Encode what one task is given."""
        return _encode(iterator)

    def commit(self, messages: list[Encoded | None], batchId: int) -> None:
        """Append what all tasks encoded, unless it was appended before.

        Raises
        ------
        StagingError
            If staging holds results of later micro-batches: the query began anew.
        """
        with self._options.connect("spark writer") as client:
            for simulation, data in _records(messages, self._options.name).items():
                self._append(client, simulation, data, batchId)

    def _append(self, client: ClientLike, simulation: str, data: bytearray, number: int) -> None:
        name = self._options.name
        result = client.append(
            results_topic(name, simulation),
            [data],
            writer=f"{name}/{simulation}/spark",
            first=number,
            stop=number + 1,
        )
        if not result.accepted and result.watermark > number + 1:
            raise StagingError(
                f"Staging holds results {name!r} of {simulation!r} of the micro-batches up to "
                f"{result.watermark - 1}, and number {number} came: the query began anew, with "
                "another checkpoint. Give the sink another 'name', or go on from the old "
                "checkpoint."
            )
