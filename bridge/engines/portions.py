"""How much of what was fetched to take at once."""

from __future__ import annotations

import time
from collections.abc import Iterator

from bridge.frames import FrameBatch
from bridge.staging.client import Fetched

__all__ = ["Portions"]


_LITTLE = 256 << 10  # bytes up to which pieces that follow each other are copied into one


def _joined(fetched: Fetched) -> Iterator[tuple[FrameBatch, float]]:
    """Yield batches, small neighbours as one: each costs an append, however small it is."""
    waiting: list[FrameBatch] = []
    size, stamp = 0, 0.0
    for batch, put in zip(fetched.batches, fetched.stamps, strict=True):
        fits = (
            waiting
            and waiting[-1].simulation == batch.simulation
            and waiting[-1].stop == batch.first
            and size + batch.nbytes <= _LITTLE
        )
        if waiting and not fits:
            yield FrameBatch.concatenate(waiting), stamp
            waiting, size = [], 0
        waiting.append(batch)
        size += batch.nbytes
        stamp = put
    if waiting:
        yield FrameBatch.concatenate(waiting), stamp


class Portions:
    """Keeps batches so small that none takes much longer than a set time.

    Parameters
    ----------
    max_frames
        Frames to take at once, at most.
    seconds
        What a batch should take, at most.

    Attributes
    ----------
    frames
        Frames to take at once, at present.
    """

    def __init__(self, max_frames: int, seconds: float) -> None:
        self.frames = max_frames
        self._limit = max_frames
        self._seconds = seconds
        self._taken = -float("inf")

    def cut(self, fetched: Fetched) -> Iterator[tuple[FrameBatch, float]]:
        """Cut what staging holds in one piece, and would be too much at once; join what is little.

        Yields
        ------
        batch, put
            A piece, and the Unix time at which its newest frame was put.
        """
        for batch, put in _joined(fetched):
            at = 0
            while at < len(batch):
                stop = at + self.frames
                whole = at == 0 and len(batch) <= self.frames
                yield (batch if whole else batch.take(slice(at, stop))), put
                at = stop

    def groups(
        self, fetched: Fetched, *, together: bool
    ) -> Iterator[list[tuple[FrameBatch, float]]]:
        """Put the pieces of `cut` into groups, in their order, each of no more frames than a piece.

        Parameters
        ----------
        fetched
            What was fetched.
        together
            Whether it is of use to have several in a group; otherwise each is one of its own.
        """
        group: list[tuple[FrameBatch, float]] = []
        frames = 0
        for batch, put in self.cut(fetched):
            if group and (not together or frames + len(batch) > self.frames):
                yield group
                group, frames = [], 0
            group.append((batch, put))
            frames += len(batch)
        if group:
            yield group

    def gather(self, seconds: float) -> None:
        """Wait until so much time has passed since frames were last taken, that more may come."""
        left = self._taken + seconds - time.monotonic()
        if left > 0:
            time.sleep(left)

    def adapt(self, frames: int, seconds: float) -> None:
        """Note what some frames took."""
        self._taken = time.monotonic()
        fit = int(frames * self._seconds / max(seconds, 1e-9))
        # Up by halves, so that one quick batch does not bring a very long one.
        wanted = (self.frames + fit + 1) // 2 if fit > self.frames else fit
        self.frames = min(max(wanted, 1), self._limit)
