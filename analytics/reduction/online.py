"""What the operators of this room share: renew the model at exact frame counts, and project."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from analytics.features.inputs import matrix_of, output_name
from analytics.reduction.model import LinearModel
from analytics.statistics.moments import input_columns
from analytics.statistics.schedule import check_count, segments
from bridge.errors import ConfigError, SchemaError
from bridge.frames import FrameBatch
from bridge.pipeline import Context, GlobalOperator

__all__ = ["Estimator", "OnlineReduction"]


class Estimator(Protocol):
    """What learns: frames go in, a model comes out when asked for."""

    model: LinearModel | None
    n_components: int

    @property
    def n_frames(self) -> int:
        """Number of frames seen."""
        ...

    def partial_fit(self, X: Any, *, simulation: str, offsets: Any, epochs: Any) -> Any:
        """Take up the next frames of a simulation."""
        ...

    def fit(self) -> LinearModel | None:
        """Renew the model, None where the frames do not suffice."""
        ...

    def save(self) -> dict[str, Any]:
        """Return the state."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up a state."""
        ...


class OnlineReduction(GlobalOperator):
    """Learn from the frames of all simulations, and project each with the model before it.

    Attributes
    ----------
    estimator
        What learns; its `model` is the present one.
    """

    def __init__(
        self,
        estimator: Estimator,
        *,
        input: str | Sequence[str],
        update_every: int,
        min_frames: int | None,
        output: str,
    ) -> None:
        self.estimator = estimator
        self.input = input_columns(input)
        self.update_every = check_count(update_every, "update_every")
        self.min_frames = 1 if min_frames is None else check_count(min_frames, "min_frames")
        self.output = output_name(output)
        self._n_features: int | None = None

    def process(self, batch: FrameBatch, context: Context) -> FrameBatch:
        """Add the columns, and learn."""
        name = type(self).__name__
        rows = matrix_of(batch, self.input, name)
        n, k = rows.shape
        if k != self._n_features:
            self._check_features(k, batch, name)
        estimator = self.estimator
        out = np.zeros((n, estimator.n_components))
        ready = np.zeros(n, np.bool_)
        for start, stop, due in segments(estimator.n_frames, n, self.update_every):
            part = slice(start, stop)
            if estimator.model is not None:
                out[part] = estimator.model.project(rows[part])
                ready[part] = True
            estimator.partial_fit(
                rows[part],
                simulation=batch.simulation,
                offsets=batch.offsets[part],
                epochs=batch.epochs[part],
            )
            if due and estimator.n_frames >= self.min_frames:
                self._renew(name, context)
        return batch.with_columns({self.output: out, f"{self.output}_ready": ready})

    def _check_features(self, k: int, batch: FrameBatch, name: str) -> None:
        if self._n_features is not None:
            raise SchemaError(
                f"{name} got {k} features a frame from {batch.simulation!r} in its parameter "
                f"'input', and {self._n_features} before; all simulations must send the same."
            )
        if self.estimator.n_components > k:
            raise ConfigError(
                f"{name} cannot make {self.estimator.n_components} components (its parameter "
                f"'n_components') of {k} features."
            )
        self._n_features = k

    def _renew(self, name: str, context: Context) -> None:
        first = self.estimator.model is None
        model = self.estimator.fit()
        if first and model is not None:
            context.event(
                "model_ready",
                f"{name} has its first model, after {model.n_frames} frames.",
                frames=model.n_frames,
                values=model.values.tolist(),
            )

    def save(self) -> dict[str, Any]:
        """Return the state."""
        return {**self.estimator.save(), "input_features": self._n_features}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up a state."""
        self.estimator.restore(state)
        k = state["input_features"]
        self._n_features = None if k is None else int(k)
