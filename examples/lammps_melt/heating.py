"""A policy of one's own: raise the temperature by a little after so many frames."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bridge.errors import ConfigError
from bridge.frames import FrameBatch
from bridge.pipeline import Context, KeyedOperator

__all__ = ["Heat"]


class Heat(KeyedOperator):
    """Raise the temperature of a simulation by `by` after each `every` frames, to `highest`.

    Parameters
    ----------
    first
        What the simulation begins with.
    """

    def __init__(self, *, every: int, by: float, first: float, highest: float) -> None:
        if every < 1 or not by > 0:
            raise ConfigError("Heat needs 'every' of at least 1, and 'by' above 0.")
        self.every, self.by, self.first, self.highest = every, by, first, highest
        self._frames = 0

    def reads(self) -> tuple[str, ...]:
        """Return the columns that `process` reads: none."""
        return ()

    def process(self, batch: FrameBatch, context: Context) -> FrameBatch:
        """Count the frames."""
        for row in range(len(batch)):
            self._frames += 1
            value = round(self.first + self.by * (self._frames // self.every), 6)
            if self._frames % self.every or value > self.highest:
                continue
            context.command(
                "set",
                batch.simulation,
                parameter="temperature",
                value=value,
                reason=f"{self._frames} frames have come; it is time for more heat.",
                at=int(batch.offsets[row]),
            )
        return batch

    def save(self) -> dict[str, Any]:
        """Return the number of frames seen."""
        return {"frames": self._frames}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what `save` returned."""
        self._frames = int(state["frames"])
