"""Radial distribution functions, from exact counts of pairs in shells."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from analytics.features.inputs import as_indices, box_of, coordinates_of, output_name
from bridge.errors import ConfigError, MissingExtra, SchemaError
from bridge.frames import FrameBatch
from bridge.pipeline import BlockOperator, Context

__all__ = ["RadialDistribution"]

Array = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

# Particles of which the neighbours are counted at a time, so that memory stays bounded.
_AT_ONCE = 1 << 17


class RadialDistribution(BlockOperator):
    """Add the radial distribution function g(r) of each frame, and the counts behind it.

    ``g[k] = ordered[k] * V / (pairs * shell[k])``: the ordered pairs at distances in the shell
    ``(r[k], r[k + 1]]``, over those of an ideal gas of the same density. `pairs` is N (N - 1) for
    one group of N particles, and N times M less the particles that both groups share for two; V
    the volume of the frame's box; ``shell[k] = 4/3 π (r[k + 1]³ - r[k]³)``. Two particles in the
    very same place are not counted.

    Distances are to the nearest periodic image, in rectangular boxes. Rows of large frames may be
    shared out among workers, each of which is given the whole frame: counts are integers, and come
    to the same in any order.

    Parameters
    ----------
    cutoff
        End of the last shell; at most half the shortest edge of the box.
    bins
        Number of shells.
    start
        Begin of the first shell.
    atoms
        Indices of the particles, counted from 0; None for all.
    others
        Indices of the second group; None for the same as `atoms`.
    variable
        Column of coordinates, shape (n, particles, 3), wrapped or not.
    box
        Column of box vectors, shape (n, 3, 3) (or edge lengths, (n, 3)), in the same unit.
    output
        Columns to add: ``<output>``, float64 of shape (n, bins), and ``<output>_counts``, int64
        of shape (n, bins): pairs in each shell. In one group, each pair counts once.

    Attributes
    ----------
    edges
        Borders of the shells, float64 of shape (bins + 1,).

    Raises
    ------
    ConfigError
        If a parameter is wrong.
    MissingExtra
        If SciPy is not installed.
    SchemaError
        On a batch without fitting columns, with a coordinate that is not finite, or a box that
        is tilted or too small.
    """

    halo = True

    def __init__(
        self,
        *,
        cutoff: float,
        bins: int = 100,
        start: float = 0.0,
        atoms: Sequence[int] | None = None,
        others: Sequence[int] | None = None,
        variable: str = "positions",
        box: str = "box",
        output: str = "rdf",
    ) -> None:
        if isinstance(bins, bool) or not isinstance(bins, int) or bins < 1:
            raise ConfigError(f"The parameter 'bins' is {bins!r}; it must be at least 1.")
        if not (0.0 <= start < cutoff < math.inf):
            raise ConfigError(
                f"The parameters 'start' ({start}) and 'cutoff' ({cutoff}) must be distances, the "
                "first less than the second."
            )
        if not box:
            raise ConfigError("The parameter 'box' must name the column of box vectors.")
        self.edges = np.linspace(start, cutoff, bins + 1)
        self.atoms = None if atoms is None else as_indices(atoms, "atoms")
        self.others = None if others is None else as_indices(others, "others")
        self.variable = variable
        self.box = box
        self.output = output_name(output)
        chosen = [a.max() for a in (self.atoms, self.others) if a is not None]
        self._needed = int(max(chosen, default=0)) + 1
        self._counts = f"{self.output}_counts"

    def reads(self) -> tuple[str, ...]:
        """Return the columns that `process` reads."""
        return (self.variable, self.box)

    def count_rows(self, batch: FrameBatch) -> int:
        """Return the number of particles."""
        return int(self._positions(batch).shape[1])

    def map_rows(
        self, batch: FrameBatch, start: int, stop: int, context: Context
    ) -> Mapping[str, npt.NDArray[Any]]:
        """Count the ordered pairs of which the first particle is at hand."""
        positions, boxes = self._positions(batch), self._boxes(batch)
        counts = np.zeros((len(batch), len(self.edges) - 1), np.int64)
        firsts = np.arange(start, stop)
        if self.atoms is not None:
            firsts = self.atoms[(self.atoms >= start) & (self.atoms < stop)]
        for i in range(len(batch)):
            lengths = self._edges_of(boxes[i], batch, i)
            wrapped = _wrap(positions[i], lengths)
            if wrapped is None:
                raise SchemaError(
                    f"RadialDistribution found a coordinate that is not finite in the column "
                    f"{self.variable!r} of {batch.simulation!r} at offset {batch.offsets[i]}."
                )
            counts[i] = self._count(wrapped, lengths, firsts)
        particles = np.full(len(batch), positions.shape[1], np.int64)
        return {self._counts: counts, f"{self.output}_particles": particles}

    def combine(
        self, parts: Sequence[Mapping[str, npt.NDArray[Any]]], batch: FrameBatch
    ) -> FrameBatch:
        """Add up the counts of all particles, and normalise."""
        ordered = np.array(parts[0][self._counts])
        for part in parts[1:]:
            ordered += part[self._counts]
        volumes = np.abs(np.linalg.det(self._boxes(batch)))
        shells = 4.0 / 3.0 * math.pi * np.diff(self.edges**3)
        pairs = self._pairs(parts[0][f"{self.output}_particles"])
        g = ordered * (volumes / np.maximum(pairs, 1))[:, None] / shells
        same = self.others is None
        return batch.with_columns({self.output: g, self._counts: ordered // 2 if same else ordered})

    # ------------------------------------------------------------------ parts

    def _positions(self, batch: FrameBatch) -> npt.NDArray[Any]:
        return coordinates_of(batch, self.variable, "RadialDistribution", atoms=self._needed)

    def _boxes(self, batch: FrameBatch) -> Array:
        boxes = box_of(batch, self.box, "RadialDistribution")
        assert boxes is not None
        return boxes

    def _edges_of(self, box: Array, batch: FrameBatch, row: int) -> Array:
        lengths = np.abs(np.diagonal(box))
        if np.count_nonzero(box) > 3 or not lengths.all():
            raise SchemaError(
                f"RadialDistribution works in rectangular boxes; that of {batch.simulation!r} at "
                f"offset {batch.offsets[row]} is tilted: {box.tolist()}."
            )
        if self.edges[-1] > lengths.min() / 2:
            raise SchemaError(
                f"RadialDistribution was given the cutoff {self.edges[-1]:g}, which is more than "
                f"half the shortest edge of the box ({lengths.min():g}) of {batch.simulation!r} "
                f"at offset {batch.offsets[row]}; choose a shorter one."
            )
        return lengths

    def _count(self, wrapped: Array, lengths: Array, firsts: npt.NDArray[np.intp]) -> Integers:
        try:
            from scipy.spatial import cKDTree
        except ImportError as error:
            raise MissingExtra("scipy", "analysis", "radial distributions") from error
        seconds = self.atoms if self.others is None else self.others
        points = wrapped if seconds is None else wrapped[seconds]
        whole = cKDTree(points, boxsize=lengths, leafsize=8)
        below = np.zeros(len(self.edges), np.int64)
        # Neighbours in the box make small trees, whose branches are ruled out early.
        cells = np.ceil(lengths / max(self.edges[-1], lengths.max() / 64))
        near = np.floor(wrapped[firsts] / lengths * cells)
        order = np.lexsort((near[:, 2], near[:, 1], near[:, 0]))
        for begin in range(0, len(firsts), _AT_ONCE):
            part = wrapped[firsts[order[begin : begin + _AT_ONCE]]]
            tree = cKDTree(part, boxsize=lengths, leafsize=8)
            below += tree.count_neighbors(whole, self.edges)
        # A particle is its own neighbour at every distance, which the differences take out.
        return np.diff(below)

    def _pairs(self, particles: Integers) -> Integers:
        n = particles if self.atoms is None else np.full(len(particles), len(self.atoms))
        if self.others is None:
            return np.asarray(n * (n - 1))
        both = len(self.others)
        if self.atoms is not None:
            both = len(np.intersect1d(self.atoms, self.others))
        return np.asarray(n * len(self.others) - both)


def _wrap(positions: npt.NDArray[Any], lengths: Array) -> Array | None:
    """Return positions in ``[0, lengths)``, None where one is not finite."""
    places = positions.astype(np.float64)
    places -= np.floor(places / lengths) * lengths
    if not np.isfinite(places).all():
        return None
    # A small negative coordinate may end on the border, which is the other one.
    places[places >= lengths] = 0.0
    np.maximum(places, 0.0, out=places)
    return places
