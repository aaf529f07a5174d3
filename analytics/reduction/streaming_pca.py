"""Principal components of a stream."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from analytics.reduction.model import LinearModel, follow
from analytics.statistics.blocks import BlockedMoments
from analytics.statistics.running import as_rows, check_half_life
from analytics.statistics.schedule import check_count
from bridge.errors import PipelineError, SchemaError

__all__ = ["StreamingPCA"]

Array = npt.NDArray[np.float64]


class StreamingPCA:
    """Principal component analysis that learns as rows come, exactly.

    The full covariance of k features is kept: 8 k² bytes (32 MB for 2,000 features) however many
    rows come, and at most 4,096 features. A fit costs one eigendecomposition, of the order of
    k³ operations: half a millisecond for 50 features, seconds for 2,000. Not thread-safe.

    Parameters
    ----------
    n_components
        Number of components.
    half_life
        Number of rows after which a row counts half; None for no forgetting.

    Attributes
    ----------
    model
        The projection as of the last `fit`; None before.

    Notes
    -----
    The answer is that of the eigenvectors of the covariance of all rows at once (Pearson, Philos.
    Mag. 2, 559 (1901), doi:10.1080/14786440109462720), up to rounding. See
    `analytics.reduction.model.follow` for order and signs.
    """

    def __init__(self, n_components: int, *, half_life: float | None = None) -> None:
        self.n_components = check_count(n_components, "n_components")
        self.half_life = check_half_life(half_life)
        self.model: LinearModel | None = None
        self._blocks = BlockedMoments(half_life=half_life)
        self._n_features: int | None = None

    @property
    def n_frames(self) -> int:
        """Number of rows seen."""
        return self._blocks.clock

    def partial_fit(
        self, X: Any, *, simulation: str = "", offsets: Any = None, epochs: Any = None
    ) -> StreamingPCA:
        """Take up rows of shape (n, k).

        Whose rows they are, and where they lie in a stream, makes no difference here; the
        parameters are those of `StreamingTICA.partial_fit`, so that either may be used in one
        place.

        Raises
        ------
        SchemaError
            If the number of features changes, or a value is not finite. Nothing was taken up then.
        """
        rows = as_rows(X, self._n_features)
        # What waits for the end of a block must not change under us.
        rows = rows.copy()
        blocks, start = self._blocks, 0
        while start < len(rows):
            stop = min(len(rows), start + blocks.room)
            blocks.add(rows[start:stop], blocks.clock + np.arange(1, stop - start + 1))
            blocks.advance(stop - start)
            start = stop
        if len(rows):
            self._n_features = rows.shape[1]
        return self

    def fit(self) -> LinearModel | None:
        """Renew the model from everything seen; None while all rows are alike."""
        moments = self._blocks.settle()
        if not moments.count:
            return None
        # Weights that decayed are no counts, so there is no degree of freedom to take off.
        covariance = moments.covariance(ddof=0.0 if self.half_life else 1.0)
        # A spread lost in the rounding of the mean is none.
        spread = np.sqrt(np.diagonal(covariance).clip(min=0.0))
        if not (spread > 1e-12 * np.abs(moments.mean)).any():
            return None
        values, vectors = np.linalg.eigh(covariance)
        values, vectors = values[::-1].clip(min=0.0), vectors[:, ::-1]
        directions, values = follow(self.model, vectors, values, self.n_components, covariance)
        self.model = LinearModel(moments.mean.copy(), directions, values, directions, self.n_frames)
        return self.model

    @property
    def components(self) -> Array:
        """Components as rows, shape (n_components, k), of length 1."""
        return self._fitted().weights.T

    @property
    def explained_variance(self) -> Array:
        """Variance along each component, shape (n_components,), divided by the rows less 1."""
        return self._fitted().values

    @property
    def explained_variance_ratio(self) -> Array:
        """Share of each component in the variance of all that was seen."""
        total = self._blocks.settle().variance(ddof=0.0 if self.half_life else 1.0).sum()
        return np.asarray(self._fitted().values / (total or math.inf))

    def _fitted(self) -> LinearModel:
        model = self.model or self.fit()
        if model is None:
            raise PipelineError("There is no model yet: all rows so far are alike, or none came.")
        return model

    def transform(self, X: Any) -> Array:
        """Project rows of shape (n, k) to (n, n_components), fitting first if nobody did."""
        model = self._fitted()
        return model.project(as_rows(X, len(model.mean)))

    def merge(self, other: StreamingPCA) -> StreamingPCA:
        """Take up everything that another one has seen, in any order; call `fit` afterwards.

        Raises
        ------
        SchemaError
            If the numbers of features differ.
        """
        if self._n_features and other._n_features and self._n_features != other._n_features:
            raise SchemaError(
                f"Components of {self._n_features} and of {other._n_features} features cannot be "
                "merged."
            )
        self._blocks.merge(other._blocks)
        self._n_features = self._n_features or other._n_features
        return self

    def save(self) -> dict[str, Any]:
        """Return the state as arrays and plain data."""
        model = {} if self.model is None else self.model.save()
        return {**self._blocks.save(), **model, "n_features": self._n_features}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what `save` returned, with the same parameters."""
        self._blocks.restore(state)
        self.model = LinearModel.from_saved(state)
        k = state["n_features"]
        self._n_features = None if k is None else int(k)
