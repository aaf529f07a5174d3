"""Anybody's module."""

from __future__ import annotations

import copy
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from analytics.learning.model import StreamModel, make_model
from bridge.errors import ConfigError, SchemaError
from tests.analytics.reduction.networks.systems import train

HERE = "tests.analytics.reduction.networks.test_module"


class Autoencoder(nn.Module):
    """What a user may have written."""

    def __init__(self, width: int = 4, latent: int = 2) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Linear(6, width), nn.Tanh(), nn.Linear(width, latent))
        self.up = nn.Linear(latent, 6)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        z = self.down(x)
        return z, self.up(z)


class Noisy(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.rand_like(x)


def sparse(
    module: nn.Module, x: torch.Tensor, y: object, generator: torch.Generator
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    z, back = module(x + 0.01 * torch.randn(x.shape, generator=generator))
    size = z.abs().mean()
    assert y is None
    return (back - x).square().mean() + 0.1 * size, {"size": size}


def each(module: nn.Module, x: torch.Tensor, *_: object) -> torch.Tensor:
    return module(x)[0].square().mean(dim=1)


def boxed(module: nn.Module, x: torch.Tensor, *_: object) -> torch.Tensor:
    return module(x)[0].square().mean().reshape(1, 1)


def number(module: nn.Module, x: torch.Tensor, *_: object) -> float:
    return float(boxed(module, x).detach())


def cut_off(module: nn.Module, x: torch.Tensor, *_: object) -> torch.Tensor:
    return boxed(module, x).detach()


def autoencoder(**more: Any) -> StreamModel:
    return make_model("module", (6,), {"factory": f"{HERE}:Autoencoder", **more})


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("programs") / "autoencoder.pt2"
    batch = torch.export.Dim("batch", min=1)
    exported = torch.export.export(
        Autoencoder().eval(), (torch.zeros(3, 6),), dynamic_shapes=({0: batch},)
    )
    torch.export.save(exported, path)
    return path


def test_a_factory_is_called_with_its_arguments() -> None:
    model = autoencoder(arguments={"latent": 3})
    x = torch.randn(50, 6)
    assert model.latent == 3
    train(model, x, None, updates=100, batch=50, rate=1e-2)
    errors = model.errors(x)
    assert errors is not None
    assert float(errors.detach().mean()) < 0.8 * float(x.var())


def test_weights_are_read_once(tmp_path: Path) -> None:
    trained = Autoencoder()
    path = tmp_path / "weights.safetensors"
    save_file(trained.state_dict(), path)
    model = autoencoder(weights=str(path))
    x = torch.randn(5, 6)
    assert torch.equal(model.encode(x), trained(x)[0])
    path.unlink()
    again = make_model("module", (6,), model.hyper)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.encode(x), trained(x)[0])
    with pytest.raises(ConfigError, match="cannot be read, or do not fit"):
        autoencoder(weights=str(path))


def test_a_loss_of_ones_own() -> None:
    model = autoencoder(loss=f"{HERE}:sparse")
    x = torch.randn(20, 6)
    losses = [model.loss(x, generator=torch.Generator().manual_seed(3)) for _ in range(2)]
    assert torch.equal(losses[0][0], losses[1][0])
    assert set(losses[0][1]) == {"size"}
    assert not model.lagged


@pytest.mark.parametrize(
    ("loss", "told"),
    [
        ("each", r"returned a tensor of shape \(20,\); it must return"),
        ("number", "returned a float; it must return"),
        ("cut_off", "does not depend on weights that can learn"),
    ],
)
def test_a_loss_that_nothing_can_be_learned_by_is_told(loss: str, told: str) -> None:
    with pytest.raises(ConfigError, match=f"The loss '{HERE}:{loss}' {told}"):
        autoencoder(loss=f"{HERE}:{loss}").loss(torch.randn(20, 6))


def test_a_loss_of_one_row_and_column_is_a_number() -> None:
    total, _ = autoencoder(loss=f"{HERE}:boxed").loss(torch.randn(20, 6))
    assert total.shape == ()
    total.backward()


def test_a_module_without_a_loss_serves() -> None:
    hyper = {
        "factory": "torch.nn:Linear",
        "arguments": {"in_features": 6, "out_features": 2},
    }
    model = make_model("module", (6,), hyper)
    assert model.encode(torch.zeros(4, 6)).shape == (4, 2)
    assert model.errors(torch.zeros(4, 6)) is None
    with pytest.raises(ConfigError, match="has no loss"):
        model.loss(torch.zeros(4, 6))
    with pytest.raises(ConfigError, match="The loss 'reconstruction' cannot be had"):
        make_model("module", (6,), {**hyper, "loss": "reconstruction"})
    lagged = make_model("module", (6,), {**hyper, "loss": "vamp2"})
    assert lagged.lagged
    with pytest.raises(SchemaError, match="needs at least 4 pairs at once and got 3"):
        lagged.loss(torch.zeros(3, 6), torch.zeros(3, 6))


# What torch does when it copies a program of its own.
@pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")
def test_a_program_learns_and_is_made_again(program: Path) -> None:
    model = make_model("module", (6,), {"program": str(program)})
    x = torch.randn(50, 6)
    before = model.encode(x).detach()
    train(model, x, None, updates=20, batch=20, rate=1e-2)
    after = model.encode(x).detach()
    assert not torch.equal(before, after)
    assert model.encode(x[:1]).shape == (1, 2)
    again = make_model("module", (6,), model.hyper).eval()
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.encode(x).detach(), after)
    copied = copy.deepcopy(model).eval()
    assert torch.equal(copied.encode(x).detach(), after)


