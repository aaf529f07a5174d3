"""The time-lagged autoencoder."""

from __future__ import annotations

import numpy as np
import torch
from deeptime.decomposition import TICA

from analytics.reduction.networks import TimeLaggedAutoencoder
from analytics.reduction.networks.scaling import Whiten
from tests.analytics.reduction.networks.systems import relaxations, tensor, train


def test_whitened_and_linear_it_finds_the_slow_subspace() -> None:
    data = relaxations(8000)
    model = TimeLaggedAutoencoder((4,), latent=2, hidden=[])
    x, y = tensor(data[:-1]), tensor(data[1:])
    train(model, x, y, updates=600, batch=1000, rate=1e-2)
    slow = TICA(lagtime=1, dim=2).fit(data).transform(data[:-1])
    found = model.encode(x).detach().numpy()
    found = found - found.mean(0)
    fit, *_ = np.linalg.lstsq(found, slow - slow.mean(0), rcond=None)
    rest = slow - slow.mean(0) - found @ fit
    assert rest.var() < 0.05 * slow.var()


def test_whitening_gives_uncorrelated_features_and_none_for_what_is_constant() -> None:
    data = np.column_stack([relaxations(3000), np.full(3000, 7.0)])
    data = np.column_stack([data, data[:, 0] + data[:, 1]])
    x = tensor(data)
    whiten = Whiten(6)
    assert torch.equal(whiten(x), x)
    whiten.fit(x)
    out = whiten(x).double()
    wanted = torch.diag(torch.tensor([1.0, 1, 1, 1, 0, 0], dtype=torch.float64))
    torch.testing.assert_close(out.T @ out / len(out), wanted, atol=1e-3, rtol=0)
