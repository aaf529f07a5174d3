"""Frames of one stream by number: those that are held at once, later ones when they come."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from bridge.closing import Closing
from bridge.errors import HeadraceError, OffsetOutOfRange, StagingError
from bridge.frames import Frame, FrameBatch
from bridge.schema import StreamSchema
from bridge.staging.client import Fetched
from bridge.staging.spread import connect

__all__ = ["StreamSource"]

_POLL = 5.0
"""Seconds of one long poll; a longer wait is made of several."""


class StreamSource(Closing):
    """A stream as a sequence of frames, numbered from the oldest one that it held when opened.

    One thread at a time may use it.

    Parameters
    ----------
    address
        Of the stager, or of several, separated by commas.
    simulation
        Whose frames.
    keys, timeout, mapped
        As for `bridge.staging.client.StagerClient`.
    patience
        Seconds to wait for the stream, and for a frame that has not come yet.
    so_far
        Take the stream to end with the newest frame that it has now.
    group
        Name of a consumer group: frames are kept until they were read here, even where others
        have read them and room is short. Frames that were read may be gone afterwards.

    Raises
    ------
    NobodyListening
        If no stager answers in time.
    StagingError
        If the stream has no frame within `patience`.
    """

    def __init__(
        self,
        address: str,
        simulation: str,
        *,
        keys: Any = None,
        timeout: float = 10.0,
        patience: float = 60.0,
        mapped: bool | None = None,
        so_far: bool = False,
        group: str = "",
    ) -> None:
        self.simulation = simulation
        self.address = address
        self._topic = f"frames/{simulation}"
        self._patience = patience
        self._group = group
        self._held: Fetched | None = None
        self._batch: FrameBatch | None = None
        self._client = connect(
            address, name=f"reader of {simulation}", keys=keys, timeout=timeout, mapped=mapped
        )
        try:
            self.first, self._end = self._find()
            status = self._client.status(self._topic)
            assert status.schema is not None
            self.schema: StreamSchema = status.schema
            self._end = max(self._end, status.end)
            self._final = so_far or status.finished
            self._done = self.first
            if group:
                self._client.commit(group, {self._topic: self.first})
        except BaseException:
            self._client.close()
            raise

    def _find(self) -> tuple[int, int]:
        """Wait for the first frame; return its offset and the offset after the newest one."""
        deadline = time.monotonic() + self._patience
        position = 0
        while True:
            left = deadline - time.monotonic()
            with self._client.fetch(
                {self._topic: position}, max_frames=1, wait=min(_POLL, max(left, 0.001))
            ) as got:
                if got.batches:
                    return got.batches[0].first, got.ends[self._topic]
                position = got.positions.get(self._topic, position)
                if self._topic in got.finished:
                    raise StagingError(f"The stream of {self.simulation!r} has ended empty.")
            if left <= 0:
                known = ", ".join(
                    t.name.removeprefix("frames/")
                    for t in self._client.topics("frames/", schemas=False)
                )
                raise StagingError(
                    f"Waited {self._patience:g} s for a first frame of {self.simulation!r} at "
                    f"{self.address}; the stager has streams of {known or 'nobody'}. Start the "
                    "simulation, or give a larger 'patience'."
                )

    # ------------------------------------------------------------------- state

    @property
    def length(self) -> int | None:
        """Number of frames; None as long as the simulation may write more.

        Asks the stager while that is so.
        """
        if not self._final:
            status = self._client.status(self._topic)
            self._end = max(self._end, status.end)
            self._final = status.finished
        return self._end - self.first if self._final else None

    @property
    def so_far(self) -> int:
        """Number of frames that are known to have been written."""
        return self._end - self.first

    # ----------------------------------------------------------------- reading

    def read(self, number: int) -> Frame:
        """Return a frame; its arrays are read-only views, valid until the next call.

        Waits for a frame that has not been written yet.

        Raises
        ------
        EOFError
            If the stream ends before this frame.
        StagingError
            If the frame was released, or did not come within the time limit.
        """
        offset = self.first + int(number)
        batch = self._batch
        if batch is None or not batch.first <= offset < batch.stop:
            batch = self._batch = self._fetch(offset)
        return batch.frame(offset - batch.first)

    def _fetch(self, offset: int) -> FrameBatch:
        if self._final and offset >= self._end:
            raise EOFError(f"The stream of {self.simulation!r} has {self.so_far} frames.")
        follows = self._batch is None or offset == self._batch.stop
        self._let_go()
        deadline = time.monotonic() + self._patience
        while True:
            left = deadline - time.monotonic()
            position = min(offset, self._end)
            there = position == offset < self._end
            # Where bytes are sent, one frame is enough for somebody who jumps about.
            limit = 4096 if follows or self._client.mapped else 1
            self._done = max(self._done, position)
            got = self._client.fetch(
                {self._topic: position},
                max_frames=limit,
                wait=0.0 if there else min(_POLL, max(left, 0.001)),
                group=self._group,
                commit={self._topic: self._done} if self._group else None,
            )
            self._end = max(self._end, got.ends.get(self._topic, 0))
            for batch in got.batches:
                if batch.first <= offset < batch.stop:
                    self._held = got
                    return batch
            got.release()
            self._check(offset, got, left)

    def _check(self, offset: int, got: Fetched, left: float) -> None:
        """Raise if it is of no use to go on waiting for a frame."""
        for gap in got.gaps:
            if gap.first <= offset < gap.stop:
                raise OffsetOutOfRange(
                    f"Frame {offset - self.first} of {self.simulation!r} was released before it "
                    "was read here; read faster, give the stream a larger capacity, or name a "
                    "consumer 'group', for which frames are kept."
                )
        if self._topic in got.finished and offset >= self._end:
            self._final = True
            raise EOFError(f"The stream of {self.simulation!r} has {self.so_far} frames.")
        if left <= 0:
            status = self._client.status(self._topic)
            who = "writes" if status.connected else "is not connected"
            raise StagingError(
                f"Waited {self._patience:g} s for frame {offset - self.first} of "
                f"{self.simulation!r} at {self.address}; the newest one is "
                f"{status.end - 1 - self.first}, of step {status.last_step}, and the simulation "
                f"{who}. Give a larger 'patience' if it is slower than that."
            )

    def _let_go(self) -> None:
        if self._held is not None:
            self._held.release()
        self._held = self._batch = None

    # --------------------------------------------------------------------- end

    def close(self) -> None:
        """Leave the group and close the connection; more than once does no harm."""
        self._let_go()
        if self._group:
            group, self._group = self._group, ""
            # A stager that is gone keeps no group.
            with contextlib.suppress(HeadraceError):
                self._client.leave(group, [self._topic])
        self._client.close()
