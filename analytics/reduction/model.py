"""A linear projection to a few numbers a frame, and how one follows another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from analytics.reduction.matching import continue_components, point_forward

__all__ = ["LinearModel", "follow"]

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class LinearModel:
    """Subtract a mean, multiply by weights.

    Attributes
    ----------
    mean
        Shape (k,).
    weights
        Components as columns, shape (k, d), with their scaling. Where the data have fewer than d
        independent directions, the rest are zero.
    values
        Eigenvalue or variance of each component, shape (d,). Not sorted after components crossed.
    directions
        The columns of `weights` before scaling.
    n_frames
        Number of frames that had been seen.
    """

    mean: Array
    weights: Array
    values: Array
    directions: Array
    n_frames: int

    def project(self, X: Array) -> Array:
        """Project rows of shape (n, k) to float64 of shape (n, d)."""
        # Unlike a matrix product, this gives a row the same last bits whichever rows are with it.
        components = np.ascontiguousarray(self.weights.T)
        return np.asarray(np.einsum("nk,dk->nd", X - self.mean, components))

    def save(self) -> dict[str, Any]:
        """Return the model as arrays and plain data."""
        return {
            "model_mean": self.mean,
            "model_weights": self.weights,
            "model_values": self.values,
            "model_directions": self.directions,
            "model_frames": self.n_frames,
        }

    @classmethod
    def from_saved(cls, state: Mapping[str, Any]) -> LinearModel | None:
        """Make a model from what `save` returned, None where there was none."""
        if "model_mean" not in state:
            return None
        return cls(
            state["model_mean"],
            state["model_weights"],
            state["model_values"],
            state["model_directions"],
            int(state["model_frames"]),
        )


def follow(
    before: LinearModel | None, directions: Array, values: Array, n: int, covariance: Array
) -> tuple[Array, Array]:
    """Fill up to `n` components and give them the places and signs of those before.

    The rule: the components shown are always those of the greatest values. In the first model
    they are in that order, and the greatest loading of each (in units of the features' standard
    deviations) is positive. From then on each component keeps its place and its sign: places are
    assigned so that the total correlation of old and new projections is the greatest, whatever the
    values say; a component that enters takes the place of the one that leaves.

    Parameters
    ----------
    before
        The model so far, None for the first one.
    directions, values
        Components as columns, shape (k, r), from the greatest value down, and their values.
    n
        Number of components to return.
    covariance
        Covariance of the features, shape (k, k).

    Returns
    -------
    directions, values
        Of shape (k, n) and (n,).
    """
    k, r = directions.shape
    columns, numbers = np.zeros((k, n)), np.zeros(n)
    columns[:, : min(r, n)], numbers[: min(r, n)] = directions[:, :n], values[:n]
    if before is None:
        spread = np.sqrt(np.diagonal(covariance).clip(min=0.0))
        return columns * point_forward(columns, spread), numbers
    order, signs = continue_components(before.directions, columns, covariance)
    # One memory layout throughout: products of the same numbers in another differ in a last bit.
    return np.ascontiguousarray(columns[:, order] * signs), numbers[order]
