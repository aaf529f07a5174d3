"""A detector keeps its memory when the network that makes its space is renewed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from analytics.inference.operator import Infer
from analytics.novelty import LocalOutlier, Space, VisitCounts
from analytics.policies import RestartRare
from bridge.errors import ConfigError
from bridge.frames import FrameBatch
from bridge.pipeline import Context
from tests.analytics.inference.tiny import publish
from tests.analytics.novelty.encoded import answered

NETWORK = {"input": "latent", "features": "features", "model": "tiny"}


@pytest.fixture
def infer(tmp_path: Path) -> Infer:
    for seed in (1, 2):
        publish(tmp_path, seed=seed)
    return Infer(model="tiny", registry=str(tmp_path), input="features", errors=True)


def frames(n: int, number: int, infer: Infer, *, first: int = 0, name: str = "a") -> FrameBatch:
    rng = np.random.default_rng(first)
    values = {"features": rng.normal(size=(n, 5)), "positions": rng.normal(size=(n, 4, 3))}
    batch = FrameBatch.from_arrays(name, values, first_offset=first)
    return answered(batch, np.full(n, number, np.int64), infer)


def test_remembered_frames_are_encoded_by_the_new_version(infer: Infer) -> None:
    operator = VisitCounts(registry=infer.registry, width=0.3, **NETWORK)
    old, new = frames(200, 1, infer), frames(50, 2, infer, first=200)
    operator.process(old, Context())
    operator.process(new, Context())
    memory = operator._visited.memory
    again = answered(old, np.full(200, 2), infer)
    np.testing.assert_allclose(memory["coordinates"][:200], again["latent"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(memory["coordinates"][200:], new["latent"], rtol=1e-6)
    assert operator._visited.bins is not None
    assert operator._visited.bins.counts.sum() == 250


def test_rows_of_an_older_version_are_brought_to_the_newest(infer: Infer) -> None:
    operator = VisitCounts(registry=infer.registry, **NETWORK)
    operator.process(frames(20, 2, infer), Context())
    late = frames(10, 1, infer, name="b", first=40)
    out = operator.process(late, Context())
    assert out["latent"].tobytes() == late["latent"].tobytes()
    assert operator._visited.space.version == 2
    again = answered(late, np.full(10, 2), infer)
    memory = operator._visited.memory["coordinates"]
    np.testing.assert_allclose(memory[20:], again["latent"], rtol=1e-4, atol=1e-5)


def test_the_outlier_factor_goes_on_in_the_new_space(infer: Infer) -> None:
    operator = LocalOutlier(registry=infer.registry, neighbours=5, minimum=50, **NETWORK)
    operator.process(frames(600, 1, infer), Context())
    new = frames(50, 2, infer, first=600)
    out = operator.process(new, Context())
    assert (out["novelty_version"] > 0).all()
    # As if the new version had answered all of them.
    other = LocalOutlier(registry=infer.registry, neighbours=5, minimum=50, **NETWORK)
    other.process(frames(600, 2, infer), Context())
    expected = other.process(new, Context())["novelty"]
    # That one was fitted at 500 frames, this one when the version changed.
    assert np.median(np.abs(out["novelty"] - expected)) < 0.1


def test_errors_and_disagreement_are_criteria(infer: Infer) -> None:
    often = {"interval": 5, "patience": 1000, "min_frames": 50, "top": 3, "expires": 0.0}
    restart = RestartRare(
        registry=infer.registry, mode="novel", **{**NETWORK, "input": "latent_error"}, **often
    )
    old, new = frames(100, 1, infer), frames(40, 2, infer, first=100)
    context = Context(simulation="a")
    restart.process(old.take(slice(0, 4)), context)
    restart.process(old.take(slice(4, 100)), context)
    assert context.commands
    restart.process(new, context)
    scores = restart._visited.memory["score"]
    both = answered(FrameBatch.concatenate([old, new]), np.full(140, 2), infer)
    np.testing.assert_allclose(scores, both["latent_error"], rtol=1e-4, atol=1e-5)
    # Without the network, each frame keeps the score that it came with.
    plain = RestartRare(mode="novel", input="latent_error", **often)
    plain.process(old, Context(simulation="a"))
    plain.process(new, Context(simulation="a"))
    kept = np.concatenate([old["latent_error"], new["latent_error"]])
    np.testing.assert_allclose(plain._visited.memory["score"], kept)


def test_nobody_is_restarted_before_there_is_a_model(infer: Infer) -> None:
    restart = RestartRare(mode="novel", input="latent_error", interval=1, min_frames=1)
    context = Context(simulation="a")
    restart.process(frames(30, 0, infer), context)
    assert not context.commands


def test_a_registry_by_itself_says_nothing(tmp_path: Path) -> None:
    plain = VisitCounts(input="x", registry=str(tmp_path))
    assert type(plain._visited.space) is Space


@pytest.mark.parametrize("missing", ["features", "registry"])
def test_what_a_network_needs(infer: Infer, missing: str) -> None:
    given = {**NETWORK, "registry": infer.registry, missing: ""}
    with pytest.raises(ConfigError, match="needs 'model' and 'registry'"):
        VisitCounts(**given)
