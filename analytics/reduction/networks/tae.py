"""A time-lagged autoencoder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from analytics.learning.model import StreamModel
from analytics.reduction.networks.blocks import mlp
from analytics.reduction.networks.checks import (
    check_count,
    check_counts,
    check_frames,
    check_pairs,
    check_shape,
)
from analytics.reduction.networks.scaling import Standardise, Whiten

__all__ = ["TimeLaggedAutoencoder"]


class TimeLaggedAutoencoder(StreamModel):
    r"""Autoencoder that predicts the features a lag time later.

    .. math:: \frac{1}{k} \lVert D(E(x_t)) - x_{t + \tau} \rVert^2

    What it must keep to predict is slow. With whitened features, and linear, it is TICA of
    reversible dynamics; without whitening, what is slow and what has great variance are mixed.

    Parameters
    ----------
    input_shape
        Shape of one frame's features, any (flattened), k in all; in any unit.
    latent
        Number of coordinates, in no order.
    hidden
        Units of the encoder's hidden layers; the decoder has them in reverse. An empty list makes
        it linear.
    activation
        elu, gelu, relu, silu or tanh.
    whiten
        Whiten the inputs, as the paper does, by a matrix of k × k; else they are only
        standardised.

    Notes
    -----
    Wehmeyer and Noé, J. Chem. Phys. 148, 241703 (2018), doi:10.1063/1.5011399. On its limits: Chen,
    Sidky and Ferguson, J. Chem. Phys. 151, 064123 (2019), doi:10.1063/1.5112048.

    Raises
    ------
    ConfigError
        If a hyper-parameter is wrong.
    """

    kind: ClassVar[str] = "tae"
    lagged = True

    def __init__(
        self,
        input_shape: tuple[int, ...],
        *,
        latent: int = 2,
        hidden: Sequence[int] = (128, 64),
        activation: str = "silu",
        whiten: bool = True,
    ) -> None:
        hyper = {
            "latent": latent,
            "hidden": check_counts(hidden, "hidden"),
            "activation": activation,
            "whiten": whiten,
        }
        super().__init__(input_shape, hyper)
        self.latent = check_count(latent, "latent")
        layers = self.hyper["hidden"]
        features = math.prod(self.input_shape)
        self.scaling: Whiten | Standardise = Whiten(features) if whiten else Standardise(features)
        self.encoder = mlp([features, *layers, self.latent], activation)
        self.decoder = mlp([self.latent, *reversed(layers), features], activation)

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
        """Return the coordinates, shape (n, latent), float32."""
        check_shape(x, self.input_shape, self.kind)
        out: Tensor = self.encoder(self.scaling(x))
        return out.float()

    def loss(
        self, x: Tensor, y: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean squared error of the prediction; its part is called `prediction`.

        Safe with autocast. Nothing in it is random.

        Raises
        ------
        SchemaError
            Without `y`, on a wrong shape or a value that is not finite.
        """
        y = check_pairs(x, y, self.input_shape, self.kind)
        error = self._error(x, y).mean()
        return error, {"prediction": error.detach()}

    def errors(self, x: Tensor) -> Tensor:
        """Return each frame's mean squared difference from what it predicts, shape (n,).

        In units of the scaled features, and with what changes in a lag time; it is for comparing
        frames with each other.
        """
        check_shape(x, self.input_shape, self.kind)
        return self._error(x, x).float()

    def _error(self, x: Tensor, y: Tensor) -> Tensor:
        target: Tensor = self.scaling(y)
        predicted: Tensor = self.decoder(self.encoder(self.scaling(x)))
        rest = predicted.to(target.dtype) - target
        return rest.square().mean(1)
