"""Tensors as arrays and back: what checkpoints are made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from bridge.errors import ConfigError, MissingExtra, PipelineError

try:
    import torch
except ModuleNotFoundError as error:
    raise MissingExtra("torch", "learning", "training networks") from error

__all__ = [
    "choose_device",
    "restore_model",
    "save_model",
    "to_array",
]

Array = npt.NDArray[Any]


def to_array(tensor: torch.Tensor) -> Array:
    """Return a copy of a tensor as an array of the same shape."""
    return np.array(tensor.detach().cpu().numpy())


def choose_device(name: str) -> torch.device:
    """Return the device of a parameter ``auto``, ``cpu`` or ``cuda`` (also ``cuda:1``).

    Raises
    ------
    ConfigError
        If there is no such device here.
    """
    there = torch.cuda.is_available()
    if name == "auto":
        return torch.device("cuda" if there else "cpu")
    if name != "cpu" and not name.startswith("cuda"):
        raise ConfigError(f"The device is {name!r}; it must be 'auto', 'cpu' or 'cuda'.")
    if name != "cpu" and not there:
        raise ConfigError(
            f"The device is {name!r}, and torch finds no GPU here; write 'auto' to take one where "
            "there is one."
        )
    return torch.device(name)


def save_model(model: torch.nn.Module) -> dict[str, Array]:
    """Return parameters and buffers by name."""
    return {name: to_array(tensor) for name, tensor in model.state_dict().items()}


def restore_model(model: torch.nn.Module, arrays: Mapping[str, Array]) -> None:
    """Take up what `save_model` returned.

    Raises
    ------
    PipelineError
        If it belongs to a model of another architecture.
    """
    try:
        model.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in arrays.items()})
    except RuntimeError as error:
        raise PipelineError(
            f"The saved parameters do not fit this model: {str(error).rstrip('.')}."
        ) from error
