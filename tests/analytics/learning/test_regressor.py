"""A network in the place of a function, and where it may be trusted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from analytics.learning.model import make_model
from analytics.learning.regressor import Regressor
from bridge.errors import ConfigError, SchemaError


def reaction(x: torch.Tensor) -> torch.Tensor:
    return (x[:, 0] * x[:, 1] ** 2)[:, None]


def train(steps: int = 400, **hyper: object) -> tuple[Regressor, torch.Tensor]:
    torch.manual_seed(1)
    model = make_model(
        "regressor", (2,), {"inputs": {"u": 1, "v": 1}, "outputs": {"rate": 1}, **hyper}
    )
    assert isinstance(model, Regressor)
    x = torch.rand(2000, 2, generator=torch.Generator().manual_seed(2))
    model.prepare(x)
    model.train()
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    for step in range(steps):
        rows = x[(step % 10) * 200 :][:200]
        loss, _ = model.loss(rows, reaction(rows))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model.eval(), x


def test_it_learns_a_reaction_term() -> None:
    model, _ = train(width=32)
    x = torch.rand(500, 2, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        wrong = model.encode(x) - reaction(x)
        assert wrong.square().mean().sqrt() < 0.02 * reaction(x).std()
        assert model.score(x, reaction(x)) > -1e-3


def test_the_box_of_what_was_learned() -> None:
    model, x = train(steps=20, margin=0.1)
    low, high = x.amin(0), x.amax(0)
    side = high - low
    just = torch.stack([low - 0.09 * side, high + 0.09 * side])
    beyond = torch.stack([low - 0.11 * side, high + 0.11 * side])
    assert model.inside(just).tolist() == [True, True]
    assert model.inside(beyond).tolist() == [False, False]
    assert not model.inside(torch.tensor([[0.5, float("nan")]])).any()


def test_no_further_than_reach_from_what_was_learned() -> None:
    model, _ = train(steps=20, samples=100, reach=0.1)
    x = torch.rand(300, 2, generator=torch.Generator().manual_seed(4))
    scale = model.x_scale.numpy()
    near = cdist(x.numpy() / scale, model.known.numpy() / scale).min(1)
    clear = np.abs(near - 0.1) > 1e-4
    box = ((x >= model.low) & (x <= model.high)).all(1).numpy()
    expected = (near <= 0.1) & box
    assert model.inside(x).numpy()[clear].tolist() == expected[clear].tolist()
    assert 0 < expected.sum() < 300


def test_it_is_made_again_from_its_state() -> None:
    model, x = train(steps=20, samples=10)
    again = make_model("regressor", model.input_shape, model.hyper)
    again.load_state_dict(model.state_dict())
    again.eval()
    assert isinstance(again, Regressor)
    assert torch.equal(again.encode(x), model.encode(x))
    assert torch.equal(again.inside(x), model.inside(x))


def test_judging_does_not_widen_the_domain() -> None:
    model, _ = train(steps=20)
    before = model.high.clone()
    far = torch.full((3, 2), 9.0)
    model.score(far, reaction(far))
    assert torch.equal(model.high, before)


@pytest.mark.parametrize(
    ("shape", "hyper", "match"),
    [
        ((3,), {}, "have 2 columns in all; it is given the shape"),
        ((2,), {"width": 0}, "'width' of at least 1"),
        ((2,), {"activation": "step"}, "'step' of a 'regressor' is none of"),
        ((2,), {"outputs": {}}, "'outputs' of a 'regressor' is {}; it must say how many"),
        ((2,), {"inputs": "u"}, "'inputs' of a 'regressor' is 'u'; it must say how many"),
        ((2,), {"inputs": {"u": -1, "v": 3}}, "'inputs.u' is -1; it must be a whole number"),
        ((2,), {"margin": float("nan")}, "'margin' and 'samples' of at least 0"),
    ],
)
def test_bad_parameters(shape, hyper, match) -> None:
    with pytest.raises(ConfigError, match=match):
        make_model(
            "regressor", shape, {"inputs": {"u": 1, "v": 1}, "outputs": {"rate": 1}, **hyper}
        )


def test_outputs_are_needed() -> None:
    model, x = train(steps=1)
    with pytest.raises(SchemaError, match="learns from outputs of shape"):
        model.loss(x)
    with pytest.raises(SchemaError, match="at least two rows"):
        model.prepare(x[:1])
