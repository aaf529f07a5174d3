"""Frames remembered by place: a bounded memory, its space, and counts of visits to each bin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

from analytics.novelty.bins import Bins
from analytics.novelty.memory import FrameMemory
from analytics.novelty.space import Piece, Space
from bridge.frames import FrameBatch

__all__ = ["VisitMemory"]

Array = npt.NDArray[Any]


class VisitMemory:
    """What visit counts and restarts have in common.

    Counts are those of the remembered frames: when the space is learned and its model changes,
    all of them are projected anew and counted anew. With relative widths they are also counted
    anew whenever the number of frames seen has doubled, at a cost that is constant per frame.

    Parameters
    ----------
    memory, space, bins
        Parts; without bins nothing is counted.
    """

    def __init__(self, memory: FrameMemory, space: Space, bins: Bins | None) -> None:
        self.memory = memory
        self.space = space
        self.bins = bins

    def enter(self, piece: Piece, batch: FrameBatch, rows: dict[str, Array]) -> None:
        """Begin with rows of a piece, as the space read them: follow the model if it changed."""
        moved = self.space.enter(piece, batch, self.memory, rows)
        if moved and self.bins is not None and self.memory.seen:
            self.bins.rebuild(self.memory["coordinates"])

    def add(self, rows: Mapping[str, Array]) -> list[int]:
        """Take up frames of the piece entered last.

        Returns
        -------
        list of int
            How many remembered frames lie in the bin of each frame, itself included; empty
            where there is no model yet, or nothing is counted.
        """
        if self.bins is None or not self.space.version:
            self.memory.add(rows)
            return []
        n = len(rows["coordinates"])
        counts: list[int] = []
        start = 0
        while start < n:
            stop = min(n, start + self._until_doubled())
            part = rows if stop - start == n else {k: v[start:stop] for k, v in rows.items()}
            slots = self.memory.add(part)
            counts += self.bins.add(slots, part["coordinates"])
            if self.bins.relative and self.memory.seen.bit_count() == 1:
                self.bins.rebuild(self.memory["coordinates"])
            start = stop
        return counts

    def save(self) -> dict[str, Any]:
        """Return the state."""
        state = self.memory.save("memory")
        state["version"] = self.space.version
        if self.bins is not None:
            state.update(self.bins.save("bins"))
        return state

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what `save` returned."""
        self.memory.restore("memory", state)
        self.space.version = int(state["version"])
        if self.bins is not None:
            self.bins.restore("bins", state)

    def _until_doubled(self) -> int:
        if self.bins is None or not self.bins.relative:
            return 1 << 62
        seen = self.memory.seen
        return (1 << seen.bit_length()) - seen
