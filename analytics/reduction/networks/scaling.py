"""Scaling of inputs: buffers, set from the first frames, that are stored with the weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bridge.errors import SchemaError

__all__ = ["Standardise", "Whiten"]

_CONSTANT = 1e-6
"""Spread, relative to the mean, below which a feature of single precision is only rounding."""


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and the standard deviation of columns, 0 for the constant ones."""
    wide = x.detach().to(torch.float64)
    mean = wide.mean(0)
    deviation = (wide - mean).square().mean(0).sqrt()
    deviation[deviation <= _CONSTANT * mean.abs()] = 0.0
    if not bool((deviation > 0).any()):
        raise SchemaError(
            f"All {x.shape[1]} features are constant in the first {len(x)} frames; a network "
            "cannot learn from them. Wait for more frames, or choose other features."
        )
    return mean, deviation


class Standardise(nn.Module):
    """Flatten frames, subtract the mean of each feature and divide by its standard deviation.

    A feature that was constant is shifted alone. Before `fit`, nothing is changed.

    Attributes
    ----------
    mean, inverse
        Buffers of shape (k,): the mean, and one over the standard deviation.
    """

    mean: Tensor
    inverse: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("inverse", torch.ones(features))

    @torch.no_grad()
    def fit(self, x: Tensor) -> None:
        """Set the buffers from frames, shape (n, ...).

        Raises
        ------
        SchemaError
            If every feature is constant.
        """
        mean, deviation = _moments(x.flatten(1))
        self.mean.copy_(mean)
        self.inverse.copy_(torch.where(deviation > 0, 1.0 / deviation, 1.0))

    def forward(self, x: Tensor) -> Tensor:
        """Return shape (n, k), in the precision of the buffers."""
        if not x.is_floating_point():
            x = x.to(self.mean.dtype)
        # Of values in double precision the mean is subtracted before they are rounded.
        return ((x.flatten(1) - self.mean) * self.inverse).to(self.mean.dtype)


class Whiten(nn.Module):
    r"""Flatten frames, and turn features into uncorrelated ones of unit variance.

    .. math:: y = W^T (x - \bar x) / s, \qquad W = V \Lambda^{-1/2}

    with the means, the standard deviations `s`, and the eigenvectors and eigenvalues of the
    features' correlation matrix, from the greatest on. Directions with less than `cutoff` of the
    greatest eigenvalue, constant features among them, give 0. Before `fit`, nothing is changed.

    Parameters
    ----------
    features
        Their number, k. A matrix of k × k numbers is stored.
    cutoff
        See above.
    """

    weights: Tensor

    def __init__(self, features: int, cutoff: float = 1e-5) -> None:
        super().__init__()
        self.scaling = Standardise(features)
        self.cutoff = cutoff
        self.register_buffer("weights", torch.eye(features))

    @torch.no_grad()
    def fit(self, x: Tensor) -> None:
        """Set the buffers from frames, shape (n, ...); raises as `Standardise.fit` does."""
        self.scaling.fit(x)
        mean, deviation = _moments(x.flatten(1))
        scaled = (x.flatten(1).to(torch.float64) - mean) * self.scaling.inverse
        scaled[:, deviation == 0] = 0.0
        values, vectors = torch.linalg.eigh(scaled.T @ scaled / len(x))
        values, vectors = values.flip(0), vectors.flip(1)
        kept = values > self.cutoff * values[0]
        inverse = torch.where(kept, values.clamp(min=1e-300).rsqrt(), 0.0)
        self.weights.copy_(vectors * inverse)

    def forward(self, x: Tensor) -> Tensor:
        """Return shape (n, k), in the precision of the buffers."""
        scaled: Tensor = self.scaling(x)
        # Half precision has too few digits for directions of little variance.
        with torch.autocast(x.device.type, enabled=False):
            return scaled @ self.weights
