"""The radius of gyration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from analytics.features.inputs import (
    as_indices,
    as_weights,
    check_finite,
    coordinates_of,
    output_name,
)
from bridge.errors import SchemaError
from bridge.frames import FrameBatch
from bridge.pipeline import Context, FrameOperator

__all__ = ["RadiusOfGyration", "radius_of_gyration"]

Array = npt.NDArray[np.float64]


def radius_of_gyration(positions: Any, masses: Array | None = None) -> Array:
    """Compute the root of the mass-weighted mean squared distance from the centre of mass.

    Parameters
    ----------
    positions
        Real array of shape (n, particles, 3), unwrapped.
    masses
        Shape (particles,), in any unit; None for equal masses.

    Returns
    -------
    ndarray
        float64 of shape (n,), in the unit of the positions.
    """
    points = np.asarray(positions, np.float64)
    share = np.full(points.shape[1], 1.0) if masses is None else masses
    share = share / share.sum()
    away = points - (share @ points)[:, None, :]
    return np.asarray(np.sqrt(np.einsum("nai,nai->na", away, away) @ share))


class RadiusOfGyration(FrameOperator):
    """Add the radius of gyration of all particles, or of some.

    Parameters
    ----------
    masses
        Mass of each of the atoms, in any unit; None for equal masses.
    atoms
        Indices of the particles, counted from 0; None for all.
    variable
        Column of coordinates, shape (n, particles, 3). A molecule must be in one piece: there is
        no minimum image.
    output
        Column to add, float64 of shape (n,), in the unit of the coordinates.

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
        masses: Sequence[float] | None = None,
        atoms: Sequence[int] | None = None,
        variable: str = "positions",
        output: str = "radius_of_gyration",
    ) -> None:
        self.atoms = None if atoms is None else as_indices(atoms, "atoms")
        count = None if self.atoms is None else len(self.atoms)
        self.masses = as_weights(masses, "masses", count)
        self.variable = variable
        self.output = output_name(output)
        self._needed = 1 if self.atoms is None else int(self.atoms.max()) + 1

    def reads(self) -> tuple[str, ...]:
        """Return the columns that `process` reads."""
        return (self.variable,)

    def column_units(self, inputs: Mapping[str, str]) -> Mapping[str, str]:
        """Return the unit of the coordinates."""
        return {self.output: inputs.get(self.variable, "")}

    def process(self, batch: FrameBatch, context: Context) -> FrameBatch:
        """Add the column."""
        points = coordinates_of(batch, self.variable, "RadiusOfGyration", atoms=self._needed)
        if self.atoms is not None:
            points = np.take(points, self.atoms, axis=1)
        elif self.masses is not None and len(self.masses) != points.shape[1]:
            raise SchemaError(
                f"RadiusOfGyration was given {len(self.masses)} masses in its parameter 'masses', "
                f"but the column {self.variable!r} of {batch.simulation!r} has "
                f"{points.shape[1]} particles."
            )
        values = radius_of_gyration(points, self.masses)
        check_finite(values, batch, "RadiusOfGyration", f"the column {self.variable!r}")
        return batch.with_columns({self.output: values})
