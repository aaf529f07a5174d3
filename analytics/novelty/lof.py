"""The local outlier factor of new points against a fixed set."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from analytics.novelty.neighbours import build_tree
from bridge.errors import ConfigError

__all__ = ["OutlierModel"]

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]


class OutlierModel:
    """Points to compare with (Breunig, Kriegel, Ng, Sander 2000, doi:10.1145/342009.335388).

    The local outlier factor of a point is the mean density of its neighbours over its own
    density, where a density is the inverse of the mean reachability distance to the neighbours:
    about 1 in a crowd, the larger the more alone. Gives what scikit-learn's
    ``-LocalOutlierFactor(novelty=True).score_samples`` gives.

    Parameters
    ----------
    points
        Finite, shape (m, k), with m greater than `neighbours`.
    neighbours
        How many neighbours define a density.

    Raises
    ------
    ConfigError
        If there are too few points.
    MissingExtra
        If SciPy is not installed.
    """

    def __init__(self, points: Floats, neighbours: int) -> None:
        if not 1 <= neighbours < len(points):
            raise ConfigError(
                f"The local outlier factor with {neighbours} neighbours needs more than that many "
                f"points, and at least one neighbour; {len(points)} points were given."
            )
        self.points = points
        self.neighbours = neighbours
        self._tree = build_tree(points)
        distances, index = self._tree.query(points, k=neighbours + 1)
        # A point is no neighbour of itself. Among more copies of it than neighbours it need not
        # be in its own list: then the first goes.
        own = index == np.arange(len(points))[:, None]
        own[~own.any(axis=1), 0] = True
        shape = (len(points), neighbours)
        distances, index = distances[~own].reshape(shape), index[~own].reshape(shape)
        self._reach = distances[:, -1].copy()
        self._density = self._densities(distances, index)

    def score(self, queries: Floats) -> Floats:
        """Return the local outlier factor of points that are not in the set.

        Parameters
        ----------
        queries
            Finite, shape (n, k).

        Returns
        -------
        Floats
            Shape (n,), positive; each depends on its own point alone.
        """
        distances, index = self._tree.query(queries, k=[*range(1, self.neighbours + 1)])
        densities = self._densities(distances, index)
        out: Floats = self._density[index].mean(axis=1) / densities
        return out

    def _densities(self, distances: Floats, index: Array) -> Floats:
        reach = np.maximum(distances, self._reach[index])
        # scikit-learn's guard against copies of a point, whose density would be infinite.
        out: Floats = 1.0 / (reach.mean(axis=1) + 1e-10)
        return out
