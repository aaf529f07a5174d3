"""A model as a card and tensors, and the model that is made of those again."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from analytics.learning.alignment import Alignment
from analytics.learning.model import MODELS, StreamModel, make_model
from analytics.learning.registry import contents
from analytics.learning.registry.cards import Card
from analytics.learning.registry.loaded import Loaded
from analytics.learning.resting import rest
from bridge.config import find_entry_point
from bridge.errors import ConfigError, CorruptData

__all__ = ["describe", "rebuild"]

# Their functions open files and start programs, and none of them makes a model.
_NO_MODELS = sys.stdlib_module_names | {"numpy", "safetensors", "torch"}


def describe(
    model: StreamModel,
    alignment: Alignment | None,
    hyper: dict[str, Any],
    *,
    metrics: Mapping[str, float],
    trained_on: Mapping[str, Sequence[tuple[int, int]]],
    **fields: Any,
) -> tuple[Card, dict[str, Tensor]]:
    """Return the card of a model, and copies of its tensors; `hyper` as the card is to tell it.

    Raises
    ------
    ConfigError
        If the model is not made of tensors and plain data.
    """
    tensors = contents.collect(model, alignment.to_tensors() if alignment else None)
    architecture = {"kind": model.kind, "input_shape": list(model.input_shape), "hyper": hyper}
    card = Card(
        version=contents.hash_contents(architecture, tensors),
        kind=model.kind,
        input_shape=model.input_shape,
        hyper=hyper,
        latent=model.latent,
        lagged=model.lagged,
        parameters=sum(p.numel() for p in model.parameters()),
        nbytes=sum(t.nbytes for t in tensors.values()),
        aligned=alignment is not None,
        metrics={key: float(value) for key, value in metrics.items()},
        trained_on={
            simulation: [(int(first), int(stop)) for first, stop in ranges]
            for simulation, ranges in sorted(trained_on.items())
        },
        code=f"headrace {_release()}",
        source=contents.source_of(model),
        torch=str(torch.__version__),
        **fields,
    )
    return card, tensors


def rebuild(card: Card, data: bytes, path: Path, hyper: dict[str, Any]) -> Loaded:
    """Return the model that `describe` was given.

    Parameters
    ----------
    card, data, path
        The card, and the bytes of the file of tensors.
    hyper
        Hyper-parameters to make it from.

    Raises
    ------
    CorruptData
        If the bytes are damaged, or do not fit the code.
    ConfigError
        If this environment lacks the kind of model.
    """
    _refuse_foreign_code(card)
    tensors, aligning = contents.split(contents.unpack(data, card, path))
    rest()
    # Weights that are thrown away at once shall not use up anybody's random numbers.
    with torch.random.fork_rng(devices=[]):
        try:
            model = make_model(card.kind, card.input_shape, hyper)
        except TypeError as error:
            raise _does_not_fit(card, error) from error
        except ConfigError as error:
            raise ConfigError(f"{_named(card)} cannot be made here. {error}") from error
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise _does_not_fit(card, error) from error
    alignment = Alignment.from_tensors(aligning) if aligning else None
    return Loaded(model.eval(), alignment, card)


def _refuse_foreign_code(card: Card) -> None:
    """Refuse what a card wants called if it can be no model: the folder may be anybody's."""
    for name in (card.kind, card.hyper.get("factory")):
        if not isinstance(name, str) or ":" not in name:
            continue
        if name.partition(":")[0].partition(".")[0] not in _NO_MODELS:
            continue
        made = find_entry_point(MODELS, name, _named(card))
        if not (isinstance(made, type) and issubclass(made, torch.nn.Module)):
            raise ConfigError(
                f"{_named(card)} wants {name!r} to be called, which makes no model; it is not "
                "loaded. Find out who wrote into this registry."
            )


def _does_not_fit(card: Card, error: Exception) -> CorruptData:
    return CorruptData(
        f"{_named(card)} does not fit the code of its kind {card.kind!r} that is installed here: "
        f"{str(error).rstrip('.')}. It was stored by {card.code}; use that release, or train the "
        "model anew."
    )


def _named(card: Card) -> str:
    return f"The version {card.version[:12]} of {card.name!r}"


def _release() -> str:
    try:
        return metadata.version("headrace")
    except metadata.PackageNotFoundError:
        return "unknown"
