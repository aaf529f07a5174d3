"""Two versions against each other: by their cards, and on recorded frames."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bridge.errors import ConfigError
from bridge.frames import FrameBatch
from bridge.verbs import Services

if TYPE_CHECKING:
    from analytics.learning.registry import Card, HeldOut, Loaded, Registry

__all__ = ["differences", "on_frames"]

Array = npt.NDArray[Any]


def differences(first: Card, second: Card) -> dict[str, Any]:
    """Return the versions, what is not the same in their cards, and the metrics of both."""
    keys = ("kind", "input_shape", "latent", "parameters", "aligned", "code", "source", "torch")
    changed = {
        key: [_plain(getattr(first, key)), _plain(getattr(second, key))]
        for key in keys
        if getattr(first, key) != getattr(second, key)
    }
    for key in sorted(first.hyper.keys() | second.hyper.keys()):
        pair = [first.hyper.get(key), second.hyper.get(key)]
        if pair[0] != pair[1]:
            changed[f"hyper.{key}"] = pair
    for key in ("frames", "updates"):
        changed[key] = [getattr(first, key), getattr(second, key)]
    metrics = {
        key: [_finite(first.metrics.get(key)), _finite(second.metrics.get(key))]
        for key in sorted(first.metrics.keys() | second.metrics.keys())
    }
    return {
        "first": first.version,
        "second": second.version,
        "descends": second.parent == first.version or first.parent == second.version,
        "differences": changed,
        "metrics": metrics,
    }


def on_frames(
    registry: Registry,
    first: Card,
    second: Card,
    arguments: argparse.Namespace,
    services: Services,
) -> dict[str, Any]:
    """Return how both do on recorded frames, and how alike their coordinates are.

    Raises
    ------
    ConfigError
        If the frames are not to be had, or are not what the models take.
    """
    from analytics.learning.registry import Gate, compare

    if not arguments.topic or not arguments.column:
        raise ConfigError(
            "Say which frames: --topic frames/NAME or results/PIPELINE/NAME, and --column."
        )
    if arguments.last < 0:
        raise ConfigError(
            f"--last is {arguments.last}; it says how many of the newest frames to take, 0 for all."
        )
    batches = list(
        services.read(
            arguments.on, arguments.topic, columns=arguments.column, last=arguments.last,
            keys=arguments.keys,
        )
    )  # fmt: skip
    if not batches:
        raise ConfigError(f"{arguments.topic} in {arguments.on} holds no frames.")
    models = registry.load(first.version), registry.load(second.version)
    held = _pairs(batches, models, arguments)
    gate = Gate()
    if len(held) < 2 * gate.blocks:
        raise ConfigError(
            f"{len(held)} frames of {arguments.topic} can be judged by; {2 * gate.blocks} at "
            "least are wanted."
        )
    result = compare(models[1].model, models[0].model, held, gate)
    return {
        "topic": arguments.topic,
        "frames": len(held),
        "scores": [_finite(result.served), _finite(result.candidate)],
        "difference": _finite(result.difference),
        "at_least": _finite(result.low),
        "confidence": gate.confidence,
        "correlations": _correlations(models, held.x),
    }


def _pairs(
    batches: list[FrameBatch], models: tuple[Loaded, Loaded], arguments: argparse.Namespace
) -> HeldOut:
    from analytics.learning.intake import rows_of
    from analytics.learning.pairs import LaggedPairs
    from analytics.learning.registry import HeldOut

    shapes = {model.card.input_shape for model in models}
    if len(shapes) > 1:
        raise ConfigError(
            f"The versions take inputs of different shapes, {' and '.join(map(str, shapes))}; "
            "they cannot be shown the same frames."
        )
    shape = shapes.pop()
    batch = FrameBatch.concatenate(batches)
    x = rows_of(batch, arguments.column)
    if math.prod(x.shape[1:]) != math.prod(shape):
        raise ConfigError(
            f"The columns {', '.join(arguments.column)} give {x.shape[1:]} a frame; the models "
            f"take {shape}."
        )
    x = x.reshape(-1, *shape)
    if not any(model.card.lagged for model in models):
        return HeldOut(x)
    if arguments.lag < 1:
        raise ConfigError(
            "These models are judged by pairs of frames: say how many frames apart, by --lag."
        )
    made = LaggedPairs(arguments.lag).push(
        batch.simulation, x, offsets=batch.offsets, epochs=batch.epochs, steps=batch.steps
    )
    return HeldOut(made.x, made.y)


def _correlations(models: tuple[Loaded, Loaded], x: Array) -> list[float | None] | None:
    """Return how each coordinate of the one goes with that of the other; None if not as many."""
    import torch

    if models[0].card.latent != models[1].card.latent:
        return None
    both = []
    with torch.no_grad():
        for loaded in models:
            z = loaded.model.encode(torch.from_numpy(x))
            z = z if loaded.alignment is None else loaded.alignment.apply(z)
            both.append(z.double().numpy())
    first, second = ((z - z.mean(0)) / np.maximum(z.std(0), 1e-300) for z in both)
    return [_finite(float(value)) for value in (first * second).mean(0)]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
