"""The latent normal distributions of variational autoencoders."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["divergence", "sample", "split"]


def split(encoded: Tensor) -> tuple[Tensor, Tensor]:
    """Return means and logarithms of variances from an encoder's outputs, shape (n, 2 d).

    In single precision at least, whatever the network computed in; the logarithm is kept within
    −20 and 10, so that its exponential is finite and not 0.
    """
    mean, log_variance = encoded.to(_wide(encoded)).chunk(2, dim=1)
    return mean, log_variance.clamp(-20.0, 10.0)


def _wide(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def sample(mean: Tensor, log_variance: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draw from the distributions, so that gradients reach their parameters.

    Kingma and Welling, Auto-encoding variational Bayes (2014), doi:10.48550/arXiv.1312.6114. The
    numbers are drawn on the generator's device, whichever device the model is on.
    """
    device = mean.device if generator is None else generator.device
    noise = torch.randn(mean.shape, generator=generator, dtype=mean.dtype, device=device)
    return mean + torch.exp(0.5 * log_variance) * noise.to(mean.device)


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    r"""Return the Kullback-Leibler divergence from a standard normal of each row, in nats, (n,).

    .. math:: \tfrac12 \sum_j (\mu_j^2 + \sigma_j^2 - 1 - \ln \sigma_j^2)
    """
    terms = mean.square() + log_variance.exp() - 1.0 - log_variance
    return 0.5 * terms.sum(1)
