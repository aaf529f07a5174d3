"""A space that a network makes: remembered frames are encoded anew by each version of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from analytics.inference.rows import rows_of
from analytics.inference.serving import serving_of
from analytics.inference.ways import Way, need_torch
from analytics.novelty.memory import FrameMemory
from analytics.novelty.space import Piece, Readiness, Space, cut, version_column
from bridge.errors import ConfigError
from bridge.frames import FrameBatch

__all__ = ["EncodedSpace", "make_space"]

Array = npt.NDArray[Any]


class EncodedSpace(Space):
    """Coordinates, or errors of reconstruction, that `analytics.inference.operator.Infer` added.

    The memory keeps what the network was given. When a frame comes that a newer version answered,
    all that is remembered is encoded by that version, so that old and new frames can be compared.
    Frames that an older version answered, as other workers may for a while, are encoded by the
    newest one that was seen.

    Parameters
    ----------
    input
        Column of coordinates; or, with `score`, of errors of reconstruction (``latent_error``).
    features
        Column, or columns side by side, that the network was given.
    model, registry
        As for `Infer`.
    score
        Remember one number a frame, as ``score``, instead of ``coordinates``.

    Raises
    ------
    ConfigError
        If a name is missing.
    MissingExtra
        If torch is not installed.
    """

    def __init__(
        self,
        input: str,
        features: str | Sequence[str],
        model: str,
        registry: str,
        *,
        score: bool = False,
    ) -> None:
        super().__init__(input)
        self._names = (features,) if isinstance(features, str) else tuple(features)
        if not model or not registry or not all(self._names) or not self._names:
            raise ConfigError(
                "A memory of a network's space needs 'model' and 'registry', as the operator that "
                f"makes {input!r} has them, and in 'features' the column that it reads."
            )
        need_torch("a memory that a network encodes")
        self.score = score
        self._key = "score" if score else "coordinates"
        self._model = model
        self._registry = str(Path(registry).absolute())

    def reads(self) -> tuple[str, ...]:
        """Return the columns that are looked at, where a batch has them."""
        stem = self.input.rpartition("_")[0]
        versions = (f"{self.input}_version", *([f"{stem}_version"] if stem else []))
        return (self.input, *versions, *self._names)

    def read(self, batch: FrameBatch) -> dict[str, Array]:
        """Return what the memory keeps: ``features``, and ``coordinates`` or ``score``.

        Raises
        ------
        SchemaError
            If a column is missing or not finite.
        """
        features = rows_of(batch, self._names, "A memory")
        flat = features.reshape(len(batch), math.prod(features.shape[1:]))
        shown = self._flat(batch, self.input).copy()
        if self.score:
            versions = batch[version_column(batch, self.input)]
            shown = np.where(versions > 0, shown[:, 0], -np.inf)
        return {self._key: shown, "features": flat.astype(np.float32)}

    def pieces(self, batch: FrameBatch) -> Iterator[Piece]:
        """Cut a batch where the version changes."""
        yield from cut(batch[version_column(batch, self.input)])

    def enter(
        self, piece: Piece, batch: FrameBatch, memory: FrameMemory, rows: dict[str, Array]
    ) -> bool:
        """Move the memory to a newer version, or the rows of an older one to the newest."""
        if piece.version > self.version:
            self.version = piece.version
            if memory.seen:
                memory[self._key][:] = self._encode(memory["features"])
            return True
        if piece.version < self.version:
            part = slice(piece.start, piece.stop)
            rows[self._key][part] = self._encode(rows["features"][part])
        return False

    def _encode(self, features: Array) -> Array:
        serving = serving_of(
            self._registry, self._model, Way(), errors=self.score, latent=0, poll=60.0
        )
        coordinates, errors = serving.at(self.version).encoder(features)
        return coordinates if errors is None else errors


def make_space(
    input: str,
    features: str | Sequence[str] = "",
    model: str = "",
    registry: str = "",
    *,
    score: bool = False,
) -> Space:
    """Return the space that some parameters of an operator describe.

    Raises
    ------
    ConfigError
        If they do not go together.
    """
    # Runs fill in a registry for whoever takes one: it says nothing by itself.
    if model:
        return EncodedSpace(input, features, model, registry, score=score)
    if score:
        return Readiness(input, score=True)
    if not isinstance(features, str):
        raise ConfigError(
            "The parameter 'features' must name one column, but for a network's space, which "
            "'model' and 'registry' name."
        )
    return Space(input, features)
