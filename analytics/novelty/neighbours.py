"""Trees of points and the distances between neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bridge.errors import MissingExtra

__all__ = ["build_tree", "neighbour_distances"]

Floats = npt.NDArray[np.float64]


def build_tree(points: Floats) -> Any:
    """Return SciPy's k-d tree of points of shape (m, k).

    Raises
    ------
    MissingExtra
        If SciPy is not installed.
    """
    try:
        from scipy.spatial import cKDTree
    except ImportError as error:
        raise MissingExtra("scipy", "analysis", "novelty by distances to neighbours") from error
    # The trees live for few queries; balanced ones cost more to build than they save.
    return cKDTree(points, balanced_tree=False, compact_nodes=False)


def neighbour_distances(points: Floats, neighbours: int) -> Floats:
    """Return each point's distance to its k-th nearest other point.

    It grows with the volume per point: ``distance**dimensions`` is inversely proportional to the
    estimate of the density by k nearest neighbours (Loftsgaarden and Quesenberry 1965,
    doi:10.1214/aoms/1177700079).

    Parameters
    ----------
    points
        Finite, shape (m, k).
    neighbours
        Which neighbour; with fewer other points, the farthest.

    Returns
    -------
    Floats
        Shape (m,).
    """
    k = min(neighbours, len(points) - 1)
    if k < 1:
        return np.zeros(len(points))
    distances, _ = build_tree(points).query(points, k=[k + 1])
    out: Floats = distances[:, 0]
    return out
