"""Where particles are in the box: a histogram of their positions on a periodic grid."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from analytics.features.inputs import box_of, coordinates_of, output_name
from bridge.errors import ConfigError, SchemaError
from bridge.frames import Block, FrameBatch
from bridge.pipeline import BlockOperator, Context

__all__ = ["DensityMap", "count_positions"]

Array = npt.NDArray[np.float64]

# Particles at a time: 2 MB of coordinates, which stay in the cache.
_AT_ONCE = 1 << 16
_MOST_CELLS = 1 << 27


def count_positions(
    positions: npt.NDArray[Any], box: Array, bins: tuple[int, int, int]
) -> npt.NDArray[np.int64]:
    """Count the particles in each cell of a grid that divides the box along its vectors.

    Parameters
    ----------
    positions
        Real numbers of shape (particles, 3), wrapped or not.
    box
        Box vectors as rows, shape (3, 3), rectangular or triclinic, in the same unit.
    bins
        Cells along each vector.

    Returns
    -------
    ndarray
        int64 of shape `bins`; their sum is the number of particles.

    Raises
    ------
    SchemaError
        If a coordinate is not finite, or too far away to tell the cell.
    """
    total = np.zeros(math.prod(bins), np.int64)
    # Cells along each vector, for a position: rows of the inverse, scaled.
    scale = np.linalg.inv(box) * np.array(bins)
    rectangular = np.count_nonzero(box) == np.count_nonzero(np.diagonal(box))
    sizes = np.array(bins)
    for begin in range(0, len(positions), _AT_ONCE):
        part = positions[begin : begin + _AT_ONCE].astype(np.float64)
        places = part * np.diagonal(scale) if rectangular else np.einsum("ni,ij->nj", part, scale)
        if not (np.abs(places) < 2.0**52).all():
            raise SchemaError("A coordinate is not finite, or very far from the box.")
        np.floor(places, out=places)
        # A floored quotient, since the remainder of floating-point numbers is ten times slower.
        places -= np.floor(places / sizes) * sizes
        cells = (places[:, 0] * bins[1] + places[:, 1]) * bins[2] + places[:, 2]
        total += np.bincount(cells.astype(np.int64), minlength=len(total))
    return total.reshape(bins)


class DensityMap(BlockOperator):
    """Add the number, or number density, of particles in each cell of a grid over the box.

    The grid divides the box along its vectors, so that cells of a triclinic box are tilted, too;
    positions are wrapped. Rows of large frames may be shared out among workers, each of which reads
    the blocks of its own ranks, in whatever order their particles are: counts are integers, and
    come to the same in any order.

    Parameters
    ----------
    bins
        Cells along each box vector: three numbers, or one for all.
    variable
        Column of coordinates, shape (n, particles, 3).
    box
        Column of box vectors, shape (n, 3, 3) (or edge lengths, (n, 3)), in the same unit.
    quantity
        ``counts``: int64. ``density``: float64, counts divided by the volume of a cell in the
        frame's own box.
    output
        Column to add, of shape (n, *bins).

    Raises
    ------
    ConfigError
        If a parameter is wrong.
    SchemaError
        On a batch without fitting columns, or with a coordinate that is not finite.
    """

    unordered = True

    def __init__(
        self,
        *,
        bins: int | Sequence[int],
        variable: str = "positions",
        box: str = "box",
        quantity: Literal["counts", "density"] = "counts",
        output: str = "density",
    ) -> None:
        wanted = (bins,) * 3 if isinstance(bins, int) else tuple(bins)
        if (
            len(wanted) != 3
            or not all(isinstance(b, int) and b > 0 for b in wanted)
            or math.prod(wanted) > _MOST_CELLS
        ):
            raise ConfigError(
                f"The parameter 'bins' is {bins!r}; it must be one or three whole numbers greater "
                f"than 0, with at most {_MOST_CELLS:,} cells in all."
            )
        if quantity not in ("counts", "density"):
            raise ConfigError(
                f"The parameter 'quantity' is {quantity!r}; it must be 'counts' or 'density'."
            )
        if not box:
            raise ConfigError("The parameter 'box' must name the column of box vectors.")
        self.bins = (wanted[0], wanted[1], wanted[2])
        self.variable = variable
        self.box = box
        self.quantity = quantity
        self.output = output_name(output)

    def reads(self) -> tuple[str, ...]:
        """Return the columns that `process` reads."""
        return (self.variable, self.box)

    def column_units(self, inputs: Mapping[str, str]) -> Mapping[str, str]:
        """Return particles in a volume, in the unit of the coordinates; counts have no unit."""
        unit = inputs.get(self.variable, "")
        return {self.output: f"{unit}⁻³"} if unit and self.quantity == "density" else {}

    def count_rows(self, batch: FrameBatch) -> int:
        """Return the number of particles."""
        return int(coordinates_of(batch, self.variable, "DensityMap").shape[1])

    def map_rows(
        self, batch: FrameBatch, start: int, stop: int, context: Context
    ) -> Mapping[str, npt.NDArray[Any]]:
        """Count the particles at hand."""
        positions = coordinates_of(batch, self.variable, "DensityMap")
        boxes = self._boxes(batch)
        counts = np.empty((len(batch), *self.bins), np.int64)
        for i in range(len(batch)):
            counts[i] = self._count(positions[i], boxes[i], batch, i)
        return {self.output: counts}

    def map_blocks(
        self, frame: FrameBatch, blocks: Sequence[Block], context: Context
    ) -> Mapping[str, npt.NDArray[Any]]:
        """Count the particles at hand, block by block, as their ranks wrote them."""
        box = self._boxes(frame)[0]
        counts = np.zeros(self.bins, np.int64)
        for block in blocks:
            found = {name: value[None] for name, value in block.values.items()}
            batch = frame.with_columns(found)
            positions = coordinates_of(batch, self.variable, "DensityMap")
            counts += self._count(positions[0], box, frame, 0)
        return {self.output: counts[None]}

    def _boxes(self, batch: FrameBatch) -> Array:
        boxes = box_of(batch, self.box, "DensityMap")
        assert boxes is not None
        return boxes

    def _count(
        self, positions: npt.NDArray[Any], box: Array, batch: FrameBatch, row: int
    ) -> npt.NDArray[np.int64]:
        try:
            return count_positions(positions, box, self.bins)
        except SchemaError as error:
            raise SchemaError(
                f"DensityMap at offset {batch.offsets[row]} of {batch.simulation!r}: {error}"
            ) from error

    def combine(
        self, parts: Sequence[Mapping[str, npt.NDArray[Any]]], batch: FrameBatch
    ) -> FrameBatch:
        """Add up the counts of all particles."""
        counts = np.array(parts[0][self.output])
        for part in parts[1:]:
            counts += part[self.output]
        if self.quantity == "counts":
            return batch.with_columns({self.output: counts})
        volumes = np.abs(np.linalg.det(self._boxes(batch))) / math.prod(self.bins)
        return batch.with_columns({self.output: counts / volumes[:, None, None, None]})
