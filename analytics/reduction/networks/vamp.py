"""Variational scores of slow modes, and the modes themselves, from pairs of frames."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["Moments", "joint_moments", "koopman", "modes_of", "slow_score"]

Moments = tuple[Tensor, Tensor]
"""Means, shape (2 d,), and covariance, shape (2 d, 2 d), of frames beside the later frames."""


def joint_moments(x: Tensor, y: Tensor) -> Moments:
    """Compute means and covariances of pairs, in double precision, divided by n − 1.

    Parameters
    ----------
    x, y
        Functions of frames and of the frames a lag time after them, shape (n, d) each, n ≥ 2.

    Notes
    -----
    In double precision also where the network computes in single or half: what follows inverts the
    covariances, and d is small. Gradients come back in the precision of `x` and `y`.
    """
    both = torch.cat([x, y], dim=1).to(torch.float64)
    mean = both.mean(0)
    centred = both - mean
    return mean, centred.T @ centred / (len(x) - 1)


def koopman(
    moments: Moments, regularisation: float, *, reversible: bool
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Return the whitened cross-covariance, what whitens, and the mean of the frames.

    .. math:: K = L_0^{-1} C_{0\tau} L_\tau^{-T}, \qquad L L^T = C + \epsilon \bar c \, 1

    where :math:`\bar c` is the mean variance. K is similar to
    :math:`C_{00}^{-1/2} C_{0\tau} C_{\tau\tau}^{-1/2}` up to rotations on both sides, so it has
    its singular values and its Frobenius norm; and unlike that of an eigendecomposition, the
    gradient of a Cholesky factor is finite where eigenvalues coincide.

    Parameters
    ----------
    moments
        Of pairs, see `joint_moments`.
    regularisation
        ε above.
    reversible
        Pairs count in both directions: both covariances are the mean of the two, and the
        cross-covariance is made symmetric (TICA).

    Returns
    -------
    K, L
        Shape (d, d): K, and :math:`L_0`.
    mean
        Shape (d,).
    """
    mean, covariance = moments
    d = len(mean) // 2
    first, later = mean[:d], mean[d:]
    c00, c01, c11 = covariance[:d, :d], covariance[:d, d:], covariance[d:, d:]
    centre = first
    if reversible:
        centre = 0.5 * (first + later)
        shift = torch.outer(first - centre, first - centre)
        c00 = 0.5 * (c00 + c11) + shift
        c01 = 0.5 * (c01 + c01.T) - shift
        left = _factor(c00, regularisation)
        right = left
    else:
        left, right = _factor(c00, regularisation), _factor(c11, regularisation)
    half = torch.linalg.solve_triangular(left, c01, upper=False)
    whitened = torch.linalg.solve_triangular(right, half.T, upper=False).T
    return whitened, left, centre


def _factor(covariance: Tensor, regularisation: float) -> Tensor:
    # The last term, far below any spread that matters, keeps outputs that are all constant safe.
    d = len(covariance)
    ridge = regularisation * covariance.diagonal().mean() + 1e-30
    # Without an error: outputs that are not finite make the score so, which trainers watch.
    factor, failed = torch.linalg.cholesky_ex(covariance + ridge * torch.eye(d).to(covariance))
    return torch.where(failed == 0, factor, torch.nan)


def slow_score(x: Tensor, y: Tensor, regularisation: float, *, reversible: bool) -> Tensor:
    r"""Return the VAMP-2 score of functions, with 1 for the constant function.

    .. math:: 1 + \lVert C_{00}^{-1/2} C_{0\tau} C_{\tau\tau}^{-1/2} \rVert_F^2

    With `reversible`, it is 1 plus the sum of the squared eigenvalues of TICA.

    Parameters
    ----------
    x, y
        As for `joint_moments`.
    regularisation, reversible
        As for `koopman`.

    Notes
    -----
    Wu and Noé, J. Nonlinear Sci. 30, 23 (2020), doi:10.1007/s00332-019-09567-y.
    """
    whitened, _, _ = koopman(joint_moments(x, y), regularisation, reversible=reversible)
    return 1.0 + whitened.square().sum()


def modes_of(
    moments: Moments, regularisation: float, *, reversible: bool
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Return the linear map from functions to slow modes, from the slowest on.

    The modes :math:`(f - \bar f) W` are uncorrelated, of unit variance in those frames, and the
    entry of greatest weight of each is positive (in units of the functions' spread).

    Returns
    -------
    mean
        Shape (d,).
    weights
        W, shape (d, d), modes as columns.
    values
        Singular values (with `reversible`: eigenvalues), shape (d,): a mode's correlation over
        the lag time, so that its timescale is −lag / ln(value).
    """
    whitened, left, mean = koopman(moments, regularisation, reversible=reversible)
    if reversible:
        values, vectors = torch.linalg.eigh(0.5 * (whitened + whitened.T))
        values, vectors = values.flip(0), vectors.flip(1)
    else:
        vectors, values, _ = torch.linalg.svd(whitened)
    weights = torch.linalg.solve_triangular(left.T, vectors, upper=True)
    spread = left.square().sum(1).sqrt()
    entries = weights * spread[:, None]
    greatest = entries.abs().argmax(0, keepdim=True)
    signs = torch.sign(entries.gather(0, greatest))[0]
    return mean, weights * torch.where(signs == 0, 1.0, signs), values
