"""A network that stands in for a function of a simulation, and knows where it may be trusted."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from analytics.learning.model import StreamModel
from analytics.statistics.schedule import check_count
from bridge.errors import ConfigError, SchemaError

__all__ = ["Regressor"]

_ACTIVATIONS = {"tanh": nn.Tanh, "silu": nn.SiLU, "relu": nn.ReLU}
_UNSET = float("inf")


class Regressor(StreamModel):
    r"""A multi-layer perceptron from some numbers to others, row by row.

    The loss is the mean squared error of outputs that are scaled to unit variance. The *domain* is
    the box that holds all inputs learned from, each side widened by `margin` of its length, and
    with `samples` also: no further from the nearest of that many of them, in scaled units, than
    `reach`. Outside, the network only guesses: `inside` tells.

    Parameters
    ----------
    input_shape
        ``(k,)``, the widths of all inputs together.
    inputs, outputs
        Name to width, in the order of the columns.
    width, depth
        Of the hidden layers.
    activation
        ``tanh``, ``silu`` or ``relu``.
    margin
        By how much the box is widened, as a part of its sides.
    samples, reach
        See above; no such test with 0 samples. The test costs time with each row and sample.

    References
    ----------
    K. Hornik, M. Stinchcombe, H. White, Neural Networks 2, 359 (1989),
    doi:10.1016/0893-6080(89)90020-8.
    """

    kind = "regressor"
    supervised: ClassVar[bool] = True

    def __init__(
        self,
        input_shape: tuple[int, ...],
        *,
        inputs: Mapping[str, int],
        outputs: Mapping[str, int],
        width: int = 64,
        depth: int = 2,
        activation: Literal["tanh", "silu", "relu"] = "tanh",
        margin: float = 0.0,
        samples: int = 0,
        reach: float = 0.5,
    ) -> None:
        for what, widths in ("inputs", inputs), ("outputs", outputs):
            if not isinstance(widths, Mapping) or not widths:
                raise ConfigError(
                    f"The parameter {what!r} of a 'regressor' is {widths!r}; it must say how many "
                    "columns each has, such as { u = 1, v = 2 }."
                )
            for name, columns in widths.items():
                check_count(columns, f"{what}.{name}")
        super().__init__(
            input_shape,
            {
                "inputs": dict(inputs), "outputs": dict(outputs), "width": width, "depth": depth,
                "activation": activation, "margin": margin, "samples": samples, "reach": reach,
            },
        )  # fmt: skip
        k, self.latent = sum(inputs.values()), sum(outputs.values())
        if self.input_shape != (k,):
            raise ConfigError(
                f"The inputs {dict(inputs)} of a 'regressor' have {k} columns in all; it is given "
                f"the shape {self.input_shape}."
            )
        if width < 1 or depth < 0 or not margin >= 0 or samples < 0 or not reach > 0:
            raise ConfigError(
                "A 'regressor' needs a 'width' of at least 1, 'depth', 'margin' and 'samples' of "
                "at least 0, and 'reach' above 0."
            )
        if activation not in _ACTIVATIONS:
            raise ConfigError(
                f"The activation {activation!r} of a 'regressor' is none of "
                f"{', '.join(_ACTIVATIONS)}."
            )
        sizes = [k, *[width] * depth]
        layers: list[nn.Module] = []
        for before, after in pairwise(sizes):
            layers += [nn.Linear(before, after), _ACTIVATIONS[activation]()]
        self.network = nn.Sequential(*layers, nn.Linear(sizes[-1], self.latent))
        self.margin, self.reach = margin, reach
        for name, value in (
            ("x_mean", torch.zeros(k)), ("x_scale", torch.ones(k)),
            ("y_mean", torch.zeros(self.latent)), ("y_scale", torch.ones(self.latent)),
            ("y_known", torch.zeros(())), ("seen", torch.zeros((), dtype=torch.int64)),
            ("low", torch.full((k,), _UNSET)), ("high", torch.full((k,), -_UNSET)),
            ("known", torch.full((samples, k), _UNSET)),
        ):  # fmt: skip
            self.register_buffer(name, value)

    x_mean: Tensor
    x_scale: Tensor
    y_mean: Tensor
    y_scale: Tensor
    y_known: Tensor
    seen: Tensor
    low: Tensor
    high: Tensor
    known: Tensor

    def prepare(self, x: Tensor) -> None:
        """Set the scaling of inputs."""
        self.x_mean, self.x_scale = _scaling(x)

    def encode(self, x: Tensor) -> Tensor:
        """Return the outputs, in their own units."""
        return self._scaled(x) * self.y_scale + self.y_mean

    def _scaled(self, x: Tensor) -> Tensor:
        out: Tensor = self.network((x - self.x_mean) / self.x_scale)
        return out

    def loss(
        self, x: Tensor, y: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean squared error of scaled outputs; while training, widen the domain."""
        if y is None or y.shape != (len(x), self.latent):
            raise SchemaError(
                f"A 'regressor' learns from outputs of shape (n, {self.latent}) beside its inputs; "
                f"it was given {'none' if y is None else tuple(y.shape)}."
            )
        if self.training:
            self._learn_domain(x.detach())
            if not self.y_known:
                self.y_mean, self.y_scale = _scaling(y.detach())
                self.y_known = torch.ones_like(self.y_known)
        error = (self._scaled(x) - (y - self.y_mean) / self.y_scale).square().mean()
        return error, {"squared_error": error.detach()}

    def _learn_domain(self, x: Tensor) -> None:
        self.low = torch.minimum(self.low, x.amin(0))
        self.high = torch.maximum(self.high, x.amax(0))
        room = len(self.known)
        if room:
            # The newest take turns with the oldest.
            rows = (int(self.seen) + torch.arange(len(x), device=x.device)) % room
            self.known[rows] = x
        self.seen = self.seen + len(x)

    def inside(self, x: Tensor) -> Tensor:
        """Return which rows the network may be trusted with, shape (n,), bool."""
        room = self.margin * (self.high - self.low)
        fits = ((x >= self.low - room) & (x <= self.high + room)).all(1)
        if len(self.known):
            have = self.known[torch.isfinite(self.known).all(1)]
            # Rows that are outside already need no search.
            rows = torch.nonzero(fits)[:, 0]
            for part in torch.split(rows, 65_536):
                apart = torch.cdist(x[part] / self.x_scale, have / self.x_scale)
                fits[part] = apart.amin(1) <= self.reach
        return fits


def _scaling(x: Tensor) -> tuple[Tensor, Tensor]:
    if len(x) < 2 or not torch.isfinite(x).all():
        raise SchemaError(
            f"The scaling is made of at least two rows of finite numbers; there are {len(x)} rows."
        )
    scale = x.std(0)
    return x.mean(0), torch.where(scale > 0, scale, torch.ones_like(scale))
