"""One reader of an IMD server: its place in the stream, its pauses, its rate."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from bridge.frames import FrameBatch
from bridge.runs.imd_frames import Outgoing
from bridge.staging.client_like import ClientLike
from bridge.transports.imd import Kind, ReaderConnection, Request

__all__ = ["ReaderSession"]

log = logging.getLogger(__name__)

LOOK = 0.05
"""Seconds for which a fetch waits: so late may the reader's requests be seen."""

BATCH_BYTES = 4 << 20
"""Bytes of frames that are fetched together, if each is to be sent."""


class ReaderSession:
    """Sends frames to one reader; one thread runs it.

    Parameters
    ----------
    found
        The reader's socket.
    client
        Connection to the stager, for this session alone.
    topic
        The stream.
    outgoing
        Makes the frames; for this session alone.
    start
        Offset to begin with; None for the oldest or newest.
    from_oldest
        Which of the two.
    every_frame
        Leave none out.
    wait
        Whether the next reader begins where this one left; the reader may change it.

    Raises
    ------
    NobodyListening, ProtocolError
        If the reader does not speak IMD.
    """

    def __init__(
        self,
        found: socket.socket,
        client: ClientLike,
        topic: str,
        outgoing: Outgoing,
        *,
        start: int | None,
        from_oldest: bool,
        every_frame: bool,
        wait: bool,
    ) -> None:
        self._client = client
        self._topic = topic
        self._outgoing = outgoing
        self._every_frame = every_frame
        self._paused = False
        self._rate = 1
        self._last_step: int | None = None
        self._over = False
        self._offsets: list[int] = []
        self.wait = wait
        self.frames = self.skipped = 0
        self._reader = ReaderConnection(found, outgoing.info)
        if start is not None:
            self.position = start
        else:
            status = client.topics(topic, schemas=False)
            here = next(s for s in status if s.name == topic)
            self.position = here.low if from_oldest else max(here.low, here.end - 1)

    def run(self, stopped: Callable[[], bool]) -> None:
        """Serve until the reader leaves, the stream ends, or `stopped` says so."""
        reader = self._reader
        log.info("%s reads %s by IMD.", reader.place, self._topic)
        try:
            while not self._over and not reader.gone and not stopped():
                self._obey(reader.take_requests())
                if self._paused:
                    reader.wait(LOOK)
                    continue
                rows, last = self._fetch()
                if rows is not None:
                    self._send(rows, stopped)
                elif last:
                    break
        finally:
            reader.close()
            log.info("%s has left %s after %d frames.", reader.place, self._topic, self.frames)

    def _fetch(self) -> tuple[npt.NDArray[Any] | None, bool]:
        """Return the next frames, copied, and whether the stream is at its end."""
        topic = self._topic
        size = BATCH_BYTES if self._every_frame else 1
        with self._client.fetch({topic: self.position}, max_bytes=size, wait=LOOK) as got:
            for gap in got.gaps:
                self.skipped += gap.stop - gap.first
                self.position = gap.stop
            self._obey(self._reader.take_requests())
            if self._paused or self._over:
                return None, False
            if not got.batches:
                return None, topic in got.finished
            batch = got.batches[0]
            newest = got.ends[topic] - 1
            if not self._every_frame:
                if newest > int(batch.offsets[-1]):
                    # While the reader took a frame, newer ones came: only the newest counts.
                    self.skipped += newest - int(batch.offsets[0])
                    self.position = newest
                    return None, False
                self.skipped += len(batch) - 1
                batch = batch.take(slice(len(batch) - 1, None))
            self.position = int(batch.offsets[-1]) + 1
            batch = self._choose(batch)
            if not len(batch):
                return None, False
            # Frames are copied here, so that a slow reader keeps nothing in staging.
            self._offsets = batch.offsets.tolist()
            return self._outgoing.make(batch), False

    def _choose(self, batch: FrameBatch) -> FrameBatch:
        """Leave out what is nearer to the frame before than the rate that was asked for."""
        if self._rate <= 1:
            self._last_step = int(batch.steps[-1])
            return batch
        chosen = []
        for row, step in enumerate(batch.steps.tolist()):
            if self._last_step is None or step - self._last_step >= self._rate:
                chosen.append(row)
                self._last_step = step
        return batch.take(np.array(chosen, np.intp))

    def _send(self, rows: npt.NDArray[Any], stopped: Callable[[], bool]) -> None:
        for row in range(len(rows)):
            while self._paused and not (self._over or self._reader.gone or stopped()):
                self._reader.wait(LOOK)
                self._obey(self._reader.take_requests())
            if self._over or self._reader.gone or stopped():
                self.position = self._offsets[row]
                return
            self._reader.send(memoryview(rows[row : row + 1].view(np.uint8).data))
            self.frames += 1
            if self._every_frame:
                self._obey(self._reader.take_requests())

    def _obey(self, requests: list[Request]) -> None:
        for request in requests:
            match request.kind:
                case Kind.PAUSE:
                    # In version 2 a second pause ends the first.
                    self._paused = not self._paused if self._reader.info.version == 2 else True
                case Kind.RESUME:
                    self._paused = False
                case Kind.RATE:
                    self._rate = max(1, request.length)
                case Kind.WAIT:
                    self.wait = request.length != 0
                case Kind.DISCONNECT | Kind.KILL:
                    # The simulation is not the reader's to end.
                    self._over = True
                case _:
                    log.info("%s asked for %s in vain.", self._reader.place, request.kind.name)
