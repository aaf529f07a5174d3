"""ADIOS2 out: frames into an SST stream or a BP5 file, written by a process that can be ended."""

from __future__ import annotations

import fcntl
import os
import select
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import msgspec
import numpy as np

from bridge.errors import (
    ConfigError,
    FrameOrderError,
    HeadraceError,
    MemberFailed,
    SchemaError,
    StreamFull,
)
from bridge.schema import StreamSchema
from bridge.staging.adios.child import Child, to_error
from bridge.staging.adios.parameters import sst_parameters
from bridge.staging.adios.writing import HEAD, WriteTask, close_quietly
from bridge.staging.fitting import fit
from bridge.staging.messages import FullPolicy
from bridge.transports.adios.library import load
from bridge.transports.adios.source import Engine, engine_for
from bridge.transports.adios.writer import Layout, LookedBack

__all__ = ["Output", "OutputStatistics"]

_PIPE_BYTES = 1 << 20
_SLACK = 5.0


@dataclass(frozen=True, slots=True)
class OutputStatistics:
    """What an output has done."""

    frames: int
    """Frames, or records, that were given to it and not dropped."""
    written: int
    """Those that ADIOS2 has taken."""
    dropped: int
    """Those that were dropped because the process that writes was behind."""
    waited: float
    """Seconds for which puts waited for room."""


