"""What VAMPnet and DeepTICA share: functions of features, and their slow modes in buffers."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from analytics.learning.model import AlignedBy, StreamModel
from analytics.reduction.networks.checks import (
    check_count,
    check_frames,
    check_pairs,
    check_positive,
    check_shape,
)
from analytics.reduction.networks.scaling import Standardise
from analytics.reduction.networks.vamp import Moments, joint_moments, modes_of, slow_score

__all__ = ["SlowModeNetwork"]


class SlowModeNetwork(StreamModel):
    """Base of networks that are trained for a variational score of slow modes.

    `encode` returns the modes: the network's functions f, centred and turned by the linear map
    that the training data give (`modes_of`). The map belongs to the weights and is stored in
    buffers. While training it follows from moving averages of the functions' moments, which each
    call of `loss` with gradients renews; `settle` fits it to given frames alone.

    Attributes
    ----------
    values
        Buffer of shape (latent,): the correlation of each mode over the lag time.
    """

    lagged = True
    aligned_by: ClassVar[AlignedBy] = "signs"
    reversible: ClassVar[bool]
    momentum: ClassVar[float] = 0.1
    """Weight of the newest batch in the moving averages."""

    mean: Tensor
    weights: Tensor
    values: Tensor
    average: Tensor
    covariance: Tensor
    observed: Tensor

    def __init__(self, input_shape: tuple[int, ...], hyper: Mapping[str, Any]) -> None:
        super().__init__(input_shape, hyper)
        self.latent = check_count(hyper["latent"], "latent")
        self.features = math.prod(self.input_shape)
        self.regularisation = check_positive(hyper["regularisation"], "regularisation", zero=True)
        self.scaling = Standardise(self.features)
        d, wide = self.latent, torch.float64
        self.register_buffer("mean", torch.zeros(d))
        self.register_buffer("weights", torch.eye(d))
        self.register_buffer("values", torch.zeros(d))
        self.register_buffer("average", torch.zeros(2 * d, dtype=wide))
        self.register_buffer("covariance", torch.zeros(2 * d, 2 * d, dtype=wide))
        self.register_buffer("observed", torch.zeros((), dtype=torch.bool))

    @abstractmethod
    def functions(self, x: Tensor, *, later: bool = False) -> Tensor:
        """Return the network's functions of frames, shape (n, latent)."""

    def prepare(self, x: Tensor) -> None:
        """Set the scaling of inputs.

        Raises
        ------
        SchemaError
            On a wrong shape, fewer than 2 frames, a value that is not finite, or if every feature
            is constant.
        """
        check_frames(x, self.input_shape, self.kind, 2)
        self.scaling.fit(x)

    def encode(self, x: Tensor) -> Tensor:
        """Return slow modes, shape (n, latent), float32, from the slowest on.

        They have mean 0 and variance 1 over the frames that they were fitted on.
        """
        check_shape(x, self.input_shape, self.kind)
        # Products by hand, which autocast leaves in single precision: modes may be small
        # differences of functions that are alike.
        centred = self.functions(x).to(self.mean.dtype) - self.mean
        return (centred.unsqueeze(1) * self.weights.T).sum(2).float()

    @property
    def least(self) -> int:
        """Fewer pairs would be perfectly correlated by any functions."""
        return self.latent + 2

    def loss(
        self, x: Tensor, y: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return minus the score of slow modes; its parts are the score itself.

        Safe with autocast: covariances are made and inverted in double precision. Nothing in it is
        random.

        Raises
        ------
        SchemaError
            Without `y`, on a wrong shape, a value that is not finite, or fewer than latent + 2
            pairs: fewer would be perfectly correlated by any functions.
        """
        first, later = self._pairs(x, y)
        score = slow_score(first, later, self.regularisation, reversible=self.reversible)
        if self.training and torch.is_grad_enabled() and bool(torch.isfinite(score)):
            with torch.no_grad():
                self._renew(joint_moments(first, later), self.momentum)
        return -score, {"score": score.detach()}

    @torch.no_grad()
    def settle(self, x: Tensor, y: Tensor | None = None) -> None:
        """Fit the map from functions to modes to these pairs alone; raises as `loss` does."""
        self._renew(joint_moments(*self._pairs(x, y)), 1.0)

    def timescales(self, lag: float = 1.0) -> npt.NDArray[np.float64]:
        """Return the implied timescale of each mode, −lag / ln(value), in the unit of `lag`.

        NaN for a value that is not between 0 and 1.
        """
        values = self.values.detach().cpu().to(torch.float64).numpy()
        valid = (values > 0) & (values < 1)
        return np.where(valid, -lag / np.log(np.where(valid, values, 0.5)), np.nan)

    def _pairs(self, x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        y = check_pairs(x, y, self.input_shape, self.kind, self.least)
        return self.functions(x), self.functions(y, later=True)

    def _renew(self, moments: Moments, momentum: float) -> None:
        mean, covariance = moments
        weight = torch.where(self.observed, momentum, 1.0).to(mean)
        between = mean - self.average
        self.covariance.mul_(1 - weight).add_(weight * covariance)
        self.covariance.add_(weight * (1 - weight) * torch.outer(between, between))
        self.average.add_(weight * between)
        self.observed.fill_(True)
        # Matrices this small are decomposed on the CPU in less time than a GPU takes to start.
        blended = (self.average.cpu().to(torch.float64), self.covariance.cpu().to(torch.float64))
        found = modes_of(blended, self.regularisation, reversible=self.reversible)
        for buffer, value in zip((self.mean, self.weights, self.values), found, strict=True):
            buffer.copy_(value)
