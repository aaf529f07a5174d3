"""A convolutional variational autoencoder on contact maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from analytics.learning.model import StreamModel
from analytics.reduction.networks import gaussian
from analytics.reduction.networks.blocks import ConvolutionDecoder, ConvolutionEncoder
from analytics.reduction.networks.checks import (
    check_count,
    check_counts,
    check_frames,
    check_positive,
    check_shape,
)
from analytics.reduction.networks.triangle import Triangle
from bridge.errors import ConfigError, SchemaError

__all__ = ["CVAE"]


class CVAE(StreamModel):
    r"""Convolutional variational autoencoder: contact maps to a few coordinates.

    The loss is minus the evidence's lower bound, in nats a frame, with a Bernoulli decoder:

    .. math:: -\sum_{ij} [c_{ij} \ln p_{ij}(z) + (1 - c_{ij}) \ln(1 - p_{ij}(z))]
              + \beta \, D_{KL}(q(z | c) \,\Vert\, N(0, 1)), \qquad z \sim q(z | c)

    Of packed maps each pair counts once; of square ones each entry, so a symmetric map's pairs
    count twice. `encode` gives the mean of q(z | c).

    Parameters
    ----------
    input_shape
        (P,): the packed upper triangle, which the operator `contact_map` gives; or (N, N) or
        (1, N, N), any N from 2. Values between 0 and 1, or booleans.
    latent
        Number of coordinates.
    filters
        Channels of the convolutions, 3 × 3. Each halves the map, which is filled up with zeros to
        a multiple of 2 ** len(filters) inside.
    hidden
        Units of the layer between the convolutions and the coordinates.
    activation
        elu, gelu, relu, silu or tanh.
    beta
        Weight of the divergence.
    min_separation
        That of `contact_map`, for packed maps. A wrong one moves all pairs along the diagonal, and
        does no harm.

    Notes
    -----
    Bhowmik, Gao, Young and Ramanathan, BMC Bioinformatics 19, 484 (2018),
    doi:10.1186/s12859-018-2507-5; in DeepDriveMD: Lee, Ma, Turilli, Bhowmik, Jha and Ramanathan,
    IEEE/ACM DLS (2019), doi:10.1109/DLS49591.2019.00007. Theirs has four layers of 64 channels,
    of which one halves the map, and dropout; this one does with about thirty times fewer
    multiplications (of 28 residues), and its decoder starts at the frequency of each contact.

    Raises
    ------
    ConfigError
        If a hyper-parameter is wrong, or the shape is neither square nor that of a triangle.
    """

    kind: ClassVar[str] = "cvae"
    baseline: Tensor

    def __init__(
        self,
        input_shape: tuple[int, ...],
        *,
        latent: int = 3,
        filters: Sequence[int] = (16, 32, 64),
        hidden: int = 128,
        activation: str = "relu",
        beta: float = 1.0,
        min_separation: int = 1,
    ) -> None:
        hyper = {
            "latent": latent,
            "filters": check_counts(filters, "filters"),
            "hidden": hidden,
            "activation": activation,
            "beta": beta,
            "min_separation": min_separation,
        }
        super().__init__(input_shape, hyper)
        self.latent = check_count(latent, "latent")
        self.beta = check_positive(beta, "beta", zero=True)
        channels = self.hyper["filters"]
        if not channels:
            raise ConfigError("'filters' is empty; there must be at least one convolution.")
        units = check_count(hidden, "hidden")
        self.triangle: Triangle | None = None
        if len(self.input_shape) == 1:
            separation = check_count(min_separation, "min_separation", 0)
            self.triangle = Triangle(self.input_shape[0], separation)
            side = self.triangle.side
        else:
            side = self.input_shape[-1]
            if self.input_shape not in ((side, side), (1, side, side)) or side < 2:
                raise ConfigError(
                    f"Contact maps of shape {self.input_shape} are neither (N, N), with N at least "
                    "2, nor the packed upper triangle (P,)."
                )
        self.register_buffer("baseline", torch.zeros(self.input_shape))
        self.encoder = ConvolutionEncoder(side, channels, units, 2 * self.latent, activation)
        self.decoder = ConvolutionDecoder(side, channels, units, self.latent, activation)

    @torch.no_grad()
    def prepare(self, x: Tensor) -> None:
        """Let the decoder start at the log odds of each contact in these frames.

        Raises
        ------
        SchemaError
            On a wrong shape, no frame, or a value that is not between 0 and 1.
        """
        maps = self._checked(x)
        # As if each contact had been seen half a time more, and been missed half a time more.
        frequency = (maps.sum(0) + 0.5) / (len(maps) + 1.0)
        self.baseline.copy_(torch.logit(frequency))

    def encode(self, x: Tensor) -> Tensor:
        """Return the means of q(z | c), shape (n, latent), float32."""
        check_shape(x, self.input_shape, self.kind)
        return self._posterior(x.to(self.baseline.dtype))[0].float()

    def loss(
        self, x: Tensor, y: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss and its parts `reconstruction` and `divergence`, in nats a frame.

        Safe with autocast: what is summed or exponentiated is in single precision.

        Raises
        ------
        SchemaError
            On a wrong shape, or a value that is not between 0 and 1.
        """
        maps = self._checked(x)
        mean, log_variance = self._posterior(maps)
        z = gaussian.sample(mean, log_variance, generator)
        reconstruction = self._entropies(maps, z).sum(1).mean()
        divergence = gaussian.divergence(mean, log_variance).mean()
        parts = {"reconstruction": reconstruction.detach(), "divergence": divergence.detach()}
        return reconstruction + self.beta * divergence, parts

    def errors(self, x: Tensor) -> Tensor:
        """Return the mean cross-entropy of each frame's contacts, in nats, shape (n,)."""
        check_shape(x, self.input_shape, self.kind)
        maps = x.to(self.baseline.dtype)
        return self._entropies(maps, self._posterior(maps)[0]).mean(1).float()

    def decode(self, z: Tensor) -> Tensor:
        """Return the probability of each contact, shape (n, *input_shape), float32."""
        return torch.sigmoid(self._logits(z)).float()

    def _posterior(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        if self.triangle is not None:
            image = self.triangle.unpack(maps)
        else:
            image = maps if maps.ndim == 4 else maps.unsqueeze(1)
        return gaussian.split(self.encoder(image))

    def _logits(self, z: Tensor) -> Tensor:
        image: Tensor = self.decoder(z).to(self.baseline.dtype)
        flat = image.flatten(1) if self.triangle is None else self.triangle.pack(image)
        return flat.reshape(-1, *self.input_shape) + self.baseline

    def _entropies(self, maps: Tensor, z: Tensor) -> Tensor:
        logits = self._logits(z)
        entropies = functional.binary_cross_entropy_with_logits(logits, maps, reduction="none")
        return entropies.flatten(1)

    def _checked(self, x: Tensor) -> Tensor:
        check_frames(x, self.input_shape, self.kind, 1)
        maps = x.to(self.baseline.dtype)
        if bool(((maps < 0) | (maps > 1)).any()):
            raise SchemaError(
                "The cvae was given values outside 0 to 1; it needs contacts, not distances."
            )
        return maps
