"""Models so small that their training takes no time."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from analytics.learning.model import StreamModel


class TinyAutoencoder(StreamModel):
    """Linear to a few coordinates and back, with noise on the way."""

    kind = "tests.analytics.learning.tiny:TinyAutoencoder"
    center: Tensor

    def __init__(
        self, input_shape: tuple[int, ...], *, latent: int = 2, noise: float = 0.05
    ) -> None:
        super().__init__(input_shape, {"latent": latent, "noise": noise})
        n = 1
        for size in input_shape:
            n *= size
        self.latent = latent
        self.noise = noise
        self.encoder = nn.Linear(n, latent)
        self.decoder = nn.Linear(latent, n)
        self.register_buffer("center", torch.zeros(n))

    def prepare(self, x: Tensor) -> None:
        self.center.copy_(x.flatten(1).mean(dim=0))

    def encode(self, x: Tensor) -> Tensor:
        return self.encoder(x.flatten(1) - self.center)

    def errors(self, x: Tensor) -> Tensor:
        flat = x.flatten(1) - self.center
        return ((self.decoder(self.encoder(flat)) - flat) ** 2).mean(dim=1)

    def loss(
        self, x: Tensor, y: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        flat = x.flatten(1) - self.center
        z = self.encoder(flat)
        z = z + self.noise * torch.randn(z.shape, generator=generator)
        error = ((self.decoder(z) - flat) ** 2).mean()
        return error, {"error": error}


class TinyLagged(TinyAutoencoder):
    """The same, to the frame one lag time later."""

    kind = "tests.analytics.learning.tiny:TinyLagged"
    lagged: ClassVar[bool] = True

    def loss(
        self, x: Tensor, y: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        assert y is not None
        z = self.encode(x) + self.noise * torch.randn((len(x), self.latent), generator=generator)
        error = ((self.decoder(z) - (y.flatten(1) - self.center)) ** 2).mean()
        return error, {"error": error}


class Fragile(TinyAutoencoder):
    """Its loss is infinite where an input is large."""

    kind = "tests.analytics.learning.tiny:Fragile"

    def loss(self, x: Tensor, y: Tensor | None = None, **rest: Any) -> Any:
        loss, parts = super().loss(x, y, **rest)
        return loss * torch.inf if x.abs().max() > 100.0 else loss, parts
