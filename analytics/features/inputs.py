"""Parameters and columns made into arrays, or refused with a sentence that names the parameter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bridge.errors import ConfigError, SchemaError
from bridge.frames import FrameBatch
from bridge.schema import check_name

__all__ = [
    "as_indices",
    "as_weights",
    "box_of",
    "check_finite",
    "coordinates_of",
    "matrix_of",
    "output_name",
]

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]


def as_indices(value: Any, parameter: str, *, width: int | None = None) -> Indices:
    """Make a parameter into atom indices.

    Parameters
    ----------
    value
        A list of indices, or of groups of `width` indices.
    parameter
        Name of the parameter, for messages.
    width
        Length of each group; None for a plain list.

    Raises
    ------
    ConfigError
        If the shape is another, an index is negative or no integer, or a group (or the plain
        list) names an atom twice.
    """
    wanted = "atom indices" if width is None else f"groups of {width} atom indices each"
    try:
        array = np.asarray(value)
    except ValueError:
        array = np.empty((), object)
    shaped = array.ndim == 1 if width is None else array.ndim == 2 and array.shape[1] == width
    if not shaped or not array.size or array.dtype.kind not in "iu":
        raise ConfigError(
            f"The parameter {parameter!r} must be a list of {wanted}, with at least one entry; it "
            f"is {_shorten(value)}."
        )
    if array.min() < 0:
        raise ConfigError(
            f"The parameter {parameter!r} has the negative index {array.min()}; atoms are counted "
            "from 0."
        )
    ordered = np.sort(np.atleast_2d(array), axis=1)
    twice = (ordered[:, 1:] == ordered[:, :-1]).any(axis=1)
    if twice.any():
        which = np.atleast_2d(array)[int(np.argmax(twice))].tolist()
        raise ConfigError(
            f"The parameter {parameter!r} names an atom more than once in {_shorten(which)}."
        )
    return array.astype(np.intp)


def as_weights(value: Sequence[float] | None, parameter: str, count: int | None) -> Array | None:
    """Make a parameter into weights or masses, float64 of shape (count,); None stays None.

    Raises
    ------
    ConfigError
        If there are not `count` of them, one is negative or not finite, or all are zero.
    """
    if value is None:
        return None
    weights = np.asarray(value, np.float64)
    if weights.ndim != 1 or not weights.size or (count is not None and len(weights) != count):
        need = "one number for each atom" if count is None else f"{count} numbers, one an atom"
        raise ConfigError(
            f"The parameter {parameter!r} must have {need}; it has shape {weights.shape}."
        )
    if not np.isfinite(weights).all() or weights.min() < 0 or weights.sum() == 0:
        raise ConfigError(
            f"The parameter {parameter!r} must have finite numbers that are not negative, and not "
            "all zero."
        )
    return weights


def output_name(name: str, parameter: str = "output") -> str:
    """Return the name of a column to add.

    Raises
    ------
    ConfigError
        If it is not a valid name.
    """
    try:
        return check_name(name, "column")
    except SchemaError as error:
        raise ConfigError(f"The parameter {parameter!r} is wrong: {error}") from error


def _column(batch: FrameBatch, name: str, operator: str, parameter: str) -> npt.NDArray[Any]:
    try:
        column = batch.columns[name]
    except KeyError:
        raise SchemaError(
            f"{operator} finds no column {name!r} (its parameter {parameter!r}) in the frames of "
            f"{batch.simulation!r}; there are: {', '.join(batch.columns) or 'none'}."
        ) from None
    if column.dtype.kind not in "fiub":
        raise SchemaError(
            f"{operator} needs real numbers in the column {name!r} (its parameter {parameter!r}); "
            f"{batch.simulation!r} sends dtype {column.dtype}."
        )
    return column


def coordinates_of(
    batch: FrameBatch, variable: str, operator: str, *, atoms: int = 0, parameter: str = "atoms"
) -> npt.NDArray[Any]:
    """Return a column of coordinates, shape (n, particles, 3), in whatever dtype it has.

    Parameters
    ----------
    batch, variable
        Where to look.
    operator
        Who asks, for messages.
    atoms
        The number of particles that there must be at least: the greatest index plus one.
    parameter
        The parameter that names the particles.

    Raises
    ------
    SchemaError
        If there is no such column, its shape is another, or it has too few particles.
    """
    column = _column(batch, variable, operator, "variable")
    if column.ndim != 3 or column.shape[2] != 3:
        raise SchemaError(
            f"{operator} needs coordinates of shape (particles, 3) in each frame; the column "
            f"{variable!r} (its parameter 'variable') of {batch.simulation!r} has shape "
            f"{column.shape[1:]}."
        )
    if column.shape[1] < atoms:
        raise SchemaError(
            f"{operator} was given the index {atoms - 1} in its parameter {parameter!r}, but the "
            f"column {variable!r} of {batch.simulation!r} has {column.shape[1]} particles, counted "
            "from 0."
        )
    return column


def box_of(batch: FrameBatch, variable: str, operator: str) -> Array | None:
    """Return box vectors as rows, float64 of shape (n, 3, 3); None for an empty name.

    A column of shape (n, 3) is taken as the edge lengths of rectangular boxes.

    Raises
    ------
    SchemaError
        If the column is missing, has another shape, or a box has no volume.
    """
    if not variable:
        return None
    column = _column(batch, variable, operator, "box").astype(np.float64)
    if column.shape[1:] == (3,):
        column = column[:, :, None] * np.eye(3)
    if column.shape[1:] != (3, 3):
        raise SchemaError(
            f"{operator} needs box vectors of shape (3, 3), or three edge lengths, in each frame; "
            f"the column {variable!r} (its parameter 'box') of {batch.simulation!r} has shape "
            f"{column.shape[1:]}."
        )
    check_finite(column, batch, operator, f"the column {variable!r}")
    size = np.sqrt(np.einsum("nij,nij->ni", column, column)).prod(axis=1)
    flat = ~(np.abs(np.linalg.det(column)) > 1e-9 * size)
    if flat.any():
        raise SchemaError(
            f"{operator} got a box without volume in the column {variable!r} of "
            f"{batch.simulation!r}, first at offset {batch.offsets[flat][0]}; leave its parameter "
            "'box' empty for a system that is not periodic."
        )
    return column


def matrix_of(batch: FrameBatch, names: Sequence[str], operator: str) -> Array:
    """Return columns side by side as float64 of shape (n, k), each flattened in its frames.

    Raises
    ------
    SchemaError
        If one is missing, is no real number, or has a value that is not finite.
    """
    columns = []
    for name in names:
        column = _column(batch, name, operator, "input")
        columns.append(column.reshape(len(column), -1) if column.ndim != 2 else column)
    if len(columns) == 1:
        matrix = columns[0].astype(np.float64)
    else:
        matrix = np.concatenate(columns, axis=1, dtype=np.float64)
    return check_finite(matrix, batch, operator, " and ".join(repr(n) for n in names))


def check_finite(array: Array, batch: FrameBatch, operator: str, source: str) -> Array:
    """Return the array, or raise a `SchemaError` that names the first frame with a bad value."""
    good = np.isfinite(array)
    if not good.all():
        rows = ~good.reshape(len(array), -1).all(axis=1)
        raise SchemaError(
            f"{operator} found a value that is not finite in {source} of {batch.simulation!r} at "
            f"offset {batch.offsets[rows][0]}; such frames must be taken out before it."
        )
    return array


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
