"""Single frames of a run, on demand: from staging while it holds them, else from a recording."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from bridge.errors import HeadraceError, OffsetOutOfRange, StagingError, TransportError
from bridge.staging.client_like import ClientLike

__all__ = ["FrameReader", "Pick", "Taken"]

Array = npt.NDArray[Any]
Pick = Callable[[dict[str, Array]], dict[str, Array]]

IDLE = 5.0
"""Seconds after which what was handed out is given back even if nobody asks for more."""


@dataclass(frozen=True, slots=True)
class Taken:
    """Some variables of one frame, copied."""

    simulation: str
    """Whose."""
    offset: int
    """Position in the stream."""
    step: int
    """Step of the simulation."""
    time: float
    """Simulated time."""
    epoch: int
    """Continuous piece of trajectory that it belongs to."""
    values: dict[str, Array]
    """Name to array."""
    stamp: float = 0.0
    """Unix time in seconds at which it was put, or a little later."""


class FrameReader:
    """Reads frames from staging, one at a time, over a connection of its own; any thread.

    Parameters
    ----------
    connect
        Makes a client; called when the first frame is asked for, and again after a failure.
    """

    def __init__(self, connect: Callable[[], ClientLike]) -> None:
        self._connect = connect
        self._client: ClientLike | None = None
        self._lock = threading.Lock()
        self._used = 0.0
        self._closed = False

    def read(
        self, simulation: str, offset: int, pick: Callable[[dict[str, Array]], dict[str, Array]]
    ) -> Taken:
        """Return one frame.

        Parameters
        ----------
        simulation, offset
            Which one.
        pick
            Is given the frame's variables as views, and returns those that are wanted, copied.

        Raises
        ------
        OffsetOutOfRange
            If staging does not hold it any more, or not yet.
        StagingError, TransportError
            If staging cannot be reached.
        """
        topic = f"frames/{simulation}"
        with self._lock:
            try:
                client = self._open()
                with client.fetch({topic: offset}, max_frames=1, max_bytes=1, wait=0.0) as got:
                    for batch, stamp in zip(got.batches, got.stamps, strict=True):
                        row = offset - batch.first
                        if 0 <= row < len(batch):
                            values = pick({k: v[row] for k, v in batch.columns.items()})
                            return Taken(
                                simulation, offset, int(batch.steps[row]),
                                float(batch.times[row]), int(batch.epochs[row]), values, stamp,
                            )  # fmt: skip
            except OffsetOutOfRange:
                pass
            except (TransportError, StagingError):
                self._drop()
                raise
        raise OffsetOutOfRange(
            f"Frame {offset} of {simulation!r} is not held: it was released, or is not written yet."
        )

    def newest(self, simulation: str) -> int:
        """Return the offset of the newest frame; -1 if there is none, or staging is away."""
        topic = f"frames/{simulation}"
        with self._lock:
            try:
                for status in self._open().topics(topic, schemas=False):
                    if status.name == topic:
                        return status.end - 1
            except (TransportError, StagingError):
                self._drop()
        return -1

    def settle(self) -> None:
        """Give back what was handed out, if nobody asked for anything lately."""
        with self._lock:
            client = self._client
            if client is not None and self._used and time.monotonic() - self._used > IDLE:
                self._used = 0.0
                if getattr(client, "temporary", False):
                    self._drop()
                    return
                try:
                    client.fetch({}, wait=0.0).release()
                except HeadraceError:
                    self._drop()

    def close(self) -> None:
        """Close the connection; nothing is read any more."""
        with self._lock:
            self._closed = True
            self._drop()

    def _open(self) -> ClientLike:
        if self._closed:
            # A thread that was asked before comes here only now.
            raise StagingError("No frames are read any more: the dashboard is being closed.")
        if self._client is None:
            self._client = self._connect()
        self._used = time.monotonic()
        return self._client

    def _drop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(HeadraceError):
                client.close()
