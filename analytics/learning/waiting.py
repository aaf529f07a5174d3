"""Frames that have come before the updates that are due ahead of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np

from analytics.learning.intake import Intake, Portion, part_of

__all__ = ["Waiting"]


class Waiting:
    """Portions in the order in which they came, of which as many frames as wanted are taken up.

    Parameters
    ----------
    intake
        What takes them up.

    Attributes
    ----------
    frames
        That wait.
    """

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._portions: deque[Portion] = deque()
        self._first = 0  # frame of the first portion from which on it waits
        self.frames = 0

    def add(self, portion: Portion) -> None:
        """Let a copy of a portion wait: what staging handed out is gone after the batch."""
        if len(portion.offsets):
            arrays = tuple(np.array(a) for a in portion.arrays)
            rest = (np.array(a) for a in (portion.number, portion.zone, portion.offsets))
            self._portions.append(Portion(arrays, *rest, simulation=portion.simulation))
            self.frames += len(portion.offsets)

    def take(self, count: int) -> int:
        """Take up so many frames, or all that wait if they are fewer; return how many."""
        left = count = min(count, self.frames)
        while left > 0:
            portion, start = self._portions[0], self._first
            stop = min(len(portion.offsets), start + left)
            self._intake.put(portion, start, stop)
            left -= stop - start
            self._first = stop
            if stop == len(portion.offsets):
                self._portions.popleft()
                self._first = 0
        self.frames -= count
        return count

    def save(self) -> dict[str, Any]:
        """Return the state as arrays and plain data."""
        state: dict[str, Any] = {"portions": len(self._portions), "first": self._first}
        for i, portion in enumerate(self._portions):
            state |= {
                f"{i} simulation": portion.simulation,
                f"{i} offsets": portion.offsets,
                f"{i} number": portion.number,
                f"{i} zone": portion.zone,
                **{f"{i} rows_{j}": a for j, a in enumerate(portion.arrays)},
            }
        return state

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what `save` returned."""
        self._portions.clear()
        for i in range(int(state["portions"])):
            part = part_of(state, str(i))
            arrays = [np.asarray(part[f"rows_{j}"]) for j in range(len(part) - 4)]
            given = (np.asarray(part[name]) for name in ("number", "zone", "offsets"))
            self._portions.append(Portion(tuple(arrays), *given, simulation=part["simulation"]))
        self._first = int(state["first"])
        self.frames = sum(len(p.offsets) for p in self._portions) - self._first
