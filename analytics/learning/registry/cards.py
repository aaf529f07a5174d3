"""The card of a version: what it is, what it learned from, how good it was."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from bridge.errors import ConfigError, CorruptData, HeadraceError, VersionMismatch

__all__ = ["FORMAT", "Card", "canonical", "decode_card", "encode_card", "read_card", "read_cards"]

log = logging.getLogger(__name__)

FORMAT = 1
"""Version of the format of a registry: of cards, tensors and histories."""


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a version besides its tensors.

    Attributes
    ----------
    version
        Hash of what the model is: `kind`, `input_shape`, `hyper`, and the bytes of all tensors,
        those of the alignment among them; 64 hexadecimal digits.
    name
        Under which it was stored.
    kind, input_shape, hyper
        What `analytics.learning.model.make_model` makes it from.
    latent
        Number of coordinates.
    lagged
        Whether it learned from pairs of frames.
    parameters
        Numbers that were learned.
    nbytes
        Bytes of all tensors.
    aligned
        Whether its coordinates are turned to those of the model before it.
    metrics
        Figures that it had when it was stored.
    trained_on
        Simulation to the frames that it learned from: ranges of offsets, each from the first to
        behind the last. All that the model and those before it had seen, not what this version
        alone added.
    frames, updates
        Number of frames seen, and of steps of the optimiser.
    parent
        Version that its learning began from; empty for none.
    note
        In somebody's words.
    created
        Unix time in seconds.
    code
        Release of Headrace that stored it.
    source
        SHA-256 of the file that defines the class of the model, the first 16 digits; it tells
        whether the code has changed since.
    torch
        Release of torch.
    format
        Of the card.
    """

    version: str
    name: str
    kind: str
    input_shape: tuple[int, ...]
    hyper: dict[str, Any]
    latent: int
    lagged: bool = False
    parameters: int = 0
    nbytes: int = 0
    aligned: bool = False
    metrics: dict[str, float] = {}
    trained_on: dict[str, list[tuple[int, int]]] = {}
    frames: int = 0
    updates: int = 0
    parent: str = ""
    note: str = ""
    created: float = 0.0
    code: str = ""
    source: str = ""
    torch: str = ""
    format: int = FORMAT

    @property
    def architecture(self) -> dict[str, Any]:
        """What the model is made from."""
        return {"kind": self.kind, "input_shape": list(self.input_shape), "hyper": self.hyper}


class _Stored(msgspec.Struct, frozen=True):
    checksum: str
    card: msgspec.Raw


class _Format(msgspec.Struct, frozen=True):
    format: int = 0


def canonical(value: Mapping[str, Any]) -> bytes:
    """Return JSON that is the same for the same value: keys sorted, no space.

    Raises
    ------
    ConfigError
        If the value is not plain data.
    """
    try:
        return json.dumps(
            value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False
        ).encode()
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"What a model is made from must be plain data (finite numbers, text, lists, maps) "
            f"to be stored: {error}."
        ) from error


def encode_card(card: Card) -> bytes:
    """Return a card as JSON that people can read, with its checksum."""
    # NaN and infinity, which a metric may well be, are null in JSON; they come back as NaN.
    body = msgspec.json.encode(msgspec.to_builtins(card), order="sorted")
    stored = {"checksum": _checksum(body), "card": msgspec.Raw(body)}
    return msgspec.json.format(msgspec.json.encode(stored), indent=1) + b"\n"


def decode_card(data: bytes, where: str | Path) -> Card:
    """Return the card that `encode_card` wrote.

    Raises
    ------
    CorruptData
        If the text is damaged, was changed, or is something else.
    VersionMismatch
        If a newer release wrote it.
    """
    try:
        stored = msgspec.json.decode(data, type=_Stored)
        written = msgspec.json.decode(stored.card, type=_Format).format
        if written > FORMAT:
            raise VersionMismatch(
                f"{where} has the format {written}; this release of Headrace knows {FORMAT}. "
                "Update Headrace here, or use a registry of its own."
            )
        body = msgspec.json.encode(msgspec.json.decode(stored.card), order="sorted")
        if stored.checksum == _checksum(body):
            return _with_numbers(msgspec.json.decode(body))
        said = "its checksum does not match"
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        said = str(error).rstrip(".")
    raise CorruptData(
        f"The card {where} is damaged or is something else: {said}. Restore it from a copy, or "
        "remove it; the version is then unknown."
    )


def read_card(path: Path) -> Card:
    """Read the card in a file.

    Raises
    ------
    CorruptData, VersionMismatch
        See `decode_card`.
    ConfigError
        If it cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"Cannot read {path}: {error.strerror}.") from error
    card = decode_card(data, path)
    if card.version != path.stem:
        raise CorruptData(
            f"The card {path} is that of version {card.version[:12]}; somebody renamed it. Give "
            "it its name again."
        )
    return card


def read_cards(paths: Iterable[Path]) -> list[Card]:
    """Read the cards in some files; those that cannot be read are left out, and told in the log."""
    cards = []
    for path in paths:
        try:
            cards.append(read_card(path))
        except HeadraceError as error:
            log.warning("%s", error)
    return cards


def _checksum(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def _with_numbers(plain: dict[str, Any]) -> Card:
    metrics = plain.get("metrics")
    if isinstance(metrics, dict):
        plain["metrics"] = {k: float("nan") if v is None else v for k, v in metrics.items()}
    return msgspec.convert(plain, Card)
