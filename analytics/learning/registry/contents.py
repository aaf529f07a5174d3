"""The tensors of a version as bytes, and their hash, which is the name of the version."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from analytics.learning.model import StreamModel
from analytics.learning.registry.cards import Card, canonical
from bridge.errors import ConfigError, CorruptData

__all__ = ["collect", "hash_contents", "pack", "source_of", "split", "unpack"]

_MODEL, _ALIGNMENT = "model.", "alignment."
_KEY = "headrace"
_ADVICE = "Restore it from a copy, or promote another version of the same name."


def collect(model: StreamModel, alignment: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
    """Return copies of all tensors of a model and its alignment, on the CPU, by name.

    Raises
    ------
    ConfigError
        If the state of the model holds something else than tensors.
    """
    tensors = {}
    named = {_MODEL + name: value for name, value in model.state_dict().items()}
    named |= {_ALIGNMENT + name: value for name, value in (alignment or {}).items()}
    for name, value in sorted(named.items()):
        if not isinstance(value, Tensor):
            raise ConfigError(
                f"The model {model.kind!r} keeps a {type(value).__name__} as {name!r} in its "
                "state; only tensors are stored. Put it into a buffer, or into 'hyper'."
            )
        # A copy: safetensors takes no two names of the same memory.
        tensors[name] = value.detach().to("cpu", copy=True).contiguous()
    return tensors


def hash_contents(architecture: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Return the hash of what a model is."""
    digest = hashlib.sha256(b"headrace model 1\n" + canonical(architecture) + b"\n")
    for name, value in sorted(tensors.items()):
        head = {"name": name, "dtype": str(value.dtype), "shape": list(value.shape)}
        digest.update(canonical(head) + b"\n")
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def pack(architecture: Mapping[str, Any], tensors: dict[str, Tensor]) -> bytes:
    """Return the bytes of a file of safetensors, which tells the architecture, too."""
    data: bytes = safetensors.torch.save(tensors, {_KEY: canonical(architecture).decode()})
    return data


def unpack(data: bytes, card: Card, path: Path) -> dict[str, Tensor]:
    """Return the tensors in a file.

    Raises
    ------
    CorruptData
        If the file is damaged, cut short, or is not what the card says.
    """
    try:
        tensors: dict[str, Tensor] = safetensors.torch.load(data)
        found = hash_contents(card.architecture, tensors)
        told = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
        if told != {_KEY: canonical(card.architecture).decode()}:
            raise ValueError("it tells another architecture than the card")
    except (safetensors.SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise CorruptData(
            f"{path} is damaged, cut short, or not a file of safetensors: "
            f"{str(error).rstrip('.')}. {_ADVICE}"
        ) from error
    if found != card.version:
        raise CorruptData(
            f"{path} does not hold what its name says: its contents have the hash {found[:12]}, "
            f"not {card.version[:12]}. {_ADVICE}"
        )
    return tensors


def split(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the tensors of the model and those of its alignment, by their own names."""
    return (
        {n[len(_MODEL) :]: t for n, t in tensors.items() if n.startswith(_MODEL)},
        {n[len(_ALIGNMENT) :]: t for n, t in tensors.items() if n.startswith(_ALIGNMENT)},
    )


def source_of(model: StreamModel) -> str:
    """Return the beginning of the hash of the file that defines a model's class; "" for none."""
    try:
        file = inspect.getsourcefile(type(model))
        return "" if file is None else hashlib.sha256(Path(file).read_bytes()).hexdigest()[:16]
    except (OSError, TypeError):
        return ""
