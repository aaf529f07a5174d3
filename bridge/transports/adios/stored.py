"""What `headrace archive` wrote, read again: bit for bit the frames and results that were sent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bridge.closing import Closing
from bridge.errors import ConfigError, ProtocolError
from bridge.frames import FrameBatch
from bridge.schema import StreamSchema
from bridge.transports.adios.library import stored_as
from bridge.transports.adios.mapping import StreamMapping
from bridge.transports.adios.reader import Reader
from bridge.transports.adios.source import Source
from bridge.transports.adios.writer import COLUMNS, TOPIC, columns_of

__all__ = ["Archive"]

Array = npt.NDArray[Any]


class Archive(Closing):
    """A BP5 file with one topic. ADIOS2 reads it in this process.

    Parameters
    ----------
    path
        The file; it may still be written.

    Attributes
    ----------
    topic
        Name of the topic.
    schema
        Of its frames; None for a topic of results.

    Raises
    ------
    NobodyListening
        If there is no such file.
    ConfigError
        If it is not the archive of a topic, or has no step.
    """

    def __init__(self, path: Path | str) -> None:
        self._source = Source(str(path), engine="BP5")
        self._source.open(0.0)
        self._more = self._source.begin() == "step"
        topic = self._source.attribute(TOPIC) if self._more else None
        if not isinstance(topic, str):
            self._source.close()
            raise ConfigError(f"{path} is not the archive of a topic, or nothing is in it yet.")
        self.topic = topic
        self._reader: Reader | None = None
        self.schema: StreamSchema | None = None
        if topic.startswith("frames/"):
            self._reader = Reader([self._source], StreamMapping())
            self.schema = self._reader.plan.schema

    def __iter__(self) -> Iterator[FrameBatch]:
        """Yield what the file holds, in order; a record of results is one batch."""
        for batch, _ in self.records():
            yield batch

    def records(self) -> Iterator[tuple[FrameBatch, dict[str, Any]]]:
        """Yield batches, and the plain data that results carry beside them."""
        while self._more:
            yield self._read_frame() if self._reader is not None else self._read_record()
            self._source.end_step()
            self._more = self._source.begin() == "step"

    def close(self) -> None:
        """Close the file; may be called again."""
        self._source.close()

    def _read_frame(self) -> tuple[FrameBatch, dict[str, Any]]:
        reader, schema = self._reader, self.schema
        assert reader is not None
        assert schema is not None
        head = reader.head(0)
        columns = {v.name: np.empty((1, *v.shape), v.numpy_dtype) for v in schema.variables}
        reader.read_into({name: array[0, ...] for name, array in columns.items()})
        offset = np.zeros(1, np.int64)
        self._source.ask("offset", offset)
        self._source.read()
        return (
            FrameBatch(
                self.topic.partition("/")[2],
                offset,
                steps=np.array([head.step], np.int64),
                times=np.array([head.time], np.float64),
                epochs=np.array([head.epoch or 0], np.int32),
                columns=columns,
            ),
            {},
        )

    def _read_record(self) -> tuple[FrameBatch, dict[str, Any]]:
        source = self._source
        shape = source.shape(COLUMNS)
        if not shape:
            raise ProtocolError(f"A step of {source.described} lacks {COLUMNS!r}.")
        known = np.zeros(shape, np.uint8)
        source.ask(COLUMNS, known)
        source.read()
        simulation, rows, described, meta = columns_of(known)
        own = [("offset", "<i8", [rows]), ("step", "<i8", [rows]), ("time", "<f8", [rows]),
               ("epoch", "<i4", [rows])]  # fmt: skip
        arrays: dict[str, Array] = {}
        raw: Mapping[str, Array] = {}
        for name, dtype, dims in [*own, *described]:
            kind, stored = stored_as(np.dtype(dtype), tuple(dims))
            raw = {**raw, name: np.zeros(stored, kind)}
            if raw[name].size:
                source.ask(name, raw[name])
        source.read()
        for name, dtype, dims in [*own, *described]:
            arrays[name] = raw[name].reshape(-1).view(dtype).reshape(dims)
        offsets, steps, times, epochs = (arrays.pop(n) for n in ("offset", "step", "time", "epoch"))
        batch = FrameBatch(
            simulation, offsets, steps=steps, times=times, epochs=epochs, columns=arrays
        )
        return batch, meta
