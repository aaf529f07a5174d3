"""The variational autoencoder, its distributions, and the linear limit of autoencoders."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch.distributions import Independent, Normal, kl_divergence

from analytics.reduction.networks import VAE, TimeLaggedAutoencoder, gaussian
from tests.analytics.reduction.networks.systems import angle, tensor, train


def blobs(n: int = 2000) -> torch.Tensor:
    rng = np.random.default_rng(3)
    return tensor(rng.normal(size=(n, 3)) @ np.diag([4.0, 2.0, 0.3]) @ rng.normal(size=(3, 6)))


def test_divergence_is_that_of_torch() -> None:
    mean, log_variance = torch.randn(20, 3), torch.randn(20, 3)
    ours = gaussian.divergence(mean, log_variance)
    q = Independent(Normal(mean, torch.exp(0.5 * log_variance)), 1)
    prior = Independent(Normal(torch.zeros(20, 3), torch.ones(20, 3)), 1)
    torch.testing.assert_close(ours, kl_divergence(q, prior))


def test_samples_have_the_moments_they_should() -> None:
    mean, log_variance = torch.full((40_000, 1), 2.0), torch.full((40_000, 1), math.log(9.0))
    drawn = gaussian.sample(mean, log_variance, torch.Generator().manual_seed(0))
    assert float(drawn.mean()) == pytest.approx(2.0, abs=0.05)
    assert float(drawn.std()) == pytest.approx(3.0, abs=0.05)


def test_extreme_variances_stay_finite() -> None:
    encoded = torch.tensor([[0.0, 1e6], [0.0, -1e6]], requires_grad=True)
    mean, log_variance = gaussian.split(encoded)
    value = gaussian.divergence(mean, log_variance).sum()
    value = value + gaussian.sample(mean, log_variance, None).square().sum()
    value.backward()
    assert encoded.grad is not None
    assert bool(torch.isfinite(encoded.grad).all())


def test_loss_is_minus_the_bound_that_distributions_give() -> None:
    x = blobs(64)
    model = VAE((6,), hidden=[16], noise=0.7, beta=2.0)
    model.prepare(x)
    loss, parts = model.loss(x, generator=torch.Generator().manual_seed(5))
    scaled = model.scaling(x)
    mean, log_variance = gaussian.split(model.encoder(scaled))
    z = gaussian.sample(mean, log_variance, torch.Generator().manual_seed(5))
    fit = Independent(Normal(model.decoder(z), 0.7), 1).log_prob(scaled)
    constant = 6 * (math.log(0.7) + 0.5 * math.log(2 * math.pi))
    q = Independent(Normal(mean, torch.exp(0.5 * log_variance)), 1)
    prior = Independent(Normal(torch.zeros_like(mean), torch.ones_like(mean)), 1)
    bound = (fit - 2.0 * kl_divergence(q, prior)).mean()
    torch.testing.assert_close(loss, -bound - constant)
    torch.testing.assert_close(parts["reconstruction"] + 2.0 * parts["divergence"], loss)


def test_it_learns_the_directions_of_a_plane_and_rates_what_is_off_it() -> None:
    x = blobs()
    model = VAE((6,), hidden=[32], noise=0.2)
    train(model, x, None, updates=400, batch=200, rate=5e-3)
    explained = PCA(2).fit(model.scaling(x).numpy()).explained_variance_ratio_.sum()
    assert float(model.errors(x).detach().mean()) < 1.2 * (1 - explained) + 0.02
    strange = x + 10.0 * torch.randn(x.shape)
    assert float(model.errors(strange).detach().median()) > 10 * float(
        model.errors(x).detach().median()
    )


def test_a_linear_autoencoder_spans_the_principal_components() -> None:
    x = blobs()
    # At no lag time a linear time-lagged autoencoder is an autoencoder.
    model = TimeLaggedAutoencoder((6,), latent=2, hidden=[], whiten=False)
    train(model, x, x, updates=800, batch=500, rate=1e-2)
    components = PCA(2).fit(model.scaling(x).numpy()).components_
    decoder = model.decoder[0].weight.detach().numpy()
    assert angle(decoder, components.T) < 0.03
    found, wanted = model.encode(x).detach().numpy(), model.scaling(x).numpy() @ components.T
    assert angle(found - found.mean(0), wanted) < 0.05
    lost = 6 - PCA(2).fit(model.scaling(x).numpy()).explained_variance_.sum()
    assert float(model.errors(x).detach().mean()) == pytest.approx(lost / 6, rel=0.3)
