"""Novelty by counting: how often the place of a frame was visited before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from analytics.novelty.bins import Bins
from analytics.novelty.encoded import make_space
from analytics.novelty.memory import FrameMemory, Retention
from analytics.novelty.visited import VisitMemory
from bridge.frames import FrameBatch
from bridge.pipeline import Context, GlobalOperator

__all__ = ["VisitCounts"]


class VisitCounts(GlobalOperator):
    """Count the remembered frames in each frame's bin of the reduced space.

    The space may be learned while the counting goes on: then the memory holds the features, and
    is projected and counted anew whenever the model changes. A count is of remembered frames;
    where more than `memory` frames came, of a uniform sample or of the latest of them.

    Adds a column `output`, int64 of shape (n,): the frames of all simulations in the bin, this one
    included; 0 while the space is not ready.

    Parameters
    ----------
    input
        Column with the coordinates, shape (n,) or (n, k).
    features
        Column that `input` is learned from (see `analytics.novelty.space.Space`); empty for a
        fixed space.
    model, registry
        Of the network that makes `input` of `features` (see
        `analytics.novelty.encoded.EncodedSpace`); empty for none.
    width
        Width of the bins, in the unit of `input`; one number, or one for each dimension.
    relative
        `width` is a multiple of the running standard deviation of each dimension.
    memory
        Frames to keep.
    retention
        ``reservoir`` or ``sliding``.
    seed
        Of the reservoir.
    output
        Name of the column.
    """

    def __init__(
        self,
        *,
        input: str,
        features: str | Sequence[str] = "",
        model: str = "",
        registry: str = "",
        width: float | Sequence[float] = 0.5,
        relative: bool = False,
        memory: int = 20_000,
        retention: Retention = "reservoir",
        seed: int = 0,
        output: str = "visits",
    ) -> None:
        self.output = output
        self._visited = VisitMemory(
            FrameMemory(memory, retention=retention, seed=seed),
            make_space(input, features, model, registry),
            Bins(memory, width, relative=relative),
        )

    def reads(self) -> tuple[str, ...]:
        """Return the columns that `process` reads."""
        return self._visited.space.reads()

    def process(self, batch: FrameBatch, context: Context) -> FrameBatch:
        """Add the column of counts."""
        visited = self._visited
        rows = visited.space.read(batch)
        out = np.zeros(len(batch), np.int64)
        for piece in visited.space.pieces(batch):
            visited.enter(piece, batch, rows)
            counts = visited.add({k: v[piece.start : piece.stop] for k, v in rows.items()})
            if counts:
                out[piece.start : piece.stop] = counts
        return batch.with_columns({self.output: out})

    def save(self) -> dict[str, Any]:
        """Return the memory, the counts and the state of the random numbers."""
        return self._visited.save()

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what `save` returned."""
        self._visited.restore(state)