class Output:
    """Writes one SST stream or BP5 file; one thread uses it.

    ADIOS2 runs in a process of its own. A put copies the frame into a pipe and returns; it waits
    if that process is behind, and at the time limit it raises, whatever ADIOS2 does.

    Parameters
    ----------
    target
        Contact of an SST stream, or a file that ends in ``.bp``.
    schema
        What each frame carries; None for results, which `put_record` takes.
    engine
        ``SST``, ``BP5`` or ``auto``.
    layout
        As for `bridge.transports.adios.writer.Writer`.
    when_full, capacity
        As in `bridge.staging.messages.StreamOptions`: see `sst_parameters`.
    readers
        How many readers of an SST stream the opening waits for.
    parameters
        More for ADIOS2's engine.
    topic
        What the file is the archive of; with `resume` it is gone on with.
    patience
        Seconds that a step may take to be written, or a reader to make room.
    open_timeout
        Seconds to wait for readers, and for the file to be opened.

    Attributes
    ----------
    before
        Where the file ended that is gone on with.

    Raises
    ------
    MissingExtra
        If ADIOS2 is not installed.
    ConfigError
        If the target cannot be written, or is the archive of something else.
    NobodyListening
        If too few readers came in time.
    """

    def __init__(
        self,
        target: str,
        schema: StreamSchema | None,
        *,
        engine: Engine = "auto",
        layout: Layout = "plain",
        when_full: FullPolicy = "block",
        capacity: int = 256 << 20,
        readers: int = 0,
        parameters: Mapping[str, str] | None = None,
        topic: str = "",
        resume: bool = False,
        patience: float = 60.0,
        open_timeout: float = 60.0,
    ) -> None:
        load()
        kind, _ = engine_for(target, engine)
        self.target = target
        self.schema = schema
        self.patience = patience
        self._drops = when_full != "block" and kind == "SST"
        size = 1 << 16 if schema is None else schema.frame_nbytes
        own = sst_parameters(when_full, capacity, size, readers=readers) if kind == "SST" else {}
        self._frames = self._dropped = 0
        self._waited = 0.0
        self._last_step = -1
        theirs, self._pipe = os.pipe()
        fcntl.fcntl(self._pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        os.set_blocking(self._pipe, False)
        task = WriteTask(
            target=target, engine=engine, frames=schema, layout=layout, topic=topic,
            parameters={**own, **(parameters or {})}, resume=resume, patience=patience,
            open_timeout=open_timeout, pipe=theirs,
        )  # fmt: skip
        try:
            self._child = Child(
                "bridge.staging.adios.writing",
                msgspec.to_builtins(task),
                what=f"the writer of {target!r}",
                descriptors=[theirs],
            )
        except BaseException:
            close_quietly(self._pipe)
            raise
        finally:
            os.close(theirs)
        self._closed = False
        self.before = LookedBack()
        try:
            self._await_opening(open_timeout)
        except BaseException:
            self._leave()
            raise

    def _await_opening(self, timeout: float) -> None:
        # It reads an old file first, which has a limit of its own.
        deadline = time.monotonic() + timeout + 90.0
        while (lines := self._child.listen(0.5)) is not None:
            for said in lines:
                if said.kind == "error":
                    raise to_error(said)
                self.before = LookedBack(**said.data)
                self._last_step = self.before.step
                return
            if time.monotonic() > deadline:
                raise MemberFailed(f"The writer of {self.target!r} did not begin in time.")
        raise self._child.why_ended()

    # -------------------------------------------------------------------- put

    def put(
        self,
        step: int,
        time: float,
        values: Mapping[str, Any],
        *,
        epoch: int = 0,
        offset: int = -1,
        timeout: float | None = None,
    ) -> bool:
        """Write a frame; the arrays are copied before the call returns.

        Returns
        -------
        bool
            False if it was dropped, as the writing process is behind and the policy drops.

        Raises
        ------
        SchemaError
            If a variable is missing, unknown, or has another shape or dtype.
        FrameOrderError
            If `step` is not greater than that of the frame before.
        StreamFull
            If there is no room in time.
        HeadraceError
            If the writing process ended; the sentence says why.
        """
        if self.schema is None:
            raise SchemaError(f"The output {self.target!r} takes results, not frames.")
        if step <= self._last_step:
            raise FrameOrderError(
                f"Step {step} of {self.target!r} comes after step {self._last_step}; steps must "
                "increase."
            )
        arrays = [
            np.ascontiguousarray(
                fit(self.target, v.name, v.numpy_dtype, v.shape, values.get(v.name))
            ).reshape(v.shape)
            for v in self.schema.variables
        ]
        if len(values) != len(arrays):
            unknown = sorted(set(values) - set(self.schema.names))
            raise SchemaError(
                f"The frame has {', '.join(map(repr, unknown))}, which {self.target!r} does not "
                f"declare; it declares {', '.join(self.schema.names)}."
            )
        if self._drops and self.behind > 1:
            self._dropped += 1
            return False
        size = sum(a.nbytes for a in arrays)
        views = [a.reshape(-1).view(np.uint8).data for a in arrays if a.nbytes]
        self._send([HEAD.pack(step, time, epoch, offset, size), *views], timeout)
        self._last_step = step
        self._frames += 1
        return True

    def put_record(
        self, offset: int, data: bytes | memoryview, *, timeout: float | None = None
    ) -> bool:
        """Write a record of results, encoded by `bridge.codec.encode_batch`; as `put`."""
        if self._drops and self.behind > 1:
            self._dropped += 1
            return False
        self._send([HEAD.pack(offset, 0.0, 0, offset, len(data)), data], timeout)
        self._frames += 1
        return True

    def _send(self, parts: list[Any], timeout: float | None) -> None:
        if self._closed:
            raise ConfigError(f"The output {self.target!r} is closed.")
        limit = self.patience + _SLACK if timeout is None else timeout
        queue = [memoryview(p) for p in parts if len(p)]
        began = deadline = 0.0
        sent = False
        while queue:
            try:
                count = os.writev(self._pipe, queue)
            except BlockingIOError:
                now = time.monotonic()
                began = began or now
                deadline = deadline or now + limit
                if now >= deadline:
                    self._give_up(limit, sent)
                select.select([], [self._pipe], [], min(0.5, deadline - now))
                continue
            except BrokenPipeError:
                raise self._why_gone() from None
            sent = True
            while queue and count >= len(queue[0]):
                count -= len(queue.pop(0))
            if queue and count:
                queue[0] = queue[0][count:]
        if began:
            self._waited += time.monotonic() - began

    def _give_up(self, limit: float, sent: bool) -> None:
        seen = self._child.progress()
        if sent:
            # Half a frame is in the pipe: nothing can follow it.
            self._leave()
        raise StreamFull(
            f"Waited {limit:g} s for room in {self.target!r}: of {self._frames} frames "
            f"{seen.frames} were written, and the process that writes waits for "
            f"{seen.doing or 'nothing'}. Start or speed up a reader, or choose another policy "
            "than 'block'."
        )

    def _why_gone(self) -> HeadraceError:
        while (lines := self._child.listen(1.0)) is not None:
            for said in lines:
                if said.kind == "error":
                    return to_error(said)
        return self._child.why_ended()

    # -------------------------------------------------------------------- end

    @property
    def behind(self) -> int:
        """Frames that ADIOS2 has not taken yet."""
        return self._frames - self._child.progress().frames

    @property
    def written(self) -> int:
        """Frames that ADIOS2 has taken."""
        return self._child.progress().frames

    def check(self) -> None:
        """Raise why the writing process ended, if it has; never blocks."""
        if not self._child.alive():
            raise self._why_gone()

    def flush(self, timeout: float | None = None) -> None:
        """Wait until everything is written.

        Raises
        ------
        StreamFull
            If it is not within the time limit.
        HeadraceError
            If the writing process ended.
        """
        limit = self.patience + _SLACK if timeout is None else timeout
        deadline = time.monotonic() + limit
        while self.behind:
            if self._child.listen(0.002) is None or not self._child.alive():
                raise self._why_gone()
            if time.monotonic() > deadline:
                self._give_up(limit, sent=False)

    def close(self, *, timeout: float | None = None) -> None:
        """Write what is left and close stream or file; may be called again.

        Raises
        ------
        HeadraceError
            If not everything could be written within the time limit.
        """
        if self._closed:
            return
        self._closed = True
        limit = 2 * self.patience + _SLACK if timeout is None else timeout
        deadline = time.monotonic() + limit
        os.close(self._pipe)
        failure: HeadraceError | None = None
        done = False
        try:
            while (lines := self._child.listen(0.1)) is not None:
                for said in lines:
                    done = done or said.kind == "done"
                    failure = to_error(said) if said.kind == "error" else failure
                if time.monotonic() > deadline:
                    failure = StreamFull(
                        f"Waited {limit:g} s for {self.target!r} to be closed: "
                        f"{self.behind} frames of {self._frames} are not written."
                    )
                    break
            if failure is None and not done:
                failure = self._child.why_ended()
            self._final = self.statistics()
        finally:
            self._child.close(patience=0.0 if failure is not None else 10.0)
        if failure is not None:
            raise failure

    def _leave(self) -> None:
        """Let go without writing what is left."""
        if not self._closed:
            self._closed = True
            close_quietly(self._pipe)
            self._final = self.statistics()
            self._child.close(patience=0.0)

    def statistics(self) -> OutputStatistics:
        """Return what this output has done so far."""
        if self._closed and hasattr(self, "_final"):
            return self._final
        return OutputStatistics(self._frames, self.written, self._dropped, self._waited)

    def __enter__(self) -> Output:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except HeadraceError:
            if kind is None:
                raise
