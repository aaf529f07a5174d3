"""What holds for each kind of model."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import nn

from analytics.learning.model import StreamModel, make_model
from bridge.errors import ConfigError, SchemaError
from tests.analytics.reduction.networks.systems import train

KINDS: dict[str, tuple[str, tuple[int, ...], dict[str, Any]]] = {
    "vae": ("vae", (6,), {"hidden": [8]}),
    "vae of matrices": ("vae", (3, 2), {"hidden": [8]}),
    "cvae": ("cvae", (5, 5), {"filters": [4], "hidden": 8}),
    "packed cvae": ("cvae", (10,), {"filters": [4], "hidden": 8}),
    "tae": ("tae", (6,), {"hidden": [8]}),
    "vampnet": ("vampnet", (6,), {"hidden": [8]}),
    "softmax vampnet": ("vampnet", (6,), {"hidden": [8], "softmax": True, "shared": False}),
    "deeptica": ("deeptica", (6,), {"hidden": [8]}),
    "pointcloud": ("pointcloud", (5, 3), {"points": [8], "hidden": [8]}),
    "indexed pointcloud": (
        "pointcloud",
        (5, 3),
        {"points": [8], "hidden": [8], "distance": "indexed"},
    ),
    "module": (
        "module",
        (6,),
        {
            "factory": "torch.nn:Linear",
            "arguments": {"in_features": 6, "out_features": 2},
            "loss": "vamp2",
            "standardise": True,
        },
    ),
}


@pytest.fixture(params=KINDS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def made(name: str) -> StreamModel:
    return make_model(*KINDS[name])


@pytest.fixture
def frames(name: str) -> Callable[[int], torch.Tensor]:
    def make(n: int) -> torch.Tensor:
        x = torch.rand(n, *KINDS[name][1], generator=torch.Generator().manual_seed(n))
        return x > 0.5 if "cvae" in name else x

    return make


def test_weights_and_hyper_parameters_are_all_there_is(
    made: StreamModel, frames: Callable[[int], torch.Tensor], name: str
) -> None:
    x, y = frames(40), frames(41)[1:]
    train(made, x, y if made.lagged else None, updates=3, batch=20, rate=1e-3)
    kept = {key: value.clone() for key, value in made.state_dict().items()}
    hyper = json.loads(json.dumps(made.hyper))
    again = make_model(made.kind, made.input_shape, hyper).eval()
    again.load_state_dict(kept)
    assert again.hyper == made.hyper
    assert made.kind == KINDS[name][0]
    with torch.no_grad():
        z = made.encode(x)
        assert torch.equal(again.encode(x), z)
        assert torch.equal(again(x), z)
        errors, others = made.errors(x), again.errors(x)
    assert z.shape == (40, made.latent)
    assert z.dtype == torch.float32
    assert again.score(x, y) == made.score(x, y)
    assert (errors is None) == (others is None)
    if errors is not None and others is not None:
        assert torch.equal(errors, others)
        assert errors.shape == (40,)
        assert bool((errors >= 0).all())


def test_training_is_the_same_every_time(name: str, frames: Callable[[int], torch.Tensor]) -> None:
    states = []
    for noise in (0, 1):
        torch.manual_seed(7)
        model = make_model(*KINDS[name])
        torch.manual_seed(noise)
        x, y = frames(40), frames(41)[1:]
        train(model, x, y if model.lagged else None, updates=3, batch=20, rate=1e-3)
        states.append(model.state_dict())
    first, second = states
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_every_parameter_gets_a_finite_gradient(
    made: StreamModel, frames: Callable[[int], torch.Tensor]
) -> None:
    x, y = frames(40), frames(41)[1:]
    made.prepare(x)
    loss, parts = made.loss(x, y, generator=torch.Generator().manual_seed(0))
    loss.backward()
    assert loss.ndim == 0
    assert all(part.ndim == 0 and not part.requires_grad for part in parts.values())
    for key, parameter in made.named_parameters():
        assert parameter.grad is not None, key
        assert bool(torch.isfinite(parameter.grad).all()), key


def test_half_precision_is_safe(made: StreamModel, frames: Callable[[int], torch.Tensor]) -> None:
    x, y = frames(40), frames(41)[1:]
    made.prepare(x)
    made.settle(x, y)
    full = float(made.loss(x, y, generator=torch.Generator().manual_seed(0))[0].detach())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, _ = made.loss(x, y, generator=torch.Generator().manual_seed(0))
        z = made.encode(x)
    loss.backward()
    assert z.dtype == torch.float32
    assert loss.dtype in (torch.float32, torch.float64)
    assert float(loss.detach()) == pytest.approx(full, rel=0.05)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="There is no GPU.")
def test_a_gpu_gives_what_the_cpu_gives(
    made: StreamModel, frames: Callable[[int], torch.Tensor]
) -> None:
    x, y = frames(40), frames(41)[1:]
    made.prepare(x)
    made.settle(x, y)
    with torch.no_grad():
        wanted = made.encode(x)
        loss = made.loss(x, y, generator=torch.Generator().manual_seed(0))[0]
    made.cuda()
    x, y = x.cuda(), y.cuda()
    # A generator on the CPU serves both, so that noise is the same.
    there, _ = made.loss(x, y, generator=torch.Generator().manual_seed(0))
    there.backward()
    made.settle(x, y)
    torch.testing.assert_close(made.encode(x).detach().cpu(), wanted, rtol=1e-3, atol=1e-3)
    assert float(there.detach()) == pytest.approx(float(loss), rel=1e-3)


def test_double_precision_is_kept(made: StreamModel, frames: Callable[[int], torch.Tensor]) -> None:
    x, y = frames(40), frames(41)[1:]
    made.prepare(x)
    single = made.loss(x, y, generator=torch.Generator().manual_seed(0))[0]
    made.double()
    x, y = x.double(), y.double()
    made.loss(x, y, generator=torch.Generator().manual_seed(0))[0].backward()
    assert made.encode(x).dtype == torch.float32
    assert bool(torch.isfinite(single))


def test_it_can_be_exported(made: StreamModel, frames: Callable[[int], torch.Tensor]) -> None:
    x = frames(7)
    made.prepare(x)
    made.eval()
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(made, (x[:3],), dynamic_shapes=({0: batch},))
    with torch.no_grad():
        torch.testing.assert_close(program.module()(x), made.encode(x), rtol=1e-4, atol=1e-5)


def test_frames_that_do_not_fit_are_refused(
    made: StreamModel, frames: Callable[[int], torch.Tensor]
) -> None:
    x = frames(40)
    wrong = torch.zeros(40, 77)
    for call in (made.prepare, made.encode, made.errors, lambda x: made.loss(x, x)):
        if made.kind == "module" and call == made.errors:
            continue
        if call == made.errors and made.errors(x) is None:
            continue
        with pytest.raises(SchemaError, match=r"frames of shape \(40, 77\); it was made for \(n"):
            call(wrong)
    bad = x.float()
    bad[3] = torch.nan
    for call in (made.prepare, lambda x: made.loss(x, x)):
        with pytest.raises(SchemaError, match="not finite, in frame 3 of 40"):
            call(bad)
    with pytest.raises(SchemaError, match=r"needs at least [12] frames at once and got 0"):
        made.prepare(x[:0])


def test_constant_features(made: StreamModel, frames: Callable[[int], torch.Tensor]) -> None:
    x = frames(40)
    flat = x.flatten(1)
    flat[:, 0] = flat[0, 0]
    x = flat.reshape(x.shape)
    made.prepare(x)
    assert bool(torch.isfinite(made.encode(x)).all())
    if made.kind in ("vae", "tae", "vampnet", "deeptica", "module"):
        with pytest.raises(SchemaError, match="All 6 features are constant in the first 40"):
            made.prepare(torch.full(x.shape, 3.3))


@pytest.mark.parametrize(
    ("kind", "hyper", "said"),
    [
        ("vae", {"latent": 0}, "'latent' is 0"),
        ("vae", {"latent": 2.5}, "'latent' is 2.5"),
        ("vae", {"hidden": 8}, "'hidden' is 8; it must be a list"),
        ("vae", {"noise": 0.0}, "'noise' is 0.0"),
        ("vae", {"beta": float("nan")}, "'beta' is nan"),
        ("vae", {"latend": 3}, "did you mean 'latent'"),
        ("tae", {"activation": "sigmoid"}, "one of elu, gelu, relu, silu, tanh"),
        ("vampnet", {"regularisation": -1.0}, "'regularisation' is -1.0"),
        ("vampnett", {}, "did you mean 'vampnet'"),
    ],
)
def test_wrong_hyper_parameters_are_told(kind: str, hyper: Mapping[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make_model(kind, (6,), hyper)


def test_what_is_no_model_is_told() -> None:
    with pytest.raises(ConfigError, match="must be derived from"):
        make_model("torch.nn:Flatten", (6,), {})
    assert not issubclass(nn.Flatten, StreamModel)
