"""What the operators of this room share: renew the model at exact frame counts, and project."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from analytics.features.inputs import matrix_of, output_name
from analytics.reduction.model import LinearModel
from analytics.statistics.moments import input_columns
from analytics.statistics.schedule import check_count, segments
from bridge.errors import ConfigError, SchemaError
from bridge.frames import FrameBatch
from bridge.pipeline import Context, GlobalOperator

__all__ = ["Estimator", "OnlineReduction"]

Floats = npt.NDArray[np.float64]


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
        publish_model: bool,
    ) -> None:
        self.estimator = estimator
        self.input = input_columns(input)
        self.update_every = check_count(update_every, "update_every")
        self.min_frames = 1 if min_frames is None else check_count(min_frames, "min_frames")
        self.output = output_name(output)
        self.publish_model = publish_model
        self._version = 0
        self._n_features: int | None = None

    def reads(self) -> tuple[str, ...]:
        """Return the columns that `process` reads."""
        return self.input

    def process(self, batch: FrameBatch, context: Context) -> FrameBatch:
        """Add the columns, and learn."""
        name = type(self).__name__
        rows = matrix_of(batch, self.input, name)
        n, k = rows.shape
        if k != self._n_features:
            self._check_features(k, batch, name)
        estimator = self.estimator
        out = np.zeros((n, estimator.n_components))
        versions = np.zeros(n, np.int64)
        maps: list[tuple[int, Floats]] = []
        for start, stop, due in segments(estimator.n_frames, n, self.update_every):
            part = slice(start, stop)
            if estimator.model is not None:
                out[part] = estimator.model.project(rows[part])
                versions[part] = self._version
            if self.publish_model:
                maps.append((stop - start, self._affine(k)))
            estimator.partial_fit(
                rows[part],
                simulation=batch.simulation,
                offsets=batch.offsets[part],
                epochs=batch.epochs[part],
            )
            if due and estimator.n_frames >= self.min_frames:
                self._renew(name, context)
        columns: dict[str, Any] = {self.output: out, f"{self.output}_version": versions}
        if self.publish_model:
            columns[f"{self.output}_model"] = _stack(maps, (k + 1, estimator.n_components))
        return batch.with_columns(columns)

    def _affine(self, k: int) -> Floats:
        """Return the map of the present model, zeros while there is none."""
        model = self.estimator.model
        if model is None:
            return np.zeros((k + 1, self.estimator.n_components))
        return np.concatenate([model.weights, -(model.mean @ model.weights)[None]])

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
        if model is not None:
            self._version += 1
        if first and model is not None:
            context.event(
                "model_ready",
                f"{name} has its first model, after {model.n_frames} frames.",
                frames=model.n_frames,
                values=model.values.tolist(),
            )

    def save(self) -> dict[str, Any]:
        """Return the state."""
        return {
            **self.estimator.save(),
            "input_features": self._n_features,
            "model_version": self._version,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up a state."""
        self.estimator.restore(state)
        self._version = int(state["model_version"])
        k = state["input_features"]
        self._n_features = None if k is None else int(k)


def _stack(maps: list[tuple[int, Floats]], shape: tuple[int, int]) -> Floats:
    """Return one map a row; a view without memory of its own where they are all the same."""
    n = sum(count for count, _ in maps)
    if not maps:
        return np.zeros((0, *shape))
    if len(maps) == 1:
        return np.broadcast_to(maps[0][1], (n, *shape))
    return np.concatenate([np.broadcast_to(m, (count, *shape)) for count, m in maps])
