"""Contact maps: which particles of a list are near each other."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from analytics.features.distances import all_pairs, pair_distances
from analytics.features.inputs import (
    as_indices,
    box_of,
    check_finite,
    coordinates_of,
    output_name,
)
from bridge.errors import ConfigError
from bridge.frames import FrameBatch
from bridge.pipeline import Context, FrameOperator

__all__ = ["ContactMap"]


class ContactMap(FrameOperator):
    r"""Add which pairs of a list of particles are nearer than a cutoff.

    Parameters
    ----------
    atoms
        Indices of the particles, counted from 0, one a residue for example.
    cutoff
        Distance below which a pair is in contact, in the unit of the coordinates.
    width
        0 for yes or no. Else a contact is made gradually, and how near a pair is can be told near
        the cutoff: :math:`1 / (1 + e^{(d - d_0) / w})`, with the cutoff :math:`d_0` and this
        width, in the unit of the coordinates.
    min_separation
        Leave out pairs that are fewer places than this apart in the list.
    variable
        Column of coordinates, shape (n, particles, 3).
    box
        Column of box vectors, shape (n, 3, 3) (or edge lengths, (n, 3)), in the same unit, for
        minimum images; empty for none.
    output
        Column to add, boolean (with a `width` float32) of shape (n, number of pairs): the upper
        triangle of the map, row by row. `pairs` names the particles of each place.

    Attributes
    ----------
    pairs
        Integers of shape (number of pairs, 2).

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
        atoms: Sequence[int],
        cutoff: float,
        width: float = 0.0,
        min_separation: int = 1,
        variable: str = "positions",
        box: str = "",
        output: str = "contacts",
    ) -> None:
        chosen = as_indices(atoms, "atoms")
        if not 1 <= min_separation < len(chosen):
            raise ConfigError(
                f"The parameter 'min_separation' is {min_separation}; it must be at least 1 and "
                f"less than the number of atoms, {len(chosen)}."
            )
        if not (math.isfinite(cutoff) and cutoff > 0):
            raise ConfigError(
                f"The parameter 'cutoff' is {cutoff}; it must be a distance greater than 0."
            )
        if not (math.isfinite(width) and width >= 0):
            raise ConfigError(
                f"The parameter 'width' is {width}; it must be a distance, or 0 for none."
            )
        self.pairs = all_pairs(chosen, min_separation=min_separation)
        self.cutoff, self.width = float(cutoff), float(width)
        self.variable = variable
        self.box = box
        self.output = output_name(output)
        self._needed = int(self.pairs.max()) + 1

    def reads(self) -> tuple[str, ...]:
        """Return the columns that `process` reads."""
        return (self.variable, self.box) if self.box else (self.variable,)

    def process(self, batch: FrameBatch, context: Context) -> FrameBatch:
        """Add the column."""
        positions = coordinates_of(batch, self.variable, "ContactMap", atoms=self._needed)
        values = pair_distances(positions, self.pairs, box_of(batch, self.box, "ContactMap"))
        check_finite(values, batch, "ContactMap", f"the column {self.variable!r}")
        if not self.width:
            return batch.with_columns({self.output: values < self.cutoff})
        # As a tangent, which does not overflow.
        gradual = 0.5 - 0.5 * np.tanh((values - self.cutoff) / (2.0 * self.width))
        return batch.with_columns({self.output: gradual.astype(np.float32)})
