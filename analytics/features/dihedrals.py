"""Dihedral angles, and which atoms make the backbone's."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

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
from bridge.errors import ConfigError, SchemaError
from bridge.frames import FrameBatch
from bridge.pipeline import Context, FrameOperator
from bridge.schema import Topology

__all__ = ["Backbone", "Dihedrals", "backbone", "dihedral_angles", "dihedral_sincos"]

Array = npt.NDArray[np.float64]


def _projections(positions: Any, atoms: Any, box: Array | None) -> tuple[Array, Array]:
    """Return x and y of which the dihedral is atan2(y, x), each of shape (n, k)."""
    groups = np.asarray(atoms, np.intp)
    n, k = len(positions), len(groups)
    chosen = np.take(positions, groups.T.reshape(-1), axis=1).astype(np.float64)
    chosen = chosen.reshape(n, 4, k, 3)
    bonds = chosen[:, 1:] - chosen[:, :-1]
    if box is not None:
        bonds = minimum_image(bonds.reshape(n, 3 * k, 3), box).reshape(n, 3, k, 3)
    # Components first: cross products of whole planes cost a third of numpy.cross.
    (ax, ay, az), (bx, by, bz), (cx, cy, cz) = bonds.transpose(1, 3, 0, 2)
    mx, my, mz = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
    nx, ny, nz = by * cz - bz * cy, bz * cx - bx * cz, bx * cy - by * cx
    x = mx * nx + my * ny + mz * nz
    y = np.sqrt(bx * bx + by * by + bz * bz) * (ax * nx + ay * ny + az * nz)
    return x, y


def dihedral_angles(positions: Any, atoms: Any, box: Array | None = None) -> Array:
    """Compute dihedral angles with the sign of IUPAC: 0 for cis, positive for clockwise.

    Parameters
    ----------
    positions
        Real array of shape (n, particles, 3), in any unit.
    atoms
        Integers of shape (k, 4).
    box
        Box vectors as rows, shape (n, 3, 3), in the unit of the positions: each bond is then
        taken as its minimum image. None for a system that is not periodic.

    Returns
    -------
    ndarray
        float64 of shape (n, k), in radians, greater than -π and at most π. Where three atoms lie
        on a line the angle is not defined, and 0 is given.

    Notes
    -----
    The form with atan2 keeps its precision at 0 and π; Blondel & Karplus, J. Comput. Chem. 17,
    1132 (1996), doi:10.1002/(SICI)1096-987X(19960715)17:9<1132::AID-JCC5>3.0.CO;2-T.
    """
    x, y = _projections(positions, atoms, box)
    # Adding zero makes -0.0 into 0.0, which atan2 would take for the other side of the cut.
    angles = np.arctan2(y + 0.0, x + 0.0)
    angles[angles <= -np.pi] = np.pi
    return angles


def dihedral_sincos(positions: Any, atoms: Any, box: Array | None = None) -> Array:
    """Compute the cosines and sines of dihedral angles, which have no jump at ±π.

    Parameters are those of `dihedral_angles`.

    Returns
    -------
    ndarray
        float64 of shape (n, 2 k): first all cosines, then all sines.
    """
    x, y = _projections(positions, atoms, box)
    norm = np.hypot(x, y)
    line = norm == 0.0
    if line.any():
        x, norm = x + line, norm + line
    return np.concatenate([x / norm, y / norm], axis=1)


class Backbone(NamedTuple):
    """Atoms of the backbone dihedrals, in the order of the residues.

    Attributes
    ----------
    phi, psi
        Integers of shape (number of angles, 4): C N CA C and N CA C N.
    """

    phi: npt.NDArray[np.intp]
    psi: npt.NDArray[np.intp]


def backbone(topology: Topology) -> Backbone:
    """Find the atoms of the backbone dihedrals φ and ψ.

    A residue is a run of atoms with one residue number and name. Two neighbouring residues are
    linked where the topology has a bond from C to N; if it has no bonds at all, where their
    numbers follow each other.

    Parameters
    ----------
    topology
        With names, residue names and residue numbers of all particles.

    Raises
    ------
    SchemaError
        If the topology lacks those.
    """
    n = len(topology.names)
    if not n or len(topology.residue_ids) != n or len(topology.residues) not in (0, n):
        raise SchemaError(
            "Backbone dihedrals need the name and residue number of every particle; the topology "
            f"has {n} names, {len(topology.residues)} residue names and "
            f"{len(topology.residue_ids)} residue numbers."
        )
    labels = topology.residues or ("",) * n
    residues: list[dict[str, int]] = []
    numbers: list[int] = []
    before: tuple[int, str] | None = None
    for index, label in enumerate(zip(topology.residue_ids, labels, strict=True)):
        if label != before:
            residues.append({})
            numbers.append(label[0])
            before = label
        residues[-1].setdefault(topology.names[index], index)
    bonded = {frozenset(pair) for pair in topology.bonds}
    phi, psi = [], []
    for i, (left, right) in enumerate(itertools.pairwise(residues)):
        if "C" not in left or "N" not in right:
            continue
        if bonded:
            linked = frozenset((left["C"], right["N"])) in bonded
        else:
            linked = numbers[i + 1] == numbers[i] + 1
        if not linked:
            continue
        if "CA" in right and "C" in right:
            phi.append([left["C"], right["N"], right["CA"], right["C"]])
        if "CA" in left and "N" in left:
            psi.append([left["N"], left["CA"], left["C"], right["N"]])
    return Backbone(np.array(phi, np.intp).reshape(-1, 4), np.array(psi, np.intp).reshape(-1, 4))


class Dihedrals(FrameOperator):
    """Add dihedral angles.

    Parameters
    ----------
    atoms
        Groups of four atom indices, counted from 0; `backbone` finds those of proteins.
    variable
        Column of coordinates, shape (n, particles, 3).
    box
        Column of box vectors, shape (n, 3, 3) (or edge lengths, (n, 3)), in the same unit, to
        take bonds as minimum images; empty for none.
    output
        Column to add.
    encoding
        ``"radians"`` gives float64 of shape (n, k), greater than -π and at most π; ``"sincos"``
        gives (n, 2 k), first all cosines, then all sines, as linear methods need it.

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
        atoms: Sequence[Sequence[int]],
        variable: str = "positions",
        box: str = "",
        output: str = "dihedrals",
        encoding: Literal["radians", "sincos"] = "radians",
    ) -> None:
        self.atoms = as_indices(atoms, "atoms", width=4)
        self.variable = variable
        self.box = box
        self.output = output_name(output)
        if encoding not in ("radians", "sincos"):
            raise ConfigError(
                f"The parameter 'encoding' is {encoding!r}; it must be 'radians' or 'sincos'."
            )
        self.encoding = encoding
        self._needed = int(self.atoms.max()) + 1

    def reads(self) -> tuple[str, ...]:
        """Return the columns that `process` reads."""
        return (self.variable, self.box) if self.box else (self.variable,)

    def column_units(self, inputs: Mapping[str, str]) -> Mapping[str, str]:
        """Return radians; sines and cosines have no unit."""
        return {self.output: "rad"} if self.encoding == "radians" else {}

    def process(self, batch: FrameBatch, context: Context) -> FrameBatch:
        """Add the column."""
        positions = coordinates_of(batch, self.variable, "Dihedrals", atoms=self._needed)
        box = box_of(batch, self.box, "Dihedrals")
        kernel = dihedral_angles if self.encoding == "radians" else dihedral_sincos
        values = kernel(positions, self.atoms, box)
        check_finite(values, batch, "Dihedrals", f"the column {self.variable!r}")
        return batch.with_columns({self.output: values})
