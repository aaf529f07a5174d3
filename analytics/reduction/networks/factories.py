"""Modules that somebody else's code makes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from analytics.learning.model import MODELS
from bridge.config import build, find_entry_point
from bridge.errors import ConfigError
from bridge.extras import needs

__all__ = ["load_weights", "make_module"]


def make_module(factory: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Call ``package:callable`` with arguments by name.

    Raises
    ------
    ConfigError
        If it cannot be found, refuses its arguments, or returns no `torch.nn.Module`.
    """
    where = f"The factory {factory!r}"
    if ":" not in factory:
        raise ConfigError(f"{where} must be written 'package:callable'.")
    module: Any = build(find_entry_point(MODELS, factory, where), arguments, where)
    if not isinstance(module, nn.Module):
        raise ConfigError(f"{where} gave a {type(module).__name__}; it must be a torch.nn.Module.")
    return module


def load_weights(module: nn.Module, path: Path) -> None:
    """Fill a module's state dict from a file of safetensors.

    Raises
    ------
    ConfigError
        If the file cannot be read, or does not fit.
    MissingExtra
        If the package safetensors is not installed.
    """
    with needs("learning", "files of weights"):
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    try:
        module.load_state_dict(load_file(path))
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise ConfigError(
            f"The weights in {path} cannot be read, or do not fit the module: "
            f"{str(error).strip().rstrip('.')}. Write them by safetensors.torch.save_file, from "
            "the state_dict() of such a module."
        ) from error
