"""The networks of the house, and anybody's own, through a registry and its gate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from analytics.learning.alignment import align
from analytics.learning.model import StreamModel, make_model
from analytics.learning.registry import Gate, HeldOut, Lifecycle, Registry
from bridge.errors import ConfigError

MODELS: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "cvae": ((12, 12), {}),
    "deeptica": ((4,), {}),
    "pointcloud": ((8, 3), {}),
    "tae": ((4,), {}),
    "vae": ((4,), {}),
    "vampnet": ((4,), {}),
}


@pytest.mark.parametrize("kind", MODELS)
def test_every_kind_comes_back_as_it_was(kind: str, tmp_path: Path) -> None:
    shape, hyper = MODELS[kind]
    torch.manual_seed(0)
    model = make_model(kind, shape, hyper)
    x = torch.rand(40, *shape)
    model.prepare(x)
    model.eval()
    with torch.no_grad():
        z = model.encode(x)
        before = Registry(tmp_path).add("m", model)
        alignment = align(z.numpy() @ np.eye(model.latent)[::-1], z.numpy())
        card = Registry(tmp_path).add("m", model, alignment=alignment)
        # The alignment is part of what a version is.
        assert card.version != before.version
        loaded = Registry(tmp_path).load(card.version)
        assert loaded.alignment is not None
        assert torch.equal(loaded.model.encode(x), z)
        assert torch.equal(loaded.alignment.apply(z), alignment.apply(z))
    assert (loaded.card.kind, loaded.card.latent, loaded.card.aligned) == (kind, z.shape[1], True)
    assert loaded.model.hyper == model.hyper


def test_a_program_needs_its_file_no_longer(tmp_path: Path) -> None:
    path = tmp_path / "mine.pt2"
    batch = torch.export.Dim("batch", min=1)
    net = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)).eval()
    exported = torch.export.export(net, (torch.zeros(3, 4),), dynamic_shapes=({0: batch},))
    torch.export.save(exported, path)
    model = make_model("module", (4,), {"program": str(path)})
    registry = Registry(tmp_path / "models")
    card = registry.add("mine", model)
    path.unlink()
    x = torch.rand(5, 4)
    with torch.no_grad():
        assert torch.equal(registry.load(card.version).model.encode(x), net(x))


@pytest.mark.parametrize("factory", ["subprocess:run", "os:system", "torch:load", "shutil:rmtree"])
def test_a_card_cannot_have_anything_called(factory: str, tmp_path: Path) -> None:
    model = make_model("module", (4,), {"factory": "torch.nn:Identity", "loss": ""})
    registry = Registry(tmp_path)
    sound = registry.add("mine", model)
    assert registry.load(sound.version).model.latent == 4
    model.hyper["factory"] = factory
    card = registry.add("mine", model)
    with pytest.raises(ConfigError, match="makes no model; it is not loaded"):
        registry.load(card.version)


def slow_process(n: int, seed: int) -> np.ndarray[Any, Any]:
    """Two wells, visited in turn for long, in the first of four coordinates."""
    dice = np.random.default_rng(seed)
    wells = np.cumsum(dice.random(n) < 0.02) % 2 * 2.0 - 1.0
    x = 0.3 * dice.normal(size=(n, 4))
    x[:, 0] += wells
    return x.astype(np.float32)


def train(model: StreamModel, x: torch.Tensor, y: torch.Tensor, updates: int) -> None:
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(updates):
        optimiser.zero_grad()
        model.loss(x, y)[0].backward()
        optimiser.step()


def test_slow_modes_at_the_gate(tmp_path: Path) -> None:
    frames = slow_process(2000, 1)
    x, y = torch.from_numpy(frames[:-5]), torch.from_numpy(frames[5:])
    torch.manual_seed(0)
    model = make_model("vampnet", (4,), {})
    model.prepare(x)
    other = slow_process(1000, 2)
    held = HeldOut(other[:-5], other[5:])
    life = Lifecycle(Registry(tmp_path), "slow", Gate(window=500, patience=2))
    assert life.consider(model, held).promoted
    train(model, x, y, 40)
    verdict = life.consider(model, held, updates=40)
    assert verdict.promoted, verdict.reason
    assert verdict.served is not None
    # A worse one by hand: the frames themselves show it, and it is taken back.
    spoiled = make_model("vampnet", (4,), {})
    spoiled.prepare(x)
    card = life.registry.add("slow", spoiled)
    life.registry.promote("slow", card.version, reason="A guess.", metrics={"score": 1.9})
    back = None
    for seed in range(3, 6):
        new = slow_process(505, seed)
        back = back or life.watch(new[:-5], new[5:])
    assert back is not None, life.said
    assert back.version == verdict.card.version


def test_slow_modes_wait_for_as_many_frames_as_they_need(tmp_path: Path) -> None:
    frames = slow_process(200, 1)
    model = make_model("vampnet", (4,), {"latent": 8})
    model.prepare(torch.from_numpy(frames))
    life = Lifecycle(Registry(tmp_path), "slow", Gate(min_frames=4, blocks=2))
    for n in (0, 3, 9, 19):
        verdict = life.consider(model, HeldOut(frames[:n], frames[1 : n + 1]))
        assert not verdict.promoted
        assert f"{n} held-out frames are too few to judge by; 20 are wanted" in verdict.reason
    assert life.consider(model, HeldOut(frames[:20], frames[1:21])).promoted
    # Nor is what is served found unusable by frames that are too few for it alone.
    small = make_model("vampnet", (4,), {"latent": 1})
    small.prepare(torch.from_numpy(frames))
    verdict = life.consider(small, HeldOut(frames[:12], frames[1:13]))
    assert not verdict.promoted
    assert "12 held-out frames are too few" in verdict.reason
