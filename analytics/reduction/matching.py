"""Which new component continues which old one: the assignment of greatest total overlap."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["assign", "continue_components", "point_forward"]

Array = npt.NDArray[np.float64]


def assign(score: Array) -> npt.NDArray[np.intp]:
    """Assign each row a column of its own, so that the sum of scores is the greatest.

    Parameters
    ----------
    score
        Shape (d, d).

    Returns
    -------
    ndarray
        The column of each row, shape (d,).

    Notes
    -----
    The Hungarian method with potentials: Kuhn, Nav. Res. Logist. Q. 2, 83 (1955),
    doi:10.1002/nav.3800020109.
    """
    best: npt.NDArray[np.intp] = np.argmax(score, axis=1)
    if len(set(best.tolist())) == len(score):
        # No sum can be greater than that of the rows' own maxima: by far the usual case.
        return best
    d = len(score)
    cost = np.zeros((d + 1, d + 1))
    cost[1:, 1:] = -score
    u, v = np.zeros(d + 1), np.zeros(d + 1)
    # owner[j] is the row that holds column j; column 0 holds the row to be placed.
    owner = np.zeros(d + 1, np.intp)
    for row in range(1, d + 1):
        owner[0] = row
        at = 0
        slack = np.full(d + 1, np.inf)
        way = np.zeros(d + 1, np.intp)
        used = np.zeros(d + 1, np.bool_)
        while owner[at]:
            used[at] = True
            reduced = cost[owner[at]] - u[owner[at]] - v
            nearer = ~used & (reduced < slack)
            nearer[0] = False
            slack[nearer], way[nearer] = reduced[nearer], at
            masked = np.where(used, np.inf, slack)
            masked[0] = np.inf
            following = int(np.argmin(masked))
            delta = masked[following]
            u[owner[used]] += delta
            v[used] -= delta
            slack[~used] -= delta
            at = following
        while at:
            owner[at] = owner[way[at]]
            at = int(way[at])
    columns = np.empty(d, np.intp)
    columns[owner[1:] - 1] = np.arange(d)
    return columns


def point_forward(vectors: Array, scale: Array) -> Array:
    """Return signs with which the greatest entry of each column, in units of `scale`, is positive.

    Parameters
    ----------
    vectors
        Columns, shape (k, d).
    scale
        Spread of each feature, shape (k,).
    """
    entries = vectors * scale[:, None]
    greatest = np.argmax(np.abs(entries), axis=0)
    signs = np.sign(entries[greatest, np.arange(vectors.shape[1])])
    return np.asarray(np.where(signs == 0, 1.0, signs))


def continue_components(
    old: Array, new: Array, covariance: Array
) -> tuple[npt.NDArray[np.intp], Array]:
    """Find the order and the signs with which new components go on where the old ones were.

    Parameters
    ----------
    old, new
        Components as columns, shape (k, d); a column of zeros stands for none.
    covariance
        Covariance of the features at present, shape (k, k). The overlap of two components is the
        correlation of the frames' projections on them.

    Returns
    -------
    order
        The column of `new` that takes each place, shape (d,).
    signs
        +1 or −1 for each place, shape (d,).
    """
    between = old.T @ covariance @ new
    size_old = np.sqrt(np.einsum("kd,kd->d", old, covariance @ old).clip(min=0))
    size_new = np.sqrt(np.einsum("kd,kd->d", new, covariance @ new).clip(min=0))
    size = np.outer(size_old, size_new)
    overlap = np.divide(between, size, out=np.zeros_like(between), where=size > 0)
    order = assign(np.abs(overlap))
    signs = np.sign(overlap[np.arange(len(order)), order])
    fresh = signs == 0
    if fresh.any():
        forward = point_forward(new, np.sqrt(np.diagonal(covariance).clip(min=0)))
        signs[fresh] = forward[order][fresh]
    return order, signs
