"""Novelty by density: frames that lie where past frames are few."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from analytics.novelty.encoded import make_space
from analytics.novelty.lof import OutlierModel
from analytics.novelty.memory import FrameMemory, Retention
from bridge.errors import ConfigError
from bridge.frames import FrameBatch
from bridge.pipeline import Context, GlobalOperator

__all__ = ["LocalOutlier"]

Array = npt.NDArray[Any]


class LocalOutlier(GlobalOperator):
    """Score each frame by its local outlier factor against a memory of earlier frames.

    The memory is fitted after exact numbers of frames, and once more when the space that it lies
    in is learned and changes. A frame is scored before it is remembered.

    Adds two columns of shape (n,): `output`, float64, about 1 in a crowd and the larger the more
    alone (1 while there is no fit); and ``<output>_version``, int64, the number of fits so far,
    0 while the score says nothing.

    Parameters
    ----------
    input
        Column with the coordinates, shape (n,) or (n, k).
    features
        Column that `input` is learned from (see `analytics.novelty.space.Space`); empty for a
        fixed space.
    model, registry
        Of the network that makes `input` of `features`, as for `analytics.inference.operator.Infer`
        (see `analytics.novelty.encoded.EncodedSpace`); empty for none.
    neighbours
        Neighbours that define a density.
    memory
        Frames to keep; a fit takes about 5 µs for each.
    minimum
        Frames to see before the first fit; more than `neighbours`.
    update_every
        Fit whenever this many more frames were seen.
    retention
        ``reservoir`` (a uniform sample of the past) or ``sliding`` (the latest frames).
    seed
        Of the reservoir.
    output
        Name of the column.

    Raises
    ------
    ConfigError
        If a parameter is out of range.
    """

    def __init__(
        self,
        *,
        input: str,
        features: str | Sequence[str] = "",
        model: str = "",
        registry: str = "",
        neighbours: int = 20,
        memory: int = 1_000,
        minimum: int = 200,
        update_every: int = 500,
        retention: Retention = "reservoir",
        seed: int = 0,
        output: str = "novelty",
    ) -> None:
        if neighbours < 1 or update_every < 1:
            raise ConfigError("The parameters 'neighbours' and 'update_every' must be at least 1.")
        if not neighbours < min(minimum, memory):
            raise ConfigError(
                f"With {neighbours} neighbours, 'minimum' ({minimum}) and 'memory' ({memory}) must "
                "be greater than that."
            )
        self.neighbours = neighbours
        self.minimum = minimum
        self.update_every = update_every
        self.output = output
        self._memory = FrameMemory(memory, retention=retention, seed=seed)
        self._space = make_space(input, features, model, registry)
        self._model: OutlierModel | None = None
        self._fits = 0

    def reads(self) -> tuple[str, ...]:
        """Return the columns that `process` reads."""
        return self._space.reads()

    def process(self, batch: FrameBatch, context: Context) -> FrameBatch:
        """Add the score and the number of fits."""
        rows = self._space.read(batch)
        scores = np.ones(len(batch))
        fits = np.zeros(len(batch), np.int64)
        for piece in self._space.pieces(batch):
            if self._space.enter(piece, batch, self._memory, rows):
                self._model = None
                self._fit()
            at = piece.start
            while at < piece.stop:
                stop = min(
                    piece.stop, at + self.update_every - self._memory.seen % self.update_every
                )
                part = {k: v[at:stop] for k, v in rows.items()}
                if self._model is not None:
                    scores[at:stop] = self._model.score(part["coordinates"])
                    fits[at:stop] = self._fits
                self._memory.add(part)
                if not self._memory.seen % self.update_every:
                    self._fit()
                at = stop
        return batch.with_columns({self.output: scores, f"{self.output}_version": fits})

    def save(self) -> dict[str, Any]:
        """Return the memory, the fitted points and the state of the random numbers."""
        state = self._memory.save("memory")
        state["version"] = self._space.version
        state["fits"] = self._fits
        if self._model is not None:
            state["fitted"] = self._model.points.copy()
        return state

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what `save` returned."""
        self._memory.restore("memory", state)
        self._space.version = int(state["version"])
        self._fits = int(state["fits"])
        fitted = state.get("fitted")
        self._model = None if fitted is None else OutlierModel(np.array(fitted), self.neighbours)

    def _fit(self) -> None:
        if self._space.version and self._memory.seen >= self.minimum:
            self._model = OutlierModel(self._memory["coordinates"].copy(), self.neighbours)
            self._fits += 1
