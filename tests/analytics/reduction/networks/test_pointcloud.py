"""Point clouds and their distances."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from analytics.reduction.networks import PointCloudAutoencoder
from analytics.reduction.networks.chamfer import chamfer, indexed
from bridge.errors import ConfigError, SchemaError
from tests.analytics.reduction.networks.systems import train


def chains(n: int = 300, points: int = 12) -> torch.Tensor:
    """A straight chain that bends at its middle, in nm, far from the origin."""
    generator = torch.Generator().manual_seed(4)
    bend = torch.rand(n, 1, generator=generator) * 2.0
    s = torch.linspace(-2.0, 2.0, points)
    angle = torch.where(s > 0, bend, 0.0)
    line = torch.stack([s * torch.cos(angle), s * torch.sin(angle), 0.0 * angle], dim=2)
    return line + 0.02 * torch.randn(line.shape, generator=generator) + 50.0


def test_chamfer_is_that_of_all_distances() -> None:
    a, b = torch.randn(5, 7, 3), torch.randn(5, 9, 3)
    wanted = []
    for left, right in zip(a.numpy(), b.numpy(), strict=True):
        squares = cdist(left, right, "sqeuclidean")
        wanted.append(squares.min(1).mean() + squares.min(0).mean())
    np.testing.assert_allclose(chamfer(a, b), wanted, rtol=1e-5)


def test_chamfer_does_not_see_the_order_and_has_true_gradients() -> None:
    a = torch.randn(2, 6, 3, dtype=torch.float64, requires_grad=True)
    b = torch.randn(2, 6, 3, dtype=torch.float64)
    shuffled = b[:, torch.randperm(6)]
    torch.testing.assert_close(chamfer(a, shuffled), chamfer(a, b))
    assert torch.equal(chamfer(b, shuffled), torch.zeros(2, dtype=torch.float64))
    assert torch.autograd.gradcheck(chamfer, (a, b))


def test_indexed_distance() -> None:
    a, b = torch.randn(3, 6, 3), torch.randn(3, 6, 3)
    wanted = ((a - b) ** 2).sum(2).mean(1)
    torch.testing.assert_close(indexed(a, b), wanted)
    with pytest.raises(SchemaError, match="no points of the same index"):
        indexed(a, b[:, :4])


def test_order_counts_only_where_it_is_asked_for() -> None:
    x = chains(20)
    shuffled = x[:, torch.randperm(12)]
    cloud = PointCloudAutoencoder((12, 3))
    cloud.prepare(x)
    torch.testing.assert_close(cloud.encode(shuffled), cloud.encode(x))
    chain = PointCloudAutoencoder((12, 3), distance="indexed")
    chain.prepare(x)
    assert not torch.allclose(chain.encode(shuffled), chain.encode(x), atol=1e-3)


def test_translation_is_taken_out_unless_it_matters() -> None:
    x = chains(20)
    moved = x + torch.tensor([1.0, -2.0, 3.0])
    model = PointCloudAutoencoder((12, 3))
    model.prepare(x)
    torch.testing.assert_close(model.encode(moved), model.encode(x), atol=1e-4, rtol=1e-3)
    placed = PointCloudAutoencoder((12, 3), centre=False)
    placed.prepare(x)
    assert not torch.allclose(placed.encode(moved), placed.encode(x), atol=1e-2)


@pytest.mark.parametrize("distance", ["chamfer", "indexed"])
def test_it_learns_how_far_a_chain_is_bent(distance: str) -> None:
    x = chains()
    model = PointCloudAutoencoder(
        (12, 3), latent=1, points=[32, 32], hidden=[32], distance=distance
    )
    train(model, x, None, updates=300, batch=50, rate=5e-3)
    z = model.encode(x).detach()[:, 0].numpy()
    ends = (x[:, 0] - x[:, -1]).norm(dim=1).numpy()
    order, place = np.argsort(np.argsort(ends)), np.argsort(np.argsort(z))
    assert abs(np.corrcoef(order, place)[0, 1]) > 0.95
    assert float(model.errors(x).detach().mean()) < 0.05
    assert model.decode(model.encode(x)).shape == x.shape


def test_what_is_no_cloud_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"shape \(points, 3\)"):
        PointCloudAutoencoder((36,))
    with pytest.raises(ConfigError, match="must be 'chamfer' or 'indexed'"):
        PointCloudAutoencoder((12, 3), distance="emd")
    with pytest.raises(SchemaError, match="lie in one"):
        PointCloudAutoencoder((12, 3)).prepare(torch.full((4, 12, 3), 5.0))
