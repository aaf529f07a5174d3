"""Distances between pairs of particles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from analytics.features.inputs import (
    as_indices,
    box_of,
    check_finite,
    coordinates_of,
    output_name,
)
from analytics.features.minimum_image import minimum_image
from bridge.errors import ConfigError
from bridge.frames import FrameBatch
from bridge.pipeline import Context, FrameOperator

__all__ = ["Distances", "all_pairs", "pair_distances"]

Array = npt.NDArray[np.float64]


def all_pairs(atoms: Any, *, min_separation: int = 1) -> npt.NDArray[np.intp]:
    """Return every pair of a list of atoms, in the order of the upper triangle.

    Parameters
    ----------
    atoms
        Integers of shape (m,).
    min_separation
        How many places the two must at least be apart in the list.

    Returns
    -------
    ndarray
        Integers of shape (pairs, 2).
    """
    atoms = np.asarray(atoms, np.intp)
    first, second = np.triu_indices(len(atoms), min_separation)
    return np.stack([atoms[first], atoms[second]], axis=1)


def pair_distances(positions: Any, pairs: Any, box: Array | None = None) -> Array:
    """Compute the distance of each pair of particles.

    Parameters
    ----------
    positions
        Real array of shape (n, particles, 3).
    pairs
        Integers of shape (k, 2).
    box
        Box vectors as rows, shape (n, 3, 3), in the unit of the positions, for the distance to
        the nearest periodic image (rectangular and triclinic); None for none.

    Returns
    -------
    ndarray
        float64 of shape (n, k), in the unit of the positions.
    """
    pairs = np.asarray(pairs, np.intp)
    ends = np.take(positions, pairs[:, 1], axis=1).astype(np.float64)
    between = ends - np.take(positions, pairs[:, 0], axis=1)
    if box is not None:
        between = minimum_image(between, box)
    return np.asarray(np.sqrt(np.einsum("nki,nki->nk", between, between)))


class Distances(FrameOperator):
    """Add distances between pairs of particles, or between all of a list.

    Parameters
    ----------
    pairs
        Pairs of indices, counted from 0.
    atoms
        Instead of pairs: indices of which every pair is taken, in the order of the upper
        triangle.
    variable
        Column of coordinates, shape (n, particles, 3).
    box
        Column of box vectors, shape (n, 3, 3) (or edge lengths, (n, 3)), in the same unit, for
        minimum images; empty for none.
    output
        Column to add, float64 of shape (n, number of pairs), in the unit of the coordinates.

    Raises
    ------
    ConfigError
        If a parameter is wrong.
    SchemaError
        On a batch without fitting columns.
    """

    def __init__(
        self,
        *,
        pairs: Sequence[Sequence[int]] | None = None,
        atoms: Sequence[int] | None = None,
        variable: str = "positions",
        box: str = "",
        output: str = "distances",
    ) -> None:
        if (pairs is None) == (atoms is None):
            raise ConfigError("Give either the parameter 'pairs' or the parameter 'atoms'.")
        self._named = "pairs" if atoms is None else "atoms"
        if atoms is None:
            self.pairs = as_indices(pairs, "pairs", width=2)
        else:
            chosen = as_indices(atoms, "atoms")
            if len(chosen) < 2:
                raise ConfigError("The parameter 'atoms' must name at least two atoms.")
            self.pairs = all_pairs(chosen)
        self.variable = variable
        self.box = box
        self.output = output_name(output)
        self._needed = int(self.pairs.max()) + 1

    def reads(self) -> tuple[str, ...]:
        """Return the columns that `process` reads."""
        return (self.variable, self.box) if self.box else (self.variable,)

    def column_units(self, inputs: Mapping[str, str]) -> Mapping[str, str]:
        """Return the unit of the coordinates."""
        return {self.output: inputs.get(self.variable, "")}

    def process(self, batch: FrameBatch, context: Context) -> FrameBatch:
        """Add the column."""
        positions = coordinates_of(
            batch, self.variable, "Distances", atoms=self._needed, parameter=self._named
        )
        values = pair_distances(positions, self.pairs, box_of(batch, self.box, "Distances"))
        check_finite(values, batch, "Distances", f"the column {self.variable!r}")
        return batch.with_columns({self.output: values})
