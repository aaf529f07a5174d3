"""Pieces that networks are made of."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import Tensor, nn

from bridge.errors import ConfigError

__all__ = ["ConvolutionDecoder", "ConvolutionEncoder", "activation", "mlp"]

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}


def activation(name: str) -> nn.Module:
    """Make an activation: elu, gelu, relu, silu or tanh."""
    if name not in _ACTIVATIONS:
        raise ConfigError(
            f"The activation is {name!r}; it must be one of {', '.join(sorted(_ACTIVATIONS))}."
        )
    return _ACTIVATIONS[name]()


def mlp(sizes: Sequence[int], name: str) -> nn.Sequential:
    """Make a multilayer perceptron; with two sizes it is one linear map.

    Parameters
    ----------
    sizes
        Numbers of units from input to output.
    name
        Activation between layers; there is none after the last.
    """
    layers: list[nn.Module] = []
    for i, (before, after) in enumerate(pairwise(sizes)):
        if i:
            layers.append(activation(name))
        layers.append(nn.Linear(before, after))
    return nn.Sequential(*layers)


class ConvolutionEncoder(nn.Module):
    """Images, shape (n, 1, N, N), to `outputs` numbers each; every convolution halves the image.

    Parameters
    ----------
    side
        N, any; the image is filled up with zeros to a multiple of 2 ** len(filters), `padded`.
    filters
        Channels of each convolution, 3 × 3 with a stride of 2.
    hidden
        Units of the layer after the convolutions.
    """

    def __init__(
        self, side: int, filters: Sequence[int], hidden: int, outputs: int, name: str
    ) -> None:
        super().__init__()
        self.side = side
        self.padded = padded_side(side, len(filters))
        layers: list[nn.Module] = []
        for before, after in pairwise([1, *filters]):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), activation(name)]
        self.convolutions = nn.Sequential(*layers)
        last = filters[-1] * (self.padded >> len(filters)) ** 2
        self.dense = nn.Sequential(
            nn.Linear(last, hidden), activation(name), nn.Linear(hidden, outputs)
        )

    def forward(self, image: Tensor) -> Tensor:
        """Return shape (n, outputs)."""
        more = self.padded - self.side
        image = nn.functional.pad(image, (0, more, 0, more))
        out: Tensor = self.dense(self.convolutions(image).flatten(1))
        return out


class ConvolutionDecoder(nn.Module):
    """The way back: shape (n, inputs) to images of shape (n, 1, N, N). Parameters as above."""

    def __init__(
        self, side: int, filters: Sequence[int], hidden: int, inputs: int, name: str
    ) -> None:
        super().__init__()
        self.side = side
        small = padded_side(side, len(filters)) >> len(filters)
        channels = list(reversed(filters))
        self.first = (channels[0], small, small)
        self.dense = nn.Sequential(
            nn.Linear(inputs, hidden),
            activation(name),
            nn.Linear(hidden, math.prod(self.first)),
            activation(name),
        )
        layers: list[nn.Module] = []
        for i, (before, after) in enumerate(pairwise([*channels, 1])):
            if i:
                layers.append(activation(name))
            layers.append(
                nn.ConvTranspose2d(before, after, 3, stride=2, padding=1, output_padding=1)
            )
        self.convolutions = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        """Return images, cut to N × N."""
        image: Tensor = self.convolutions(self.dense(z).unflatten(1, self.first))
        return image[:, :, : self.side, : self.side]


def padded_side(side: int, halvings: int) -> int:
    """Return the least multiple of 2 ** halvings that is not less than `side`."""
    step = 1 << halvings
    return -(-side // step) * step
