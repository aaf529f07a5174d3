"""What a user's module is trained for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from analytics.learning.model import MODELS
from analytics.reduction.networks.vamp import slow_score
from bridge.config import find_entry_point
from bridge.errors import ConfigError, SchemaError

__all__ = ["Loss", "call", "find_loss", "squares"]

Loss = Callable[[nn.Module, Tensor, Tensor | None, torch.Generator | None], Any]
"""Module, x, y and generator to a scalar, or a pair of a scalar and a map of scalars by name."""


def call(module: nn.Module, x: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return a module's coordinates of frames, and its reconstruction if it returns one."""
    out = module(x)
    return (out[0], out[1]) if isinstance(out, (tuple, list)) else (out, None)


def squares(x: Tensor, back: Tensor | None) -> Tensor:
    """Return the mean squared error of each frame's reconstruction, shape (n,)."""
    assert back is not None
    rest = back.to(x.dtype) - x
    return rest.square().flatten(1).mean(1)


def find_loss(name: str, *, reconstructs: bool, regularisation: float) -> Loss:
    """Return the loss that `WrappedModule` calls so.

    Raises
    ------
    ConfigError
        If there is none, or it needs a reconstruction and there is none.
    """
    if name == "vamp2":
        return _vamp2(regularisation)
    if ":" in name:
        function: Loss = find_entry_point(MODELS, name, f"The loss {name!r}")
        return function
    if name == "" and not reconstructs:
        return _none
    if name in ("", "reconstruction") and reconstructs:
        return _reconstruction
    raise ConfigError(
        f"The loss {name!r} cannot be had; it must be 'vamp2', 'package:function', or, of a module "
        "that returns coordinates and a reconstruction, 'reconstruction'."
    )


def _none(*_: object) -> Any:
    raise ConfigError("The module has no loss, so it cannot learn; give it one by 'loss'.")


def _reconstruction(module: nn.Module, x: Tensor, *_: object) -> Any:
    error = squares(x, call(module, x)[1]).mean()
    return error, {"reconstruction": error}


def _vamp2(regularisation: float) -> Loss:
    def loss(module: nn.Module, x: Tensor, y: Tensor | None, _: torch.Generator | None) -> Any:
        assert y is not None
        first, later = call(module, x)[0], call(module, y)[0]
        if len(x) < first.shape[1] + 2:
            raise SchemaError(
                f"VAMP-2 needs at least {first.shape[1] + 2} pairs at once and got {len(x)}."
            )
        score = slow_score(first, later, regularisation, reversible=False)
        return -score, {"score": score}

    return loss
