"""The operator `train` with a model that learns to answer, many samples a frame."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from analytics.learning.registry import Registry
from analytics.learning.train import Train
from bridge.errors import ConfigError, SchemaError
from bridge.frames import FrameBatch
from bridge.testing.operators import CHECKS, run_operator

HYPER = {"inputs": {"u": 1, "v": 1}, "outputs": {"rate": 1}, "width": 16}


def make(folder, **changes):
    table = {
        "kind": "regressor", "input": ["u", "v"], "target": "rate", "many_samples": True,
        "hyper": HYPER, "registry": str(folder), "model": "rate", "buffer": {"max_samples": 2000},
        "batch_size": 64, "updates_per_frame": 4.0, "start_after": 20, "learning_rate": 0.01,
        "held_out": 0.25, "held_out_block": 8, "candidate_every": 50, "watch_every": 50,
        "gate": {"min_frames": 20, "blocks": 2, "window": 200, "confidence": 0.6},
        "watch_drift": False, "seed": 3, "device": "cpu", "threads": 1,
    }  # fmt: skip
    return Train(**{**table, **changes})


def stream(frames=100, samples=30, size=10):
    rng = np.random.default_rng(7)
    out = []
    for first in range(0, frames, size):
        u, v = rng.random((2, size, samples)).astype(np.float32)
        columns = {"u": u, "v": v, "rate": (u * v * v)[..., None]}
        out.append(FrameBatch.from_arrays("a", columns, first_offset=first))
    return out


def test_it_learns_to_answer(tmp_path):
    answer = run_operator(make(tmp_path), stream())
    assert [e.kind for e in answer.events].count("first_model") == 1
    registry = Registry(tmp_path)
    served = registry.served("rate")
    loaded = registry.load(served.version)
    x = torch.rand(1000, 2, generator=torch.Generator().manual_seed(1))
    true = x[:, :1] * x[:, 1:] ** 2
    loaded.model.eval()
    with torch.no_grad():
        wrong = (loaded.model.encode(x) - true).square().mean().sqrt()
    assert wrong < 0.1 * true.std()
    assert loaded.alignment is None or torch.equal(loaded.alignment.apply(true), true)
    # Whole blocks of frames are held out, and noted as such.
    trained = sum(stop - first for first, stop in loaded.card.trained_on["a"])
    assert 50 < trained < 100


@pytest.mark.parametrize("check", CHECKS)
def test_it_is_an_operator_like_any_other(check, tmp_path):
    check(lambda: make(tmp_path, updates_per_frame=0.5, candidate_every=20), stream(60, 5))


def test_one_sample_a_frame(tmp_path):
    batches = [
        FrameBatch.from_arrays(
            b.simulation,
            {k: np.ascontiguousarray(b[k][:, 0]) for k in ("u", "v", "rate")},
            first_offset=b.first,
        )
        for b in stream(200, 1)
    ]
    answer = run_operator(
        make(tmp_path, many_samples=False, batch_size=16, updates_per_frame=0.5), batches
    )
    assert answer.batches[-1]["updates"][-1] == 90


def test_what_does_not_go_together(tmp_path):
    with pytest.raises(ConfigError, match="set the parameter 'target'"):
        run_operator(make(tmp_path, target=()), stream(20))
    with pytest.raises(ConfigError, match="leave out the parameter 'target'"):
        run_operator(make(tmp_path, kind="vae", hyper={}), stream(20))
    with pytest.raises(SchemaError, match=r"no column 'w' \(its parameter 'target'\)"):
        run_operator(make(tmp_path, target="w"), stream(20))
    uneven = [b.with_columns({"v": b["v"][:, :4]}) for b in stream(20)]
    with pytest.raises(SchemaError, match="same number of rows"):
        run_operator(make(tmp_path), uneven)
