"""VAMPnet and DeepTICA."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from deeptime.decomposition import TICA, VAMP

from analytics.reduction.networks import DeepTICA, VAMPNet
from analytics.reduction.networks.slow import SlowModeNetwork
from bridge.errors import SchemaError
from tests.analytics.reduction.networks.systems import bins, relaxations, tensor, train, two_states


def correlations(a: np.ndarray, b: np.ndarray) -> list[float]:
    return [abs(float(np.corrcoef(a[:, i], b[:, i])[0, 1])) for i in range(a.shape[1])]


def test_a_linear_vampnet_of_full_rank_is_vamp() -> None:
    data = relaxations(5000)
    x, y = tensor(data[:-1]), tensor(data[1:])
    model = VAMPNet((4,), latent=4, hidden=[], regularisation=0.0)
    model.prepare(x)
    model.settle(x, y)
    wanted = VAMP(lagtime=1, epsilon=1e-12).fit(data).fetch_model()
    assert model.score(x, y) == pytest.approx(1 + (wanted.singular_values**2).sum(), rel=1e-4)
    np.testing.assert_allclose(model.values, wanted.singular_values, atol=1e-4)
    modes = model.encode(x).detach().numpy()
    assert min(correlations(modes, wanted.transform(data[:-1]))) > 0.9999
    np.testing.assert_allclose(np.cov(modes.T), np.eye(4), atol=1e-3)


def test_a_linear_deeptica_of_full_rank_is_tica() -> None:
    data = relaxations(5000)
    x, y = tensor(data[:-1]), tensor(data[1:])
    model = DeepTICA((4,), latent=4, hidden=[], regularisation=0.0)
    model.prepare(x)
    model.settle(x, y)
    wanted = TICA(lagtime=1, epsilon=1e-12, scaling=None).fit(data).fetch_model()
    np.testing.assert_allclose(model.values, wanted.singular_values, atol=1e-4)
    modes = model.encode(x).detach().numpy()
    assert min(correlations(modes, wanted.transform(data[:-1]))) > 0.9999
    np.testing.assert_allclose(
        model.timescales(lag=2.0)[:2], wanted.timescales(lagtime=2.0)[:2], rtol=1e-3
    )


@pytest.mark.parametrize("kind", [VAMPNet, DeepTICA])
def test_a_linear_network_learns_the_slowest_modes(kind: type[VAMPNet] | type[DeepTICA]) -> None:
    data = relaxations(8000)
    x, y = tensor(data[:-1]), tensor(data[1:])
    model = kind((4,), latent=2, hidden=[])
    train(model, x, y, updates=300, batch=1000, rate=2e-2)
    values = VAMP(lagtime=1).fit(data).fetch_model().singular_values[:2]
    assert model.score(x, y) > 1 + 0.98 * (values**2).sum()
    assert float(model.values[0]) == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize("softmax", [False, True])
def test_vampnet_reaches_the_score_of_vamp_on_good_features(softmax: bool) -> None:
    bent, straight = two_states(12_000)
    test_bent, test_straight = two_states(6000, seed=1)
    offline = VAMP(lagtime=1, dim=1).fit(bins(straight)).fetch_model()
    wanted = offline.score(2, test_model=VAMP(lagtime=1).fit(bins(test_straight)).fetch_model())
    model = VAMPNet((2,), latent=1, hidden=[32, 32], softmax=softmax)
    train(model, tensor(bent[:-1]), tensor(bent[1:]), updates=400, batch=1000, rate=5e-3)
    reached = model.score(tensor(test_bent[:-1]), tensor(test_bent[1:]))
    linear = VAMP(lagtime=1, dim=1).fit(bent).fetch_model().score(2)
    assert wanted > 1.6
    assert linear < 0.8 * wanted
    assert reached >= 0.95 * wanted
    if softmax:
        shares = model.memberships(tensor(test_bent)).detach()
        torch.testing.assert_close(shares.sum(1), torch.ones(len(shares)))


def test_two_lobes_learn_apart() -> None:
    data = relaxations(500)
    x, y = tensor(data[:-1]), tensor(data[1:])
    model = VAMPNet((4,), hidden=[8], shared=False)
    model.prepare(x)
    model.loss(x, y)[0].backward()
    assert model.later_lobe is not None
    assert all(p.grad is not None for p in model.later_lobe.parameters())
    assert not torch.equal(model.functions(x), model.functions(x, later=True))


def test_moving_averages_follow_training_alone() -> None:
    data = relaxations(2000)
    x, y = tensor(data[:-1]), tensor(data[1:])
    model = VAMPNet((4,), hidden=[8])
    model.prepare(x)
    before = copy.deepcopy(model.state_dict())
    model.score(x, y)
    model.eval()
    model.loss(x, y)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    model.train()
    for _ in range(3):
        model.loss(x, y)
    averaged = model.encode(x).detach()
    model.settle(x, y)
    # The weights stood still, so the averages are the moments themselves.
    torch.testing.assert_close(model.encode(x).detach(), averaged, rtol=1e-4, atol=1e-4)


def test_modes_are_the_slowest_first_with_known_signs() -> None:
    data = relaxations(3000)
    x, y = tensor(data[:-1]), tensor(data[1:])
    model = VAMPNet((4,), latent=3, hidden=[])
    model.prepare(x)
    model.settle(x, y)
    values = model.values.tolist()
    assert values == sorted(values, reverse=True)
    first = model.encode(x).detach()
    model.settle(x, y)
    assert torch.equal(model.encode(x).detach(), first)


@pytest.mark.parametrize("model", [VAMPNet((4,), latent=2), DeepTICA((4,), latent=2)])
def test_what_cannot_be_learned_from_is_refused(model: SlowModeNetwork) -> None:
    x = torch.randn(50, 4)
    with pytest.raises(SchemaError, match="give both ends"):
        model.loss(x)
    with pytest.raises(SchemaError, match="needs at least 4 frames at once and got 3"):
        model.loss(x[:3], x[:3])
    with pytest.raises(SchemaError, match="50 frames and 49 a lag time later"):
        model.loss(x, x[1:])
    with pytest.raises(SchemaError, match="not finite, in frame 1 of 50"):
        model.loss(x, x.index_fill(0, torch.tensor([1]), torch.inf))


def test_a_value_that_grew_out_of_bounds_leaves_the_modes_alone() -> None:
    x = torch.randn(50, 4)
    model = VAMPNet((4,), hidden=[])
    model.loss(x, x)
    before = model.weights.clone()
    with torch.no_grad():
        model.lobe[0].weight.fill_(torch.nan)
    assert not bool(torch.isfinite(model.loss(x, x)[0]))
    assert torch.equal(model.weights, before)
