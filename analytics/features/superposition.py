"""Optimal superposition onto a reference, and the distance that remains (RMSD)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from analytics.features.inputs import (
    as_indices,
    as_weights,
    check_finite,
    coordinates_of,
    output_name,
)
from bridge.errors import ConfigError, SchemaError
from bridge.frames import FrameBatch
from bridge.pipeline import Context, FrameOperator

__all__ = ["RMSD", "Superpose", "Superposition", "rmsd", "superposition"]

Array = npt.NDArray[np.float64]
Reference = Sequence[Sequence[float]] | str


class Superposition(NamedTuple):
    """Rigid motions onto a reference: ``(points - centres[:, None]) @ rotations + target``.

    Attributes
    ----------
    rotations
        Shape (n, 3, 3), of determinant +1, to multiply row vectors from the right.
    centres
        Centre of each structure, shape (n, 3).
    target
        Centre of the reference, shape (3,).
    """

    rotations: Array
    centres: Array
    target: Array

    def apply(self, points: Any) -> Array:
        """Move points of shape (n, m, 3)."""
        moved = np.asarray(points, np.float64) - self.centres[:, None, :]
        return np.asarray(moved @ self.rotations + self.target)


def superposition(mobile: Any, reference: Any, weights: Array | None = None) -> Superposition:
    """Find the rigid motions that bring structures nearest to a reference.

    Parameters
    ----------
    mobile
        Real array of shape (n, points, 3).
    reference
        Shape (points, 3), in the same unit.
    weights
        Shape (points,), not negative; None for equal weights. They also weigh the centres.

    Notes
    -----
    The rotation is the leading eigenvector of a 4 × 4 matrix, as a quaternion (Horn, J. Opt. Soc.
    Am. A 4, 629 (1987), doi:10.1364/JOSAA.4.000629): it minimises what Kabsch (Acta Cryst. A 32,
    922 (1976), doi:10.1107/S0567739476001873) minimises, and is never a reflection. Where several
    rotations are equally good (points on a line), it is one of them.
    """
    points = np.asarray(mobile, np.float64)
    goal = np.asarray(reference, np.float64)
    share = np.full(len(goal), 1.0) if weights is None else weights
    share = share / share.sum()
    centres, target = share @ points, share @ goal
    s = (points - centres[:, None, :]).transpose(0, 2, 1) @ (share[:, None] * (goal - target))
    xx, xy, xz = s[:, 0, 0], s[:, 0, 1], s[:, 0, 2]
    yx, yy, yz = s[:, 1, 0], s[:, 1, 1], s[:, 1, 2]
    zx, zy, zz = s[:, 2, 0], s[:, 2, 1], s[:, 2, 2]
    # eigh reads the lower triangle alone.
    key = np.zeros((len(points), 4, 4))
    key[:, 0, 0] = xx + yy + zz
    key[:, 1, 0], key[:, 1, 1] = yz - zy, xx - yy - zz
    key[:, 2, 0], key[:, 2, 1], key[:, 2, 2] = zx - xz, xy + yx, yy - xx - zz
    key[:, 3, 0], key[:, 3, 1] = xy - yx, zx + xz
    key[:, 3, 2], key[:, 3, 3] = yz + zy, zz - xx - yy
    try:
        w, x, y, z = np.linalg.eigh(key)[1][:, :, 3].T
    except np.linalg.LinAlgError as error:
        raise SchemaError("Structures to superpose have values that are not finite.") from error
    rotations = np.empty((len(points), 3, 3))
    rotations[:, 0, 0], rotations[:, 0, 1] = w * w + x * x - y * y - z * z, 2 * (x * y + w * z)
    rotations[:, 0, 2], rotations[:, 1, 0] = 2 * (x * z - w * y), 2 * (x * y - w * z)
    rotations[:, 1, 1], rotations[:, 1, 2] = w * w - x * x + y * y - z * z, 2 * (y * z + w * x)
    rotations[:, 2, 0], rotations[:, 2, 1] = 2 * (x * z + w * y), 2 * (y * z - w * x)
    rotations[:, 2, 2] = w * w - x * x - y * y + z * z
    return Superposition(rotations, centres, target)


def rmsd(
    mobile: Any, reference: Any, weights: Array | None = None, *, superpose: bool = True
) -> Array:
    """Compute root mean squared deviations from a reference.

    Parameters
    ----------
    mobile, reference, weights
        See `superposition`.
    superpose
        Move each structure onto the reference first.

    Returns
    -------
    ndarray
        float64 of shape (n,), in the unit of the coordinates.

    Notes
    -----
    The deviations themselves are summed, rather than taken from the eigenvalue: that difference
    of large numbers would leave only half the digits of a small RMSD.
    """
    points = np.asarray(mobile, np.float64)
    goal = np.asarray(reference, np.float64)
    if superpose:
        points = superposition(points, goal, weights).apply(points)
    share = np.full(len(goal), 1.0) if weights is None else weights
    apart = points - goal
    squares = np.einsum("nai,nai->na", apart, apart) @ (share / share.sum())
    return np.asarray(np.sqrt(squares))


def _read_reference(reference: Reference) -> Array:
    """Take coordinates as given, or read them from a file."""
    if isinstance(reference, str):
        path = Path(reference)
        try:
            if path.suffix == ".npy":
                points = np.load(path, allow_pickle=False)
            else:
                points = np.loadtxt(path, ndmin=2)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"The parameter 'reference' names the file {reference!r}, which cannot be read: "
                f"{str(error).rstrip('.')}."
            ) from error
    else:
        try:
            points = np.asarray(reference, np.float64)
        except (TypeError, ValueError):
            points = np.empty(0)
    if points.ndim != 2 or points.shape[1] != 3 or not len(points):
        raise ConfigError(
            "The parameter 'reference' must be a list of coordinates [x, y, z], or the name of a "
            f"text or .npy file of three columns; its shape is {points.shape}."
        )
    if not np.isfinite(points).all():
        raise ConfigError("The parameter 'reference' has a value that is not finite.")
    return np.asarray(points, np.float64)


class _Fitting(FrameOperator):
    """What both operators share: the reference, and the points to fit to it."""

    def __init__(
        self,
        reference: Reference,
        atoms: Sequence[int] | None,
        weights: Sequence[float] | None,
        variable: str,
        output: str,
    ) -> None:
        self.reference = _read_reference(reference)
        self.atoms = None if atoms is None else as_indices(atoms, "atoms")
        count = len(self.reference)
        if self.atoms is not None and len(self.atoms) != count:
            raise ConfigError(
                f"The parameter 'reference' has {count} points and the parameter 'atoms' "
                f"{len(self.atoms)} indices; give one point for each, in the same order."
            )
        self.weights = as_weights(weights, "weights", count)
        self.variable = variable
        self.output = output_name(output)
        self._needed = 1 if self.atoms is None else int(self.atoms.max()) + 1

    def reads(self) -> tuple[str, ...]:
        """Return the columns that `process` reads."""
        return (self.variable,)

    def column_units(self, inputs: Mapping[str, str]) -> Mapping[str, str]:
        """Return the unit of the coordinates."""
        return {self.output: inputs.get(self.variable, "")}

    def _points(self, batch: FrameBatch) -> tuple[npt.NDArray[Any], Array]:
        """Return all coordinates, and those to fit as finite float64."""
        name = type(self).__name__
        everything = coordinates_of(batch, self.variable, name, atoms=self._needed)
        if self.atoms is not None:
            points = np.take(everything, self.atoms, axis=1)
        elif everything.shape[1] != len(self.reference):
            raise SchemaError(
                f"{name} was given {len(self.reference)} points in its parameter 'reference', but "
                f"the column {self.variable!r} of {batch.simulation!r} has "
                f"{everything.shape[1]} particles; name the particles to fit in 'atoms'."
            )
        else:
            points = everything
        source = f"the column {self.variable!r}"
        return everything, check_finite(points.astype(np.float64), batch, name, source)


class Superpose(_Fitting):
    """Add the coordinates of all particles, moved rigidly onto a reference.

    Parameters
    ----------
    reference
        Coordinates of the particles to fit, or the name of a text file of three columns or of a
        ``.npy`` file; in the unit of the coordinates.
    atoms
        Indices of the particles to fit, counted from 0, one for each point of the reference and
        in its order; None where the reference has all particles.
    weights
        One for each point of the reference; None for equal weights.
    variable
        Column of coordinates, shape (n, particles, 3), unwrapped.
    output
        Column to add, of the shape of `variable`; float32 stays float32, all else is float64.

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
        reference: Reference,
        atoms: Sequence[int] | None = None,
        weights: Sequence[float] | None = None,
        variable: str = "positions",
        output: str = "superposed",
    ) -> None:
        super().__init__(reference, atoms, weights, variable, output)

    def process(self, batch: FrameBatch, context: Context) -> FrameBatch:
        """Add the column."""
        everything, points = self._points(batch)
        moved = superposition(points, self.reference, self.weights).apply(everything)
        check_finite(moved, batch, "Superpose", f"the column {self.variable!r}")
        dtype = np.float32 if everything.dtype == np.float32 else np.float64
        return batch.with_columns({self.output: moved.astype(dtype, copy=False)})


class RMSD(_Fitting):
    """Add the root mean squared deviation from a reference.

    Parameters
    ----------
    reference, atoms, weights, variable
        As for `Superpose`.
    superpose
        Move each structure onto the reference first.
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
        reference: Reference,
        atoms: Sequence[int] | None = None,
        weights: Sequence[float] | None = None,
        superpose: bool = True,
        variable: str = "positions",
        output: str = "rmsd",
    ) -> None:
        super().__init__(reference, atoms, weights, variable, output)
        self.superpose = superpose

    def process(self, batch: FrameBatch, context: Context) -> FrameBatch:
        """Add the column."""
        _, points = self._points(batch)
        values = rmsd(points, self.reference, self.weights, superpose=self.superpose)
        return batch.with_columns({self.output: values})
