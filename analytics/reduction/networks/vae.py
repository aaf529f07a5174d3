"""A variational autoencoder on any features."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from analytics.learning.model import StreamModel
from analytics.reduction.networks import gaussian
from analytics.reduction.networks.blocks import mlp
from analytics.reduction.networks.checks import (
    check_count,
    check_counts,
    check_frames,
    check_positive,
    check_shape,
)
from analytics.reduction.networks.scaling import Standardise

__all__ = ["VAE"]


class VAE(StreamModel):
    r"""Variational autoencoder whose decoder is normal with a given noise.

    The loss is minus the evidence's lower bound, in nats a frame, without its constant:

    .. math:: \frac{1}{2 s^2} \lVert x - \hat x(z) \rVert^2
              + \beta \, D_{KL}(q(z | x) \,\Vert\, N(0, 1)), \qquad z \sim q(z | x)

    with standardised features x, and s the noise. `encode` gives the mean of q(z | x).

    Parameters
    ----------
    input_shape
        Shape of one frame's features, any (flattened); in any unit, as they are standardised. Of
        angles, give sines and cosines.
    latent
        Number of coordinates.
    hidden
        Units of the encoder's hidden layers; the decoder has them in reverse.
    activation
        elu, gelu, relu, silu or tanh.
    beta
        Weight of the divergence. Less than 1 keeps more coordinates in use.
    noise
        Standard deviation of the decoder, in units of the features' standard deviations. What
        explains less than noise² of variance, summed over features, is not encoded.

    Notes
    -----
    Kingma and Welling (2014), doi:10.48550/arXiv.1312.6114.
    Of a molecule's features: Hernández, Wayment-Steele, Sultan, Husic and Pande, Phys. Rev. E 97,
    062412 (2018), doi:10.1103/PhysRevE.97.062412.

    Raises
    ------
    ConfigError
        If a hyper-parameter is wrong.
    """

    kind: ClassVar[str] = "vae"

    def __init__(
        self,
        input_shape: tuple[int, ...],
        *,
        latent: int = 2,
        hidden: Sequence[int] = (128, 64),
        activation: str = "silu",
        beta: float = 1.0,
        noise: float = 0.5,
    ) -> None:
        hyper = {
            "latent": latent,
            "hidden": check_counts(hidden, "hidden"),
            "activation": activation,
            "beta": beta,
            "noise": noise,
        }
        super().__init__(input_shape, hyper)
        self.latent = check_count(latent, "latent")
        layers = self.hyper["hidden"]
        self.beta = check_positive(beta, "beta", zero=True)
        self.noise = check_positive(noise, "noise")
        features = math.prod(self.input_shape)
        self.scaling = Standardise(features)
        self.encoder = mlp([features, *layers, 2 * self.latent], activation)
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
        """Return the means of q(z | x), shape (n, latent), float32."""
        check_shape(x, self.input_shape, self.kind)
        return gaussian.split(self.encoder(self.scaling(x)))[0].float()

    def loss(
        self, x: Tensor, y: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss and its parts `reconstruction` and `divergence`, in nats a frame.

        Safe with autocast: what is squared, summed or exponentiated is in single precision.

        Raises
        ------
        SchemaError
            On a wrong shape or a value that is not finite.
        """
        check_frames(x, self.input_shape, self.kind)
        scaled = self.scaling(x)
        mean, log_variance = gaussian.split(self.encoder(scaled))
        decoded = self.decoder(gaussian.sample(mean, log_variance, generator))
        rest = decoded.to(scaled.dtype) - scaled
        reconstruction = 0.5 / self.noise**2 * rest.square().sum(1).mean()
        divergence = gaussian.divergence(mean, log_variance).mean()
        parts = {"reconstruction": reconstruction.detach(), "divergence": divergence.detach()}
        return reconstruction + self.beta * divergence, parts

    def errors(self, x: Tensor) -> Tensor:
        """Return the mean squared error of each frame's standardised features, shape (n,)."""
        check_shape(x, self.input_shape, self.kind)
        scaled = self.scaling(x)
        decoded = self.decoder(gaussian.split(self.encoder(scaled))[0])
        rest: Tensor = decoded.to(scaled.dtype) - scaled
        return rest.square().mean(1).float()
