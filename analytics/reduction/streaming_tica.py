"""Time-lagged independent components of a stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from analytics.reduction.model import LinearModel, follow
from analytics.statistics.lagged import Covariances, LaggedCovariance
from analytics.statistics.running import as_rows
from analytics.statistics.schedule import check_count
from bridge.errors import ConfigError, PipelineError

__all__ = ["Scaling", "StreamingTICA", "whitening"]

Array = npt.NDArray[np.float64]
Scaling = Literal["kinetic_map", "commute_map", "unit", "none"]


def whitening(covariance: Array, mean: Array, regularisation: float) -> Array:
    """Find a matrix L with Lᵀ C L = 1 on the directions in which the data vary.

    Parameters
    ----------
    covariance
        C, shape (k, k).
    mean
        Mean of the features, shape (k,): a feature whose spread is lost in the rounding of its
        mean is taken as constant.
    regularisation
        Directions are left out whose eigenvalue of the *correlation* matrix is not greater than
        this share of the greatest one: the choice does not depend on the features' units.

    Returns
    -------
    ndarray
        Shape (k, r); r is 0 where nothing varies.
    """
    spread = np.sqrt(np.diagonal(covariance).clip(min=0.0))
    varies = spread > 1e-12 * np.abs(mean)
    if not varies.any():
        return np.zeros((len(mean), 0))
    scale = 1.0 / spread[varies]
    correlation = covariance[np.ix_(varies, varies)] * np.outer(scale, scale)
    values, vectors = np.linalg.eigh(correlation)
    kept = values > regularisation * values[-1]
    out = np.zeros((len(mean), int(kept.sum())))
    out[varies] = scale[:, None] * vectors[:, kept] / np.sqrt(values[kept])
    return out


class StreamingTICA:
    """Time-lagged independent component analysis that learns as frames come, exactly.

    Parameters
    ----------
    lag
        Number of frames.
    n_components
        Number of components.
    reversible
        True: each pair also counts with its time reversed, which makes the estimate symmetric, the
        eigenvalues real, and biases it where the data are not in equilibrium (short restarted
        trajectories). False: nothing is assumed; the components are the left singular functions
        of the Koopman operator (VAMP), and the values its singular values.
    scaling
        ``"unit"``: variance 1. ``"kinetic_map"``: that times the eigenvalue, so that distances
        are kinetic distances. ``"commute_map"``: times the root of half the timescale in frames.
        ``"none"``: weights of length 1 in feature space.
    regularisation
        See `whitening`.
    half_life
        Number of frames, over all simulations, after which a pair counts half; None for no
        forgetting.

    Attributes
    ----------
    covariance
        The `LaggedCovariance` behind it, which says what makes a pair.
    model
        The projection as of the last `fit`; None before.

    Notes
    -----
    Molgedey & Schuster, Phys. Rev. Lett. 72, 3634 (1994), doi:10.1103/PhysRevLett.72.3634; for
    molecules, Pérez-Hernández et al., J. Chem. Phys. 139, 015102 (2013), doi:10.1063/1.4811489.
    Without reversibility: Wu & Noé, J. Nonlinear Sci. 30, 23 (2020),
    doi:10.1007/s00332-019-09567-y. Kinetic map: Noé & Clementi, J. Chem. Theory Comput. 11, 5002
    (2015), doi:10.1021/acs.jctc.5b00553; commute map: Noé, Banisch & Clementi, ibid. 12, 5620
    (2016), doi:10.1021/acs.jctc.6b00762. See `analytics.reduction.model.follow` for order and
    signs.
    """

    def __init__(
        self,
        lag: int,
        n_components: int,
        *,
        reversible: bool = True,
        scaling: Scaling = "kinetic_map",
        regularisation: float = 1e-6,
        half_life: float | None = None,
    ) -> None:
        if scaling not in get_args(Scaling):
            raise ConfigError(
                f"The parameter 'scaling' is {scaling!r}; it must be one of "
                f"{', '.join(map(repr, get_args(Scaling)))}."
            )
        if not 0.0 <= regularisation < 1.0:
            raise ConfigError(
                f"The parameter 'regularisation' is {regularisation}; it must be at least 0 and "
                "less than 1."
            )
        self.n_components = check_count(n_components, "n_components")
        self.reversible = reversible
        self.scaling: Scaling = scaling
        self.regularisation = float(regularisation)
        self.covariance = LaggedCovariance(lag, half_life=half_life)
        self.model: LinearModel | None = None

    @property
    def n_frames(self) -> int:
        """Number of frames seen."""
        return self.covariance.n_frames

    def partial_fit(
        self, X: Any, *, simulation: str = "", offsets: Any = None, epochs: Any = None
    ) -> StreamingTICA:
        """Take up the next frames of a simulation; see `LaggedCovariance.partial_fit`."""
        self.covariance.partial_fit(X, simulation=simulation, offsets=offsets, epochs=epochs)
        return self

    def fit(self) -> LinearModel | None:
        """Renew the model from everything seen; None while there are no pairs that differ."""
        found = self.covariance.covariances()
        if found.weight == 0.0:
            return None
        if self.reversible:
            found = found.symmetrised()
        left = whitening(found.c00, found.mean_0, self.regularisation)
        values, vectors = self._decompose(found, left)
        if not len(values):
            return None
        directions, values = follow(
            self.model, left @ vectors, values, self.n_components, found.c00
        )
        weights = directions * self._scales(directions, values)
        self.model = LinearModel(found.mean_0, weights, values, directions, self.n_frames)
        return self.model

    def _decompose(self, found: Covariances, left: Array) -> tuple[Array, Array]:
        """Return values from the greatest down, and whitened components as columns."""
        if self.reversible:
            values, vectors = np.linalg.eigh(left.T @ found.c0t @ left)
            return values[::-1], vectors[:, ::-1]
        right = whitening(found.ctt, found.mean_t, self.regularisation)
        vectors, values, _ = np.linalg.svd(left.T @ found.c0t @ right, full_matrices=False)
        return values, vectors

    def _scales(self, directions: Array, values: Array) -> Array:
        if self.scaling == "unit":
            return np.ones_like(values)
        if self.scaling == "kinetic_map":
            # An eigenvalue below zero is noise; its sign must not turn the component around.
            return np.asarray(np.abs(values))
        if self.scaling == "commute_map":
            # Rounding may bring an eigenvalue to 1, whose timescale is infinite.
            positive = values.clip(min=1e-300, max=1.0 - 1e-12)
            times = np.where(values > 0.0, -self.covariance.lag / np.log(positive), 0.0)
            return np.asarray(np.sqrt(times / 2.0))
        length = np.linalg.norm(directions, axis=0)
        return np.asarray(np.divide(1.0, length, out=np.zeros_like(length), where=length > 0))

    @property
    def eigenvalues(self) -> Array:
        """Autocorrelation of each component at the lag (or singular value), (n_components,)."""
        return self._fitted().values

    @property
    def timescales(self) -> Array:
        """Implied timescale of each component in frames; 0 where the eigenvalue is not positive."""
        values = self._fitted().values
        with np.errstate(divide="ignore"):
            times = -self.covariance.lag / np.log(values.clip(min=1e-300, max=1.0))
        return np.asarray(np.where(values > 0.0, times, 0.0))

    def _fitted(self) -> LinearModel:
        model = self.model or self.fit()
        if model is None:
            raise PipelineError(
                f"There is no model yet: no two frames came that are {self.covariance.lag} apart "
                "in one piece of trajectory, or all are alike."
            )
        return model

    def transform(self, X: Any) -> Array:
        """Project rows of shape (n, k) to (n, n_components), fitting first if nobody did."""
        model = self._fitted()
        return model.project(as_rows(X, len(model.mean)))

    def merge(self, other: StreamingTICA) -> StreamingTICA:
        """Take up all pairs of another one (`LaggedCovariance.merge`); call `fit` afterwards."""
        self.covariance.merge(other.covariance)
        return self

    def save(self) -> dict[str, Any]:
        """Return the state as arrays and plain data."""
        model = {} if self.model is None else self.model.save()
        return {**self.covariance.save(), **model}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what `save` returned, with the same parameters."""
        self.covariance.restore(state)
        self.model = LinearModel.from_saved(state)