def test_another_program_is_refused(program: Path, tmp_path: Path) -> None:
    hyper = make_model("module", (6,), {"program": str(program)}).hyper
    other = tmp_path / "other.pt2"
    other.write_bytes(program.read_bytes()[:-1] + b"x")
    with pytest.raises(ConfigError, match="the model was made from another"):
        make_model("module", (6,), {**hyper, "program": str(other)})
    with pytest.raises(ConfigError, match="Cannot read the program"):
        make_model("module", (6,), {**hyper, "program": str(tmp_path / "none.pt2")})
    other.write_bytes(b"no archive")
    with pytest.raises(ConfigError, match="no program that this version of torch can load"):
        make_model("module", (6,), {"program": str(other)})


def rewritten(program: Path, path: Path, name: str, change: Any) -> Path:
    with zipfile.ZipFile(program) as old, zipfile.ZipFile(path, "w") as new:
        for member in old.namelist():
            content = old.read(member)
            new.writestr(member, change(content) if member.endswith(name) else content)
    return path


def test_pickled_objects_are_refused_unread(program: Path, tmp_path: Path) -> None:
    flagged = rewritten(
        program,
        tmp_path / "flagged.pt2",
        "model_weights_config.json",
        lambda c: c.replace(b'"use_pickle": false', b'"use_pickle": true', 1),
    )
    with pytest.raises(ConfigError, match="holds pickled objects"):
        make_model("module", (6,), {"program": str(flagged)})
    # Protocol 0: call a function when read.
    planted = rewritten(
        program, tmp_path / "planted.pt2", ".pt", lambda _: b"cbuiltins\nexit\n(I3\ntR."
    )
    with pytest.raises(ConfigError, match="holds pickled objects"):
        make_model("module", (6,), {"program": str(planted)})


def test_modules_that_cannot_be_used_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give one"):
        make_model("module", (6,), {})
    with pytest.raises(ConfigError, match="must be written 'package:callable'"):
        make_model("module", (6,), {"factory": "Autoencoder"})
    with pytest.raises(ConfigError, match=r"must be a torch\.nn\.Module"):
        make_model("module", (6,), {"factory": "pathlib:Path"})
    with pytest.raises(ConfigError, match="does not take 3 frames of shape"):
        make_model("module", (5,), {"factory": f"{HERE}:Autoencoder"})
    with pytest.raises(ConfigError, match="something else each time"):
        make_model("module", (6,), {"factory": f"{HERE}:Noisy"})
    with pytest.raises(ConfigError, match=r"shape \(3, 2, 3\) for 3 frames"):
        make_model("module", (2, 3), {"factory": "torch.nn:Identity"})
    fixed = tmp_path / "fixed.pt2"
    torch.export.save(torch.export.export(nn.Linear(6, 2), (torch.zeros(5, 6),)), fixed)
    with pytest.raises(ConfigError, match="exported with a dynamic first dimension"):
        make_model("module", (6,), {"program": str(fixed)})
