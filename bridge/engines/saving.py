"""When an engine saves, what it replays, and up to where it commits."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from bridge.engines.checkpoint import Checkpoint, CheckpointStore, CheckpointWriter
from bridge.engines.turns import Turn, TurnLog

__all__ = ["Saver"]

_BUSY = 0.1  # share of the time that saving may take from the engine
_SOON = 0.005  # seconds after which to look again whether the disk is done
_OFTEN = 0.05  # seconds between checkpoints of an idle engine that holds much
_MUCH = 1 << 20  # bytes of frames that are much to hold


class Saver:
    """Checkpoint and turns of one engine, together.

    Frames may be committed, and so released, up to the checkpoint *before* the newest: should the
    newest be damaged, the one before it can still be gone on from.

    Parameters
    ----------
    path
        The checkpoint.
    pipeline
        Name of the pipeline.
    every
        Seconds between checkpoints.
    every_bytes
        Bytes of frames after which a checkpoint is due sooner, so that space comes free.
    """

    def __init__(self, path: Path, pipeline: str, *, every: float, every_bytes: int) -> None:
        self._store = CheckpointStore(path, pipeline)
        self._writer = CheckpointWriter(self._store)
        self._turns = TurnLog(self._store.path)
        self._every = every
        self._every_bytes = every_bytes
        self._number = 0
        self._durable: dict[str, int] = {}
        self._durable_number = 0
        self._bytes = 0
        self._saved_bytes = 0
        self._last = 0.0
        self._next = 0.0
        self._not_before = 0.0

    def load(self) -> tuple[Checkpoint | None, list[Turn], list[str]]:
        """Return the checkpoint to go on from, the turns to take again, and complaints."""
        checkpoint, complaint = self._store.load()
        complaints = [complaint] if complaint else []
        if checkpoint is not None:
            self._durable_number = checkpoint.number
            self._durable = checkpoint.positions
        turns, complaint = self._turns.since(self._durable_number)
        if complaint:
            complaints.append(complaint)
        # A number that no journal has: the turns that were taken again belong to older ones.
        self._number = max(self._durable_number, self._turns.newest())
        return checkpoint, turns, complaints

    def begin(self, make: Callable[[int], Checkpoint] | None) -> None:
        """Begin to note turns, after what was loaded has been taken up.

        Parameters
        ----------
        make
            Makes a checkpoint of what was loaded and replayed, which is the new beginning; on the
            disk when this returns. Until then a kill finds the old checkpoint and all its turns.
            None if there was nothing.
        """
        if make is None:
            self._number = 0
        else:
            self._number += 1
            checkpoint = make(self._number)
            self._store.write(checkpoint.encode())
            oldest = self._durable_number
            self._turns.forget(lambda n: n < oldest)
            self._durable, self._durable_number = checkpoint.positions, checkpoint.number
        self._turns.begin(self._number, anew=True)
        self._next = time.monotonic() + self._every

    def note(self, turn: Turn, size: int) -> None:
        """Write a turn ahead, of frames of `size` bytes together."""
        self._turns.note(turn)
        self._bytes += size

    def due_in(self, *, idle: bool) -> float:
        """Return the seconds until it is time to save, 0 if it is.

        With `idle`, nothing came lately; perhaps because a stream is full, and waits for space that
        a checkpoint would free.
        """
        if self._writer.busy:
            return _SOON
        now = time.monotonic()
        due = self._next
        if self._bytes >= self._every_bytes:
            due = now
        elif idle and self._bytes + self._saved_bytes >= _MUCH:
            due = min(due, self._last + _OFTEN)
        return max(0.0, due - now, self._not_before - now)

    def save(self, make: Callable[[int], Checkpoint]) -> None:
        """Save the present state; the disk is waited for elsewhere."""
        began = time.monotonic()
        checkpoint = make(self._number + 1)
        self._number += 1
        self._turns.begin(self._number, anew=True)
        self._writer.submit(checkpoint)
        now = time.monotonic()
        self._not_before = now + (now - began) * (1.0 / _BUSY - 1.0)
        self._last = now
        self._next = now + self._every
        self._saved_bytes, self._bytes = self._bytes, 0

    def poll(self, *, wait: bool = False) -> dict[str, int] | None:
        """Return the positions that may be committed now, if a checkpoint has come to the disk."""
        done = self._writer.take(wait=wait)
        if done is None:
            return None
        oldest, before = self._durable_number, self._durable
        self._durable, self._durable_number = done.positions, done.number
        self._turns.forget(lambda n: n < oldest)
        return before

    def close(self) -> None:
        """Close the journal; a checkpoint on its way is waited for."""
        self._writer.take(wait=True)
        self._turns.close()
