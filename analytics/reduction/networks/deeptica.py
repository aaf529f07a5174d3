"""DeepTICA: slow collective variables of reversible dynamics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from analytics.reduction.networks.blocks import mlp
from analytics.reduction.networks.checks import check_counts
from analytics.reduction.networks.slow import SlowModeNetwork

__all__ = ["DeepTICA"]


class DeepTICA(SlowModeNetwork):
    r"""Slow modes of a perceptron that is trained for the eigenvalues of TICA.

    The loss is minus 1 + Σ λᵢ², with the eigenvalues of

    .. math:: C_\tau w_i = \lambda_i C_0 w_i

    for the covariances of the network's functions, made symmetric by counting each pair in both
    directions. That presumes reversible dynamics sampled in equilibrium, and pays with modes that
    are less noisy than a VAMPnet's; walkers that were restarted far from equilibrium bias it. The
    coordinates are differentiable in the inputs, so that a bias can act along them.

    Parameters
    ----------
    input_shape
        Shape of one frame's features, any (flattened); in any unit, as they are standardised.
    latent
        Number of modes besides the constant one.
    hidden
        Units of the hidden layers; an empty list makes it linear, which is TICA.
    activation
        elu, gelu, relu, silu or tanh.
    regularisation
        Part of the mean variance that is added to each variance before it is inverted.

    Notes
    -----
    Bonati, Piccini and Parrinello, Proc. Natl. Acad. Sci. USA 118, e2113533118 (2021),
    doi:10.1073/pnas.2113533118. Their weights of frames from biased simulations are not made.

    Raises
    ------
    ConfigError
        If a hyper-parameter is wrong.
    """

    kind: ClassVar[str] = "deeptica"
    reversible: ClassVar[bool] = True

    def __init__(
        self,
        input_shape: tuple[int, ...],
        *,
        latent: int = 2,
        hidden: Sequence[int] = (64, 64),
        activation: str = "tanh",
        regularisation: float = 1e-6,
    ) -> None:
        hyper = {
            "latent": latent,
            "hidden": check_counts(hidden, "hidden"),
            "activation": activation,
            "regularisation": regularisation,
        }
        super().__init__(input_shape, hyper)
        self.network = mlp([self.features, *self.hyper["hidden"], self.latent], activation)

    def functions(self, x: Tensor, *, later: bool = False) -> Tensor:
        """Return the network's functions of frames, shape (n, latent)."""
        out: Tensor = self.network(self.scaling(x))
        return out
