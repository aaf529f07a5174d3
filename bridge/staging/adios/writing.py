"""The process that writes ADIOS2: takes frames from a pipe and puts each into a step."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import struct
from collections.abc import Callable
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from bridge.codec import decode_batch
from bridge.schema import StreamSchema
from bridge.staging.adios.beat import Beat
from bridge.staging.adios.child import Said
from bridge.transports.adios.source import engine_for
from bridge.transports.adios.writer import Layout, LookedBack, Writer, look_back

__all__ = ["HEAD", "WriteTask", "work"]

HEAD = struct.Struct("<qdqqQ")
"""Step, time, epoch, offset and bytes that follow."""

_LOOK = 60.0
"""Seconds that looking into an old file may take."""


class WriteTask(msgspec.Struct, frozen=True, kw_only=True):
    """What to write, and where to; see `bridge.staging.adios.output.Output`."""

    target: str
    engine: Literal["auto", "SST", "BP5"] = "auto"
    frames: StreamSchema | None = None
    layout: Layout = "plain"
    topic: str = ""
    parameters: dict[str, str] = {}
    resume: bool = False
    patience: float = 60.0
    open_timeout: float = 60.0
    pipe: int = -1


def work(task: dict[str, Any], beat: Beat, say: Callable[[Said], None]) -> None:
    """Write until the pipe ends."""
    read = msgspec.convert(task, WriteTask)
    # Whoever feeds us tells the end by closing the pipe.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    engine, target = engine_for(read.target, read.engine)
    what = f"{'the SST stream' if engine == 'SST' else 'the file'} {target!r}"
    before = LookedBack()
    if read.resume and engine == "BP5":
        with beat.within(_LOOK, f"{what}, which is there already, to be read"):
            before = look_back(target, read.topic, read.frames)
    waits = f"a reader of {what}" if engine == "SST" else f"{what} to be opened"
    with beat.within(read.open_timeout, waits):
        writer = Writer(
            target, engine, read.frames, layout=read.layout, topic=read.topic,
            parameters=read.parameters, append_after=before.steps or -1,
        )  # fmt: skip
    say(Said("opened", data=dataclasses.asdict(before)))
    waits = f"room in the queue of {what}" if engine == "SST" else f"{what} to take a step"
    try:
        with open(read.pipe, "rb", buffering=0) as pipe:
            _Pump(pipe, read.frames).run(writer, beat, read.patience, waits)
    finally:
        with beat.within(read.patience, f"the readers of {what} to take what is left"):
            writer.close()


class _Pump:
    def __init__(self, pipe: Any, schema: StreamSchema | None) -> None:
        self._pipe = pipe
        self._schema = schema
        self._head = bytearray(HEAD.size)
        self._body = bytearray()
        self._arrays: dict[str, npt.NDArray[Any]] = {}

    def run(self, writer: Writer, beat: Beat, patience: float, waits: str) -> None:
        while self._fill(memoryview(self._head)):
            step, time, epoch, offset, size = HEAD.unpack(self._head)
            if len(self._body) < size:
                self._arrays = {}
                self._body = bytearray(size)
                if self._schema is not None:
                    self._arrays = _views(self._body, self._schema)
            if not self._fill(memoryview(self._body)[:size]):
                # Whoever wrote it was killed: what it had not finished never was.
                return
            with beat.within(patience, waits):
                if self._schema is not None:
                    writer.write(step, time, epoch, offset, self._arrays)
                else:
                    batch, meta = decode_batch(memoryview(self._body)[:size])
                    writer.write_record(offset, batch, meta)
            beat.step = step
            beat.frames += 1
            beat.tell()

    def _fill(self, view: memoryview) -> bool:
        at = 0
        while at < len(view):
            got = self._pipe.readinto(view[at:])
            if not got:
                return False
            at += got
        return True


def _views(body: bytearray, schema: StreamSchema) -> dict[str, npt.NDArray[Any]]:
    out, at = {}, 0
    for variable in schema.variables:
        out[variable.name] = np.ndarray(variable.shape, variable.numpy_dtype, body, at)
        at += variable.nbytes
    return out


# Both ends of a pipe are ours; the other end must not keep it open here.
def close_quietly(descriptor: int) -> None:
    """Close a descriptor that may be closed already."""
    with contextlib.suppress(OSError):
        os.close(descriptor)
