"""VAMPnet: slow modes, also of dynamics out of equilibrium."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from analytics.reduction.networks.blocks import mlp
from analytics.reduction.networks.checks import check_counts, check_shape
from analytics.reduction.networks.slow import SlowModeNetwork

__all__ = ["VAMPNet"]


class VAMPNet(SlowModeNetwork):
    r"""Slow modes of a perceptron that is trained for the VAMP-2 score.

    .. math:: R_2 = 1 + \lVert C_{00}^{-1/2} C_{0\tau} C_{\tau\tau}^{-1/2} \rVert_F^2

    with the covariances of the network's functions of frames x(t) and x(t + τ), centred. The score
    is greatest when the functions span the slowest modes; it needs neither equilibrium nor
    reversibility. Each mode adds the square of its correlation over τ, so `score` lies between 1
    and latent + 1.

    Parameters
    ----------
    input_shape
        Shape of one frame's features, any (flattened); in any unit, as they are standardised.
    latent
        Number of modes besides the constant one.
    hidden
        Units of the hidden layers; an empty list makes it linear: TICA without reversibility.
    activation
        elu, gelu, relu, silu or tanh.
    softmax
        Functions are fuzzy memberships in latent + 1 states, `memberships`.
    shared
        The same weights for both ends of a pair; else a network for each, and `encode` is that of
        the frames.
    regularisation
        Part of the mean variance that is added to each variance before it is inverted.

    Notes
    -----
    Mardt, Pasquali, Wu and Noé, Nat. Commun. 9, 5 (2018), doi:10.1038/s41467-017-02388-1.
    A few thousand pairs a batch make the covariances good; the score of a few is too high.

    Raises
    ------
    ConfigError
        If a hyper-parameter is wrong.
    """

    kind: ClassVar[str] = "vampnet"
    reversible: ClassVar[bool] = False

    def __init__(
        self,
        input_shape: tuple[int, ...],
        *,
        latent: int = 2,
        hidden: Sequence[int] = (64, 64),
        activation: str = "tanh",
        softmax: bool = False,
        shared: bool = True,
        regularisation: float = 1e-6,
    ) -> None:
        hyper = {
            "latent": latent,
            "hidden": check_counts(hidden, "hidden"),
            "activation": activation,
            "softmax": softmax,
            "shared": shared,
            "regularisation": regularisation,
        }
        super().__init__(input_shape, hyper)
        self.softmax = softmax
        sizes = [self.features, *self.hyper["hidden"], self.latent + softmax]
        self.lobe = mlp(sizes, activation)
        self.later_lobe = None if shared else mlp(sizes, activation)

    def functions(self, x: Tensor, *, later: bool = False) -> Tensor:
        """Return the network's functions of frames, shape (n, latent)."""
        lobe = self.later_lobe if later and self.later_lobe is not None else self.lobe
        out: Tensor = lobe(self.scaling(x))
        # The memberships of the last state follow from the others' and the constant function.
        return self._states(out)[:, :-1] if self.softmax else out

    def memberships(self, x: Tensor) -> Tensor:
        """Return the membership of frames in each state, shape (n, latent + 1), with `softmax`."""
        check_shape(x, self.input_shape, self.kind)
        return self._states(self.lobe(self.scaling(x)))

    @staticmethod
    def _states(out: Tensor) -> Tensor:
        return torch.softmax(out.to(torch.promote_types(out.dtype, torch.float32)), dim=1)
