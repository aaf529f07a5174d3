"""How much of what was fetched to take at once."""

from __future__ import annotations

from collections.abc import Iterator

from bridge.frames import FrameBatch
from bridge.staging.client import Fetched

__all__ = ["Portions"]


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

    def cut(self, fetched: Fetched) -> Iterator[tuple[FrameBatch, float]]:
        """Cut what staging holds in one piece, and would be too much at once.

        Yields
        ------
        batch, put
            A piece, and the Unix time at which its newest frame was put.
        """
        for batch, put in zip(fetched.batches, fetched.stamps, strict=True):
            at = 0
            while at < len(batch):
                stop = at + self.frames
                whole = at == 0 and len(batch) <= self.frames
                yield (batch if whole else batch.take(slice(at, stop))), put
                at = stop

    def adapt(self, frames: int, seconds: float) -> None:
        """Note what some frames took."""
        fit = int(frames * self._seconds / max(seconds, 1e-9))
        # Up by halves, so that one quick batch does not bring a very long one.
        wanted = (self.frames + fit + 1) // 2 if fit > self.frames else fit
        self.frames = min(max(wanted, 1), self._limit)
