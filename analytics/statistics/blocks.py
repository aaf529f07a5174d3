"""Covariances gathered in blocks that end at fixed frame counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from analytics.statistics.running import RunningMoments
from bridge.errors import SchemaError

__all__ = ["BLOCK", "MAX_FEATURES", "BlockedMoments"]

Array = npt.NDArray[np.float64]

BLOCK = 64
"""Frames in a block. One matrix product for 64 frames costs little more than for one."""

MAX_FEATURES = 4096
"""Most features whose covariance is kept: its matrix has 134 MB."""


class BlockedMoments:
    """Mean and covariance of rows, each belonging to a frame of a counted stream.

    Rows wait until the count of frames is a multiple of `BLOCK`; then they are taken up together.
    So a call is cheap however few frames come with it, and the sums are the same to the last bit
    however the stream is cut.

    Parameters
    ----------
    half_life
        Number of frames of the stream after which a row counts half; None for no forgetting.

    Attributes
    ----------
    clock
        Number of frames counted.
    moments
        What was taken up; call `settle` first to have everything in it.
    """

    def __init__(self, *, half_life: float | None = None) -> None:
        self.moments = RunningMoments(covariance=True, half_life=half_life)
        self.clock = 0
        self._settled = 0
        self._rows: list[Array] = []
        self._ticks: list[npt.NDArray[np.int64]] = []

    @property
    def room(self) -> int:
        """How many frames may be counted before the block is full."""
        return BLOCK - self.clock % BLOCK

    def add(self, rows: Array, ticks: npt.NDArray[np.int64]) -> None:
        """Let rows wait, with the number (from 1) of the frame that each belongs to.

        The rows are kept as they are: hand over an array of your own. Call `advance` next, with
        all frames that they belong to.
        """
        if rows.shape[1] > MAX_FEATURES:
            raise SchemaError(
                f"The covariance of {rows.shape[1]} features would need "
                f"{rows.shape[1] ** 2 * 8 / 1e6:.0f} MB; at most {MAX_FEATURES} are possible "
                "(a time lag counts each twice). Choose fewer features."
            )
        if len(rows):
            self._rows.append(rows)
            self._ticks.append(ticks)

    def advance(self, frames: int) -> None:
        """Count frames, at most `room`."""
        self.clock += frames
        if self.clock % BLOCK == 0:
            self.settle()

    def settle(self) -> RunningMoments:
        """Take up the rows that wait, and return the moments as of now.

        To keep results independent of how the stream is cut, call this at exact frame counts
        only.
        """
        moments, half_life = self.moments, self.moments.half_life
        moments.forget(self.clock - self._settled)
        self._settled = self.clock
        if self._rows:
            rows = self._rows[0] if len(self._rows) == 1 else np.concatenate(self._rows)
            weights = None
            if half_life is not None:
                weights = 0.5 ** ((self.clock - np.concatenate(self._ticks)) / half_life)
            moments.absorb(rows, weights)
            self._rows, self._ticks = [], []
        return moments

    def merge(self, other: BlockedMoments) -> None:
        """Take up what another one has gathered, each aged by its own clock; settles this one."""
        copy = BlockedMoments(half_life=other.moments.half_life)
        copy.restore(other.save())
        self.settle().merge(copy.settle())
        self.clock += other.clock
        self._settled = self.clock

    def save(self) -> dict[str, Any]:
        """Return the state as arrays and plain data."""
        none = np.zeros((0, 0))
        ticks = np.concatenate([*self._ticks, np.zeros(0, np.int64)])
        return {
            **self.moments.save(),
            "clock": self.clock,
            "settled": self._settled,
            "waiting_rows": np.concatenate(self._rows) if self._rows else none,
            "waiting_ticks": ticks,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what `save` returned."""
        self.moments.restore(state)
        self.clock = int(state["clock"])
        self._settled = int(state["settled"])
        rows = np.array(state["waiting_rows"], np.float64)
        self._rows = [rows] if len(rows) else []
        self._ticks = [np.array(state["waiting_ticks"], np.int64)] if len(rows) else []
