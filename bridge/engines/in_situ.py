"""A pipeline in the simulation's own process."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any
from uuid import uuid4

import numpy.typing as npt

from bridge.commands import Acknowledgement, Capability, Command
from bridge.engines.local import LocalEngine
from bridge.engines.options import LocalOptions
from bridge.engines.protocol import EngineStatistics, Guard
from bridge.engines.results import read_results
from bridge.frames import FrameBatch
from bridge.pipeline import Pipeline
from bridge.schema import StreamSchema
from bridge.staging.client import StagerClient
from bridge.staging.messages import StreamOptions
from bridge.staging.producer import Producer
from bridge.staging.stager import Stager

__all__ = ["InSitu"]


class InSitu:
    """Takes a simulation's frames and runs a pipeline over them, without another process.

    It is a stager, a producer and a local engine, joined by memory; whatever reads topics can read
    them at `address`, in this process.

    One thread calls it.

    Parameters
    ----------
    pipeline
        What to run.
    simulation
        Name of the simulation.
    schema
        What each frame carries.
    threaded
        Run the engine in a thread of its own, beside the simulation; the stream's policy says what
        happens if it falls behind. If false, each `put` returns when the frame has been analysed.
    guard, checkpoint, options, on_status
        As for `LocalEngine`. With a checkpoint, `stream` must be kept in a `directory` that
        outlives the process, or the frames to go on from are gone.
    capabilities
        What the pipeline may do to the simulation.
    stream
        How frames are kept.
    directory
        Folder in which staging keeps everything durably; None for memory.
    timeout
        Seconds that a `put` may wait for room, and `close` for the engine.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        simulation: str,
        schema: StreamSchema,
        *,
        threaded: bool = True,
        guard: Guard | None = None,
        checkpoint: Path | None = None,
        options: LocalOptions | None = None,
        on_status: Callable[[EngineStatistics], None] | None = None,
        capabilities: Sequence[Capability] = (),
        stream: StreamOptions | None = None,
        directory: Path | None = None,
        timeout: float = 60.0,
    ) -> None:
        self.pipeline = pipeline
        self.simulation = simulation
        self._timeout = timeout
        self._failure: BaseException | None = None
        self._closed = False
        self._closing = contextlib.ExitStack()
        try:
            stager = Stager(
                f"memory://in-situ-{uuid4().hex}",
                directory=directory,
                durable=directory is not None,
            ).start()
            self._closing.callback(stager.stop)
            self.address = stager.address
            self._client = StagerClient(self.address, name=f"{pipeline.name} (engine)")
            self._closing.callback(self._client.close)
            self._reader = StagerClient(self.address, name=f"{pipeline.name} (reader)")
            self._closing.callback(self._reader.close)
            self._producer = Producer(
                simulation,
                schema,
                address=self.address,
                options=stream,
                capabilities=capabilities,
                timeout=timeout,
                linger=0.0,
            )
            self._closing.callback(self._producer.close, finished=False)
            self.engine = LocalEngine(
                pipeline,
                self._client,
                guard=guard,
                checkpoint=checkpoint,
                simulations=(simulation,),
                on_status=on_status,
                options=options,
            )
        except BaseException:
            self._closing.close()
            raise
        self._analysed = self._producer.resumed.next_offset
        self._thread: threading.Thread | None = None
        if threaded:
            self._thread = threading.Thread(
                target=self._run, name=f"headrace-{pipeline.name}", daemon=True
            )
            self._thread.start()

    def put(
        self, step: int, time: float, values: Mapping[str, npt.NDArray[Any]], *, epoch: int = 0
    ) -> bool:
        """Give one frame to the pipeline; see `Producer.put`.

        Raises
        ------
        OperatorFailed
            If the pipeline has failed, on this frame or an earlier one.
        SchemaError, FrameOrderError, StreamFull
            As for `Producer.put`.
        """
        self._raise()
        taken = self._producer.put(step, time, values, epoch=epoch)
        if taken and self._thread is None:
            self._producer.flush(self._timeout)
            self._analysed += 1
            while self.engine.position(self.simulation) < self._analysed:
                self._guarded(lambda: self.engine.step(self._timeout))
        return taken

    def commands(self) -> list[Command]:
        """Return the commands that arrived since the last call; never blocks."""
        return self._producer.commands()

    def wait_for_command(self, timeout: float) -> bool:
        """Wait until a command is there; false at the time limit."""
        return self._producer.wait_for_command(timeout)

    def acknowledge(self, acknowledgement: Acknowledgement) -> None:
        """Tell what became of a command."""
        self._producer.acknowledge(acknowledgement)

    def results(self) -> FrameBatch | None:
        """Return the results that are held, as one batch; None if there are none."""
        return read_results(self._reader, self.pipeline.name, self.simulation)

    def statistics(self) -> EngineStatistics:
        """Return what the engine did so far."""
        return self.engine.statistics()

    def finish(self) -> EngineStatistics:
        """End the stream and wait until everything has been analysed; results stay until `close`.

        Raises
        ------
        OperatorFailed
            If the pipeline failed.
        TimeoutError
            If the engine is not done within the time limit.
        """
        self._producer.close()
        if self._thread is None:
            self._guarded(self.engine.run)
        else:
            self._thread.join(self._timeout)
            if self._thread.is_alive():
                self.engine.stop()
                raise TimeoutError(
                    f"Waited {self._timeout:.0f} s for pipeline {self.pipeline.name!r} to analyse "
                    "the last frames; raise the 'timeout'."
                )
        self._raise()
        return self.statistics()

    def close(self) -> None:
        """End everything, without waiting for frames that were not analysed."""
        if self._closed:
            return
        self._closed = True
        self.engine.stop()
        if self._thread is not None:
            self._thread.join(self._timeout)
        self._closing.close()

    def _run(self) -> None:
        try:
            self.engine.run()
        except BaseException as error:
            self._failure = error

    def _guarded(self, call: Callable[[], Any]) -> None:
        try:
            call()
        except BaseException as error:
            self._failure = error
            raise

    def _raise(self) -> None:
        if self._failure is not None:
            raise self._failure

    def __enter__(self) -> InSitu:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self.finish()
        finally:
            self.close()
