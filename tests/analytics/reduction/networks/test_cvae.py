"""The convolutional autoencoder, and contact maps as the operator gives them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from analytics.features.contacts import ContactMap
from analytics.reduction.networks import CVAE
from analytics.reduction.networks.triangle import Triangle
from bridge.errors import ConfigError, SchemaError
from tests.analytics.reduction.networks.systems import train


def maps(n: int, side: int) -> torch.Tensor:
    """Symmetric maps with a diagonal of ones, of which a corner block comes and goes."""
    generator = torch.Generator().manual_seed(2)
    half = torch.rand(n, side, side, generator=generator) < 0.1
    corner = torch.rand(n, generator=generator) < 0.5
    half[:, : side // 3, -(side // 3) :] |= corner[:, None, None]
    full = half | half.mT
    full[:, torch.arange(side), torch.arange(side)] = True
    return full


@pytest.mark.parametrize("side", [2, 3, 5, 8, 13, 16, 21, 28, 33])
@pytest.mark.parametrize("filters", [[4], [4, 8, 8]])
def test_any_side_fits(side: int, filters: list[int]) -> None:
    model = CVAE((side, side), latent=2, filters=filters, hidden=8)
    x = maps(6, side)
    model.prepare(x)
    assert model.encode(x).shape == (6, 2)
    assert model.decode(model.encode(x)).shape == (6, side, side)
    assert model.errors(x).shape == (6,)
    loss, _ = model.loss(x)
    assert bool(torch.isfinite(loss))
    channel = CVAE((1, side, side), latent=2, filters=filters, hidden=8)
    assert channel.decode(channel.encode(x[:, None])).shape == (6, 1, side, side)


@pytest.mark.parametrize("separation", [1, 2, 3])
@pytest.mark.parametrize("side", [4, 7, 10])
def test_the_operators_packed_map_is_taken_as_it_comes(side: int, separation: int) -> None:
    pairs = ContactMap(atoms=range(side), cutoff=1.0, min_separation=separation).pairs
    triangle = Triangle(len(pairs), separation)
    assert triangle.side == side
    packed = torch.rand(3, len(pairs))
    image = triangle.unpack(packed)[:, 0]
    for place, (i, j) in enumerate(pairs):
        assert torch.equal(image[:, i, j], packed[:, place])
        assert torch.equal(image[:, j, i], packed[:, place])
    assert bool((image.diagonal(dim1=1, dim2=2) == 1).all())
    assert torch.equal(triangle.pack(triangle.unpack(packed)), packed)
    model = CVAE((len(pairs),), filters=[4], hidden=8, min_separation=separation)
    assert model.decode(model.encode(packed)).shape == packed.shape


def test_packed_and_square_maps_are_encoded_alike() -> None:
    x = maps(10, 9)
    rows, columns = np.triu_indices(9, 1)
    square = CVAE((9, 9), filters=[4, 8], hidden=8)
    packed = CVAE((36,), filters=[4, 8], hidden=8)
    packed.encoder.load_state_dict(square.encoder.state_dict())
    torch.testing.assert_close(square.encode(x), packed.encode(x[:, rows, columns]))


def test_an_untrained_decoder_starts_at_the_frequencies() -> None:
    x = maps(400, 12)
    model = CVAE((12, 12), filters=[4], hidden=8)
    before = float(model.errors(x).detach().mean())
    model.prepare(x)
    torch.testing.assert_close(
        torch.sigmoid(model.baseline), (x.float().sum(0) + 0.5) / 401, atol=1e-6, rtol=1e-5
    )
    assert float(model.errors(x).detach().mean()) < 0.7 * before


def test_it_tells_two_folds_apart() -> None:
    x = maps(600, 12)
    folded = x[:, :4, -4:].float().mean((1, 2)) > 0.5
    model = CVAE((12, 12), latent=2, filters=[8, 8], hidden=16)
    train(model, x, None, updates=150, batch=64, rate=5e-3)
    z = model.encode(x).detach()
    apart = (z[folded].mean(0) - z[~folded].mean(0)).norm()
    assert float(apart) > 3 * float(z[folded].std(0).max())


def test_shapes_that_are_no_maps_are_refused() -> None:
    with pytest.raises(ConfigError, match="for example 10 or 15"):
        CVAE((12,))
    with pytest.raises(ConfigError, match=r"neither \(N, N\)"):
        CVAE((5, 6))
    with pytest.raises(ConfigError, match="'filters' is empty"):
        CVAE((5, 5), filters=[])
    with pytest.raises(SchemaError, match="contacts, not distances"):
        CVAE((5, 5)).prepare(3.0 * torch.ones(4, 5, 5))
