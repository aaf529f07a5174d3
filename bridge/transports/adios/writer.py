"""Frames and results as steps of an ADIOS2 stream or file."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from bridge.errors import ConfigError, ProtocolError
from bridge.frames import FrameBatch
from bridge.schema import StreamSchema
from bridge.transports.adios.library import load, stored_as, words_of
from bridge.transports.adios.openpmd import records_of, static_attributes
from bridge.transports.adios.plan import LAYOUT, SCHEMA

__all__ = [
    "COLUMNS",
    "RECORD",
    "TOPIC",
    "Layout",
    "LookedBack",
    "Writer",
    "columns_of",
    "look_back",
]

Array = npt.NDArray[Any]
Layout = Literal["openpmd", "plain"]

TOPIC = "headrace/topic"
"""Attribute with the name of the topic that a file holds."""

COLUMNS = "headrace.columns"
"""Variable with what there is to know of a record of results, as MessagePack."""

RECORD = "headrace.record"
"""Variable with a record's offset in its topic."""

_SPECIES = "atoms"


class Writer:
    """Writes one stream or file; one thread uses it. Calls may wait in C++ without limit.

    Parameters
    ----------
    target
        Contact of an SST stream, or a BP5 file.
    engine
        ``SST`` or ``BP5``.
    schema
        Of the frames; None for a topic of results.
    layout
        ``plain`` writes each variable under its name. ``openpmd`` writes particles by openPMD's
        convention, each component by itself, and everything else under its name.
    topic
        Name of the topic, for a file that can be gone on with.
    parameters
        For ADIOS2's engine.
    append_after
        Go on with a file, after this many of its steps; -1 for a new one.
    """

    def __init__(
        self,
        target: str,
        engine: Literal["SST", "BP5"],
        schema: StreamSchema | None,
        *,
        layout: Layout = "plain",
        topic: str = "",
        parameters: Mapping[str, str] | None = None,
        append_after: int = -1,
    ) -> None:
        self._b = load()
        self._adios = self._b.ADIOS()
        self._io = self._adios.DeclareIO("write")
        self._io.SetEngine(engine)
        more = {"AppendAfterSteps": str(append_after)} if append_after >= 0 else {}
        self._io.SetParameters({**(parameters or {}), **more})
        self._schema = schema
        self._records: dict[str, str] = {}
        self._groups: list[str] = []
        self._steps = max(append_after, 0)
        self._kept: list[Array] = []
        if topic:
            self._define(TOPIC, topic)
        if schema is not None:
            self._declare(schema, layout)
        mode = self._b.Mode.Append if append_after >= 0 else self._b.Mode.Write
        if append_after < 0 and engine == "BP5":
            Path(target).parent.mkdir(parents=True, exist_ok=True)
        try:
            self._engine: Any = self._io.Open(target, mode)
        except RuntimeError as error:
            raise ConfigError(f"Cannot write {target!r}: {words_of(error)}.") from error

    # ----------------------------------------------------------------- declare

    def _declare(self, schema: StreamSchema, layout: Layout) -> None:
        if layout == "openpmd":
            self._records = records_of(schema)
            attributes, self._groups = static_attributes(schema, self._records, _SPECIES)
            for name, value in attributes.items():
                self._define(name, value)
        places = {v.name: self._places(v.name, v.shape) for v in schema.variables}
        self._define(SCHEMA, msgspec.json.encode(schema).decode())
        self._define(LAYOUT, msgspec.json.encode(places).decode())
        for variable in schema.variables:
            if variable.name not in self._records and variable.unit:
                self._define(f"{variable.name}/units", variable.unit)
        if schema.time_unit:
            self._define("time/units", schema.time_unit)

    def _places(self, name: str, shape: tuple[int, ...]) -> list[str]:
        """Return the ADIOS2 variables that hold a variable."""
        record = self._records.get(name)
        if record is None:
            return [name]
        prefix = f"/data/particles/{_SPECIES}/{record}"
        return [prefix] if len(shape) == 1 else [f"{prefix}/{c}" for c in "xyz"]

    def _define(self, name: str, value: Any) -> None:
        """Define an attribute, or give it another value for this step and the ones that follow."""
        self._io.RemoveAttribute(name)
        if isinstance(value, str):
            self._io.DefineAttribute(name, value)
        else:
            array = np.atleast_1d(np.asarray(value))
            self._io.DefineAttribute(name, array)

    # ------------------------------------------------------------------- write

    def write(
        self, step: int, time: float, epoch: int, offset: int, values: Mapping[str, Array]
    ) -> None:
        """Write a frame as one step.

        Raises
        ------
        ProtocolError
            If ADIOS2 cannot: the disk may be full.
        """
        assert self._schema is not None
        with self._step():
            if self._groups:
                self._define("/data/time", float(time))
                self._define("/data/snapshot", np.uint64(max(step, 0)))
                for group in self._groups:
                    self._define(f"__openPMD_groups/{group}", np.uint64(self._steps))
            self._put("step", np.array(step, np.int64))
            self._put("time", np.array(time, np.float64))
            self._put("epoch", np.array(epoch, np.int32))
            if offset >= 0:
                self._put("offset", np.array(offset, np.int64))
            for variable in self._schema.variables:
                places = self._places(variable.name, variable.shape)
                value = values[variable.name]
                if len(places) == 1:
                    self._put(places[0], value)
                else:
                    for column, place in enumerate(places):
                        self._put(place, np.ascontiguousarray(value[:, column]))

    def write_record(self, offset: int, batch: FrameBatch, meta: Mapping[str, Any]) -> None:
        """Write a record of results as one step: its rows stacked.

        Raises
        ------
        ProtocolError
            As for `write`.
        """
        own: dict[str, Array] = {"offset": batch.offsets, "step": batch.steps, "time": batch.times,
               "epoch": batch.epochs}  # fmt: skip
        described = [(n, a.dtype.str, list(a.shape)) for n, a in batch.columns.items()]
        known = msgspec.msgpack.encode([batch.simulation, len(batch), described, dict(meta)])
        with self._step():
            self._put(RECORD, np.array(offset, np.int64))
            self._put(COLUMNS, np.frombuffer(known, np.uint8))
            for name, array in {**own, **batch.columns}.items():
                self._put(name, array)

    @contextlib.contextmanager
    def _step(self) -> Any:
        try:
            self._engine.BeginStep()
            yield
            self._engine.EndStep()
        except (RuntimeError, ValueError) as error:
            raise ProtocolError(f"ADIOS2 could not write a step: {words_of(error)}.") from error
        self._steps += 1
        self._kept.clear()

    def _put(self, name: str, value: Array) -> None:
        dtype, shape = stored_as(value.dtype, value.shape)
        if dtype != value.dtype:
            whole = np.ascontiguousarray(value).reshape(*value.shape, 1)
            value = whole.view(dtype).reshape(shape)
        value = np.ascontiguousarray(value).reshape(shape)
        variable = self._io.InquireVariable(name)
        count = list(value.shape)
        if value.size == 0:
            return
        if not variable:
            example = np.zeros(1, value.dtype)
            variable = self._io.DefineVariable(name, example, count, [0] * len(count), count)
        elif count and list(variable.Shape()) != count:
            variable.SetShape(count)
            variable.SetSelection(([0] * len(count), count))
        value = value.reshape(1) if not count else value
        if not value.flags.writeable:
            # The bindings take no others.
            value = value.copy()
        # ADIOS2 reads it at the end of the step.
        self._kept.append(value)
        self._engine.Put(variable, value, self._b.Mode.Deferred)

    def close(self) -> None:
        """Finish the stream or file; may be called again."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.Close()


@dataclass(frozen=True, slots=True)
class LookedBack:
    """What an earlier writer left in a file."""

    steps: int = 0
    """Steps that are complete."""
    offset: int = -1
    """Offset of the last frame or record."""
    step: int = -1
    """Its step, if it is a frame."""
    epoch: int = 0
    """Its epoch."""
    time: float = 0.0
    """Its time."""


def look_back(target: str, topic: str, schema: StreamSchema | None) -> LookedBack:
    """Return where a file ends that is to be gone on with.

    Raises
    ------
    ConfigError
        If it is the archive of something else.
    """
    path = Path(target)
    if not path.exists():
        return LookedBack()
    b = load()
    adios = b.ADIOS()
    io = adios.DeclareIO("look")
    io.SetEngine("BPFile")
    try:
        engine = io.Open(target, b.Mode.ReadRandomAccess)
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            f"{target} is there and cannot be read as an ADIOS2 file ({words_of(error)}); "
            "name another file, or remove it."
        ) from error
    try:
        steps = int(engine.Steps())
        if not steps:
            return LookedBack()
        found = io.InquireAttribute(TOPIC)
        was = found.DataString()[0] if found else "something else"
        if was != topic:
            raise ConfigError(
                f"{target} is an archive of {was}, not of {topic}; name another file."
            )
        if schema is not None:
            held = msgspec.json.decode(
                io.InquireAttribute(SCHEMA).DataString()[0], type=StreamSchema
            )
            if held.variables != schema.variables:
                raise ConfigError(
                    f"{target} is an archive of frames with {', '.join(held.names)}, of other "
                    f"shapes or units than {topic} has now; name another file."
                )

        def last(name: str, dtype: str) -> Any:
            variable = io.InquireVariable(name)
            if not variable:
                return -1
            variable.SetStepSelection((variable.Steps() - 1, 1))
            value = np.zeros(1, dtype)
            engine.Get(variable, value, b.Mode.Sync)
            return value[0]

        if schema is None:
            return LookedBack(steps, int(last(RECORD, "<i8")))
        return LookedBack(
            steps, int(last("offset", "<i8")), int(last("step", "<i8")), int(last("epoch", "<i4")),
            float(last("time", "<f8")),
        )  # fmt: skip
    finally:
        engine.Close()


def columns_of(known: Array) -> tuple[str, int, list[tuple[str, str, list[int]]], dict[str, Any]]:
    """Return simulation, rows, columns and meta data that `Writer.write_record` wrote down."""
    simulation, rows, columns, meta = msgspec.msgpack.decode(
        known.tobytes(), type=tuple[str, int, list[tuple[str, str, list[int]]], dict[str, Any]]
    )
    return simulation, rows, columns, meta
