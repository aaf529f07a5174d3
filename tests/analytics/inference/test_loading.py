"""A version is loaded once a process; what cannot be had of a way is told, and done without."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from analytics.inference.encoder import Encoder
from analytics.inference.loading import (
    forget_encoders,
    load_encoder,
    loading_statistics,
)
from analytics.inference.ways import Compile, Way
from analytics.learning.alignment import Alignment
from analytics.learning.registry import Registry
from bridge.errors import HeadraceError
from tests.analytics.inference.test_operator import context, frames, make
from tests.analytics.inference.tiny import TinyModel, publish

torch.set_num_threads(1)

CPU = Way(device="cpu")
TORCHS_OWN = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")


class Complex(TinyModel):
    """Calls what there is in no low precision."""

    kind = "tests.analytics.inference.test_loading:Complex"

    def encode(self, x: Tensor) -> Tensor:
        z = super().encode(x)
        return torch.complex(z, z).abs()


class Undecided(TinyModel):
    """Looks at its numbers before it knows what to do: no program can be made of that."""

    kind = "tests.analytics.inference.test_loading:Undecided"

    def encode(self, x: Tensor) -> Tensor:
        if float(x.sum()) > 1e9:
            return super().encode(x / 2)
        return super().encode(x)


class Touchy(TinyModel):
    """Small differences of large numbers: no model for bfloat16."""

    kind = "tests.analytics.inference.test_loading:Touchy"

    def encode(self, x: Tensor) -> Tensor:
        far = self.down(x) @ torch.full((2, 2), 1000.0)
        return far - far.detach().round() * (1 + 1e-2)


def test_threads_that_ask_at_once_get_the_same(tmp_path: Path) -> None:
    served = publish(tmp_path, seed=1)
    before = loading_statistics()
    found: list[Encoder] = []
    start = threading.Barrier(8)

    def ask() -> None:
        start.wait(30)
        found.append(load_encoder(Registry(tmp_path), served.version, CPU))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 8
    assert len({id(encoder) for encoder in found}) == 1
    after = loading_statistics()
    assert (after.loaded - before.loaded, after.shared - before.shared) == (1, 7)
    forget_encoders()
    assert load_encoder(Registry(tmp_path), served.version, CPU) is not found[0]


def test_what_fails_is_tried_again(tmp_path: Path) -> None:
    served = publish(tmp_path, seed=1)
    path = tmp_path / "versions" / f"{served.version}.safetensors"
    kept = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(kept[:-1] + b"!")
    for _ in range(2):
        with pytest.raises(HeadraceError):
            load_encoder(Registry(tmp_path), served.version, CPU)
    path.write_bytes(kept)
    assert load_encoder(Registry(tmp_path), served.version, CPU).latent == 2


@TORCHS_OWN
@pytest.mark.parametrize("how", ["export", "compile"])
def test_a_compiled_program_answers_alike(
    how: Compile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if how == "compile" and shutil.which("g++") is None:
        pytest.skip("torch.compile needs a compiler of C++, and there is no g++.")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))
    served = publish(tmp_path, seed=1)
    registry = Registry(tmp_path)
    plain = load_encoder(registry, served.version, CPU, errors=True)
    # As many rows at least as at most: one shape, where each costs a compiler.
    way = Way(device="cpu", compile=how, batch_size=64, least=64)
    compiled = load_encoder(registry, served.version, way, errors=True)
    assert not compiled.fallbacks
    for n in (1, 40, 150):
        rows = frames(n)["features"]
        for ours, theirs in zip(compiled(rows), plain(rows), strict=True):
            assert ours is not None
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@TORCHS_OWN
def test_without_a_compiler_the_module_itself_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("no-such-compiler",))
    folder = tmp_path / "models"
    served = publish(folder, seed=2)
    way = Way(device="cpu", compile="compile", batch_size=16)
    encoder = load_encoder(Registry(folder), served.version, way)
    assert "runs in eager: compile failed" in encoder.fallbacks[0]
    rows = frames(20)["features"]
    plain = load_encoder(Registry(folder), served.version, CPU)
    assert encoder(rows)[0].tobytes() == plain(rows)[0].tobytes()


def test_where_compiling_fails_the_module_itself_runs(tmp_path: Path) -> None:
    publish(tmp_path, make=Undecided)
    before = loading_statistics().fallbacks
    operator = make(tmp_path, compile="export", device="cpu")
    said = context()
    out = operator.process(frames(), said)
    plain = make(tmp_path, device="cpu").process(frames(), context())
    assert out["latent"].tobytes() == plain["latent"].tobytes()
    assert [event.kind for event in said.events] == ["model_fallback"]
    assert "runs in eager: export failed" in said.events[0].message
    assert loading_statistics().fallbacks == before + 1
    again = context()
    operator.process(frames(), again)
    assert not again.events


def test_lower_precision_where_it_is_safe(tmp_path: Path) -> None:
    way = Way(device="cpu", precision="bfloat16")
    registry = Registry(tmp_path)
    served = publish(tmp_path, seed=1)
    rows = frames(50)["features"]
    rough = load_encoder(registry, served.version, way)
    exact = load_encoder(registry, served.version, CPU)
    assert not rough.fallbacks
    z, _ = rough(rows)
    assert z.dtype == np.float32
    assert 0 < np.abs(z - exact(rows)[0]).max() < 0.05
    touchy = load_encoder(registry, publish(tmp_path, make=Touchy).version, way)
    assert "bfloat16 changes answers" in touchy.fallbacks[0]


def test_what_low_precision_lacks_is_done_without(tmp_path: Path) -> None:
    served = publish(tmp_path, make=Complex)
    encoder = load_encoder(
        Registry(tmp_path), served.version, Way(device="cpu", precision="bfloat16")
    )
    assert "runs in float32: bfloat16 failed" in encoder.fallbacks[0]
    plain = load_encoder(Registry(tmp_path), served.version, CPU)
    rows = frames(20)["features"]
    assert encoder(rows)[0].tobytes() == plain(rows)[0].tobytes()


def test_half_precision_without_a_gpu(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("There is a GPU here.")
    served = publish(tmp_path, seed=1)
    encoder = load_encoder(Registry(tmp_path), served.version, Way(precision="float16"))
    assert "float16 is for GPUs" in encoder.fallbacks[0]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="There is no GPU that torch can use.")
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_on_a_gpu(tmp_path: Path, precision: str) -> None:
    served = publish(tmp_path, seed=1)
    registry = Registry(tmp_path)
    rows = frames(300)["features"]
    there = load_encoder(registry, served.version, Way(device="cuda", precision=precision))  # type: ignore[arg-type]
    z, _ = there(rows)
    near = 1e-5 if precision == "float32" else 0.05
    np.testing.assert_allclose(z, load_encoder(registry, served.version, CPU)(rows)[0], atol=near)


def test_the_alignment_is_applied(tmp_path: Path) -> None:
    angle = torch.tensor(0.5, dtype=torch.float64)
    rotation = torch.stack(
        [torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])]
    )
    alignment = Alignment(rotation, 1.5, torch.tensor([1.0, -2.0], dtype=torch.float64))
    served = publish(tmp_path, seed=1, alignment=alignment)
    encoder = load_encoder(Registry(tmp_path), served.version, CPU)
    rows = frames(30)["features"]
    with torch.no_grad():
        wanted = alignment.apply(encoder.model.encode(torch.tensor(rows)))
    np.testing.assert_allclose(encoder(rows)[0], wanted, rtol=1e-5, atol=1e-6)


def test_threads_of_torch_are_set(tmp_path: Path) -> None:
    served = publish(tmp_path, seed=1)
    load_encoder(Registry(tmp_path), served.version, Way(device="cpu", threads=2))
    assert torch.get_num_threads() == 2
    load_encoder(Registry(tmp_path), served.version, Way(device="cpu", threads=1))
    assert torch.get_num_threads() == 1
