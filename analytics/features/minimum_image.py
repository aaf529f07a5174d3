"""The shortest of all periodic images of a vector, in boxes of any shape."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt

__all__ = ["minimum_image", "reduce_box"]

Array = npt.NDArray[np.float64]

_NEIGHBOURS = np.array(
    [shift for shift in itertools.product((-1.0, 0.0, 1.0), repeat=3) if any(shift)]
)
_IN_PLANE = np.array(list(itertools.product((-1.0, 0.0, 1.0), repeat=2)))
# A step must shorten a vector by more than rounding does, or two equal choices alternate forever.
_SHORTER = 1.0 - 1e-12


def reduce_box(box: Array) -> Array:
    """Find the shortest box vectors that span the same lattices (Minkowski-reduced).

    Parameters
    ----------
    box
        Box vectors as rows, shape (n, 3, 3).

    Returns
    -------
    ndarray
        float64 of shape (n, 3, 3); rows from the shortest to the longest.

    Notes
    -----
    The greedy algorithm of Nguyen & Stehlé, ACM Trans. Algorithms 5, 46 (2009),
    doi:10.1145/1597036.1597050, for all frames at once.
    """
    cell = np.array(box, np.float64)
    busy = True
    while busy:
        order = np.argsort(np.einsum("nij,nij->ni", cell, cell), axis=1, kind="stable")
        cell = np.take_along_axis(cell, order[:, :, None], axis=1)
        a, b, c = cell[:, 0], cell[:, 1], cell[:, 2]
        aa = np.einsum("ni,ni->n", a, a)
        ab = np.einsum("ni,ni->n", a, b)
        shorter = b - np.rint(ab / aa)[:, None] * a
        b2, s2 = np.einsum("ni,ni->n", b, b), np.einsum("ni,ni->n", shorter, shorter)
        change_b = s2 < b2 * _SHORTER
        cell[change_b, 1] = shorter[change_b]
        b = cell[:, 1]
        bb, ab = np.einsum("ni,ni->n", b, b), np.einsum("ni,ni->n", a, b)
        ac, bc = np.einsum("ni,ni->n", a, c), np.einsum("ni,ni->n", b, c)
        # The point of the plane of a and b below c, then the lattice points around it.
        area = aa * bb - ab * ab
        near = np.rint(np.stack([(ac * bb - bc * ab) / area, (bc * aa - ac * ab) / area], axis=1))
        steps = near[:, None, :] + _IN_PLANE
        tries = c[:, None, :] - steps @ cell[:, :2]
        lengths = np.einsum("nsi,nsi->ns", tries, tries)
        best = np.argmin(lengths, axis=1)
        row = np.arange(len(cell))
        change_c = lengths[row, best] < np.einsum("ni,ni->n", c, c) * _SHORTER
        cell[change_c, 2] = tries[row, best][change_c]
        busy = bool(change_b.any() or change_c.any())
    order = np.argsort(np.einsum("nij,nij->ni", cell, cell), axis=1, kind="stable")
    return np.take_along_axis(cell, order[:, :, None], axis=1)


def minimum_image(vectors: Array, box: Array) -> Array:
    """Return the shortest periodic image of each vector, exact for boxes however tilted.

    Parameters
    ----------
    vectors
        Shape (n, m, 3).
    box
        Box vectors as rows, shape (n, 3, 3), each with a volume, in the same unit.

    Returns
    -------
    ndarray
        float64 of shape (n, m, 3). Of images of equal length, any one.
    """
    if not len(vectors):
        return np.array(vectors, np.float64)
    if len(box) > 1 and (box == box[0]).all():
        box = box[:1]
    edges = np.einsum("nii->ni", box)
    if np.count_nonzero(box) == np.count_nonzero(edges):
        lengths = edges[:, None, :]
        return np.asarray(vectors - lengths * np.rint(vectors / lengths), np.float64)
    cell = reduce_box(box)
    near = vectors - np.rint(vectors @ np.linalg.inv(cell)) @ cell
    # Nothing is nearer to the origin than half the shortest lattice vector allows.
    limit = np.einsum("ni,ni->n", cell[:, 0], cell[:, 0]) / 4
    squares = np.einsum("nmi,nmi->nm", near, near)
    far = np.nonzero(squares > limit[:, None])
    if len(far[0]):
        # In a reduced cell the nearest image is at most one cell away on each axis.
        start, shortest = near[far], squares[far]
        best = start.copy()
        shifts = _NEIGHBOURS @ cell
        for i in range(len(_NEIGHBOURS)):
            shift = shifts[0, i] if len(cell) == 1 else shifts[far[0], i]
            image = start + shift
            length = np.einsum("qi,qi->q", image, image)
            nearer = length < shortest
            best[nearer], shortest[nearer] = image[nearer], length[nearer]
        near[far] = best
    return np.asarray(near, np.float64)
