"""Where frames lie: the columns of a fixed space, or of one that is learned and changes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from analytics.novelty.memory import FrameMemory
from bridge.errors import ConfigError, PipelineError, SchemaError
from bridge.frames import FrameBatch

__all__ = ["Piece", "Readiness", "Space", "cut", "project", "version_column"]

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]


def project(features: Array, model: Array) -> Floats:
    """Map features by an affine model.

    Parameters
    ----------
    features
        Shape (n, d).
    model
        Shape (d + 1, k): the matrix, and the constant in the last row.

    Returns
    -------
    Floats
        Shape (n, k).
    """
    out: Floats = features @ model[:-1] + model[-1]
    return out


def version_column(batch: FrameBatch, name: str) -> str:
    """Return the column that says which model made a column: its own, or that of its stem.

    ``latent_version`` is that of ``latent``, and of ``latent_error`` where there is no
    ``latent_error_version``.
    """
    own, stem = f"{name}_version", f"{name.rpartition('_')[0]}_version"
    return stem if own not in batch and stem in batch else own


def cut(versions: Array) -> Iterator[Piece]:
    """Cut rows where the version changes."""
    start, values = 0, versions.tolist()
    for at in range(1, len(values) + 1):
        if at == len(values) or values[at] != values[start]:
            yield Piece(start, at, values[start])
            start = at


class Piece(NamedTuple):
    """Rows of a batch that were made by one version of the model.

    Attributes
    ----------
    start, stop
        The rows.
    version
        0 while there is no model yet; a fixed space always has version 1.
    """

    start: int
    stop: int
    version: int


class Space:
    """Reads coordinates from batches, and moves a memory when the space changes.

    Parameters
    ----------
    input
        Column with the coordinates, shape (n,) or (n, ...), flattened to (n, k).
    features
        Column that `input` was projected from by an operator that learns. Then the batch must
        have the columns ``<input>_version`` and ``<input>_model`` (`publish_model` of that
        operator), and the memory keeps the features, so that it can be projected anew. Empty
        for a space that never changes.

    Attributes
    ----------
    version
        Version of the model that the memory's coordinates were made with.
    """

    def __init__(self, input: str, features: str = "") -> None:
        if not input:
            raise ConfigError("The parameter 'input' must name a column.")
        self.input = input
        self.features = features
        self.version = 0

    def reads(self) -> tuple[str, ...]:
        """Return the columns that are looked at, where a batch has them."""
        model = (self.features, f"{self.input}_model") if self.features else ()
        return (self.input, f"{self.input}_version", *model)

    def read(self, batch: FrameBatch) -> dict[str, Array]:
        """Return what the memory keeps: ``coordinates`` and, if learned, ``features``.

        Raises
        ------
        SchemaError
            If a column is missing or not finite.
        """
        rows = {"coordinates": self._flat(batch, self.input)}
        if self.features:
            rows["features"] = self._flat(batch, self.features)
        return rows

    def pieces(self, batch: FrameBatch) -> Iterator[Piece]:
        """Cut a batch where the model changes.

        Raises
        ------
        PipelineError
            If the coordinates come from a model, and `features` is not given.
        """
        column = f"{self.input}_version"
        if not self.features:
            if column in batch:
                raise PipelineError(
                    f"The column {self.input!r} comes from a model that changes while it learns "
                    f"(there is a column {column!r}); name the column that it is computed from as "
                    "'features', and set 'publish_model = true' where it is learned, or name the "
                    "'model' and 'registry' of a network."
                )
            if len(batch):
                yield Piece(0, len(batch), 1)
            return
        yield from cut(batch[column])

    def enter(
        self, piece: Piece, batch: FrameBatch, memory: FrameMemory, rows: dict[str, Array]
    ) -> bool:
        """Move the memory to a piece's version; tell whether its coordinates are new.

        `rows` is what `read` returned for the batch.
        """
        if piece.version == self.version:
            return False
        self.version = piece.version
        if not self.features or not piece.version:
            return False
        model = batch[f"{self.input}_model"][piece.start]
        if memory.seen:
            features = memory["features"]
            if model.shape[0] != features.shape[1] + 1:
                raise PipelineError(
                    f"The model of {self.input!r} has {model.shape[0] - 1} inputs, and the column "
                    f"{self.features!r} has {features.shape[1]}; 'features' must name the input "
                    f"of the operator that makes {self.input!r}."
                )
            memory["coordinates"][:] = project(features, model)
        return True

    def _flat(self, batch: FrameBatch, name: str) -> Floats:
        column = batch[name]
        # Spelt out, because -1 cannot be told from a batch without rows.
        flat = column.reshape(len(batch), math.prod(column.shape[1:]))
        flat = flat.astype(np.float64, copy=False)
        if not np.isfinite(flat).all():
            row = int(np.flatnonzero(~np.isfinite(flat).all(axis=1))[0])
            raise SchemaError(
                f"The column {name!r} of {batch.simulation!r} is not finite at offset "
                f"{int(batch.offsets[row])}; the operator that made it must not let that pass."
            )
        return flat


class Readiness(Space):
    """No place, only whether a column says something yet, by its `version_column` if there is one.

    Parameters
    ----------
    input
        The column.
    score
        Remember the column, shape (n,), as ``score``: minus infinity where it is not ready.
    """

    def __init__(self, input: str, *, score: bool = False) -> None:
        super().__init__(input)
        self.score = score

    def reads(self) -> tuple[str, ...]:
        """Return the columns that are looked at, where a batch has them."""
        stem = self.input.rpartition("_")[0]
        return (*super().reads(), *([f"{stem}_version"] if stem else []))

    def read(self, batch: FrameBatch) -> dict[str, Array]:
        """Return ``score``, if it is wanted.

        Raises
        ------
        SchemaError
            If the column is missing, not finite, or more than one number for each frame.
        """
        if not self.score:
            return {}
        flat = self._flat(batch, self.input)
        if flat.shape[1] != 1:
            raise SchemaError(
                f"The column {self.input!r} has {flat.shape[1]} numbers for each frame; a score is "
                "one."
            )
        versions = batch.columns.get(version_column(batch, self.input))
        known = flat[:, 0]
        return {"score": known if versions is None else np.where(versions > 0, known, -np.inf)}

    def pieces(self, batch: FrameBatch) -> Iterator[Piece]:
        """Cut a batch where the version changes."""
        versions = batch.columns.get(version_column(batch, self.input))
        if versions is not None:
            yield from cut(versions)
        elif len(batch):
            yield Piece(0, len(batch), 1)
