"""Networks of a few weights, and a registry to keep them in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from analytics.learning.model import StreamModel
from analytics.learning.registry import Registry

__all__ = ["KIND", "NO_DECODER", "TinyModel", "Undecoded", "publish", "tiny_model"]

KIND = "tests.analytics.inference.tiny:TinyModel"
NO_DECODER = "tests.analytics.inference.tiny:Undecoded"


class TinyModel(StreamModel):
    """Two layers down, one up."""

    kind = KIND

    def __init__(self, input_shape: tuple[int, ...], *, latent: int = 2, width: int = 8) -> None:
        super().__init__(input_shape, {"latent": latent, "width": width})
        size = int(torch.Size(self.input_shape).numel())
        self.latent = latent
        self.down = nn.Sequential(nn.Linear(size, width), nn.Tanh(), nn.Linear(width, latent))
        self.up = nn.Linear(latent, size)

    def prepare(self, x: Tensor) -> None:
        """Nothing is scaled."""

    def encode(self, x: Tensor) -> Tensor:
        return self.down(x.flatten(1))

    def loss(
        self, x: Tensor, y: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        loss = ((self.up(self.encode(x)) - x.flatten(1)) ** 2).mean()
        return loss, {"reconstruction": loss}

    def errors(self, x: Tensor) -> Tensor | None:
        return ((self.up(self.encode(x)) - x.flatten(1)) ** 2).mean(dim=1)


class Undecoded(TinyModel):
    """No way up."""

    kind = NO_DECODER

    def errors(self, x: Tensor) -> Tensor | None:
        return None


def tiny_model(
    seed: int = 0,
    shape: tuple[int, ...] = (5,),
    make: type[TinyModel] = TinyModel,
    **hyper: Any,
) -> TinyModel:
    """Return a model with weights of its own."""
    torch.manual_seed(seed)
    return make(shape, **hyper)


def publish(
    folder: Path | str,
    name: str = "tiny",
    seed: int = 0,
    *,
    alignment: Any = None,
    promote: bool = True,
    metrics: Mapping[str, float] | None = None,
    **hyper: Any,
) -> Any:
    """Add a version, put it into service, and return what is then served."""
    registry = Registry(Path(folder))
    card = registry.add(
        name,
        tiny_model(seed, **hyper),
        alignment=alignment,
        metrics=dict(metrics or {}),
        trained_on={},
    )
    return registry.promote(name, card.version, reason="for a test") if promote else card
