"""A network that is small enough to be written thousands of times in a test."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from analytics.learning.model import StreamModel
from analytics.learning.registry import Registry

__all__ = ["KIND", "Tiny", "trained"]

KIND = "tests.analytics.learning.registry.tiny:Tiny"


class Tiny(StreamModel):
    """A linear autoencoder with one coordinate, and a scaling of its inputs."""

    kind: ClassVar[str] = KIND
    shift: Tensor

    def __init__(self, input_shape: tuple[int, ...], **hyper: Any) -> None:
        super().__init__(input_shape, {"latent": 1, **hyper})
        self.latent = int(self.hyper["latent"])
        self.weights = nn.Parameter(torch.randn(self.input_shape[0], self.latent))
        self.register_buffer("shift", torch.zeros(self.input_shape))
        self.register_buffer("count", torch.tensor(0, dtype=torch.int64))

    def prepare(self, x: Tensor) -> None:
        self.shift.copy_(x.mean(0))

    def encode(self, x: Tensor) -> Tensor:
        return (x - self.shift) @ self.weights

    def errors(self, x: Tensor) -> Tensor:
        rebuilt = self.encode(x) @ self.weights.T + self.shift
        return ((x - rebuilt) ** 2).mean(1)

    def loss(
        self, x: Tensor, y: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        loss = self.errors(x).mean()
        return loss, {"reconstruction": loss}


def trained(direction: Any, *, seed: int = 0) -> Tiny:
    """Return a model that knows one direction of the plane."""
    torch.manual_seed(seed)
    model = Tiny((2,))
    unit = np.asarray(direction, np.float32)
    with torch.no_grad():
        model.weights.copy_(torch.from_numpy(unit / np.linalg.norm(unit)).reshape(2, 1))
    return model


def store_some(folder: str, n: int) -> None:
    """Store and promote models one after the other; run in a process of its own."""
    registry = Registry(folder, keep=3)
    for i in range(n):
        card = registry.add("tiny", trained((1.0, i + 0.5)), frames=i)
        if i % 2:
            registry.promote("tiny", card.version, reason=f"Number {i} of this process.")
