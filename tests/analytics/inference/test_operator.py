"""Coordinates by the served version, swapped between batches; answered again, the same."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from analytics.inference.operator import Infer
from analytics.learning.registry import Registry
from bridge.errors import ConfigError, PipelineError, SchemaError
from bridge.frames import FrameBatch
from bridge.pipeline import Context, Pipeline
from bridge.testing.operators import random_stream
from tests.analytics.inference.tiny import TinyModel, Undecoded, publish, tiny_model

torch.set_num_threads(1)

STREAM = random_stream({"features": (5,)}, simulations=1, frames=60, seed=3, gaps=False)


def frames(n: int = 20, *, first: int = 0, simulation: str = "a") -> FrameBatch:
    rng = np.random.default_rng(first)
    values = rng.normal(size=(n, 5)).astype(np.float32)
    return FrameBatch.from_arrays(simulation, {"features": values}, first_offset=first)


def context(simulation: str = "a") -> Context:
    return Context("pipeline", "infer", simulation)


def make(folder: Path, **parameters: object) -> Infer:
    parameters = {"model": "tiny", "input": "features", "poll": 0.0, **parameters}
    return Infer(registry=str(folder), **parameters)


def wanted(batch: FrameBatch, seed: int, **hyper: object) -> np.ndarray:
    """Return what the model of a seed says to each row, one at a time."""
    model = tiny_model(seed, **hyper)
    with torch.no_grad():
        return np.concatenate([model.encode(torch.tensor(row[None])) for row in batch["features"]])


def test_rows_are_answered_by_the_served_version(tmp_path: Path) -> None:
    publish(tmp_path, seed=1)
    batch = frames()
    out = make(tmp_path).process(batch, context())
    assert list(out.columns) == ["features", "latent", "latent_version"]
    assert out["latent"].dtype == np.float32
    np.testing.assert_allclose(out["latent"], wanted(batch, 1), rtol=1e-5, atol=1e-6)
    assert out["latent_version"].tolist() == [1] * 20


def test_errors_of_reconstruction(tmp_path: Path) -> None:
    publish(tmp_path, seed=1)
    batch = frames()
    out = make(tmp_path, errors=True, output="y").process(batch, context())
    assert list(out.columns) == ["features", "y", "y_version", "y_error"]
    theirs = tiny_model(1).errors(torch.tensor(batch["features"]))
    assert theirs is not None
    np.testing.assert_allclose(out["y_error"], theirs.detach(), rtol=1e-5)


def test_large_batches_are_cut_and_small_ones_filled_up(tmp_path: Path) -> None:
    publish(tmp_path, seed=1)
    batch = frames(75)
    whole = make(tmp_path).process(batch, context())
    cut = make(tmp_path, batch_size=20).process(batch, context())
    alone = make(tmp_path, least=1).process(batch, context())
    np.testing.assert_allclose(cut["latent"], whole["latent"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(alone["latent"], whole["latent"], rtol=1e-5, atol=1e-6)


def test_many_simulations_are_answered_together(tmp_path: Path) -> None:
    publish(tmp_path, seed=1)
    operator = make(tmp_path, errors=True)
    batches = [frames(3, first=i, simulation=f"s{i}") for i in range(9)]
    together = operator.process_many(batches, [context(b.simulation) for b in batches])
    assert operator.statistics.calls == 1
    for batch, out in zip(batches, together, strict=True):
        alone = make(tmp_path, errors=True).process(batch, context(batch.simulation))
        for name in out.columns:
            np.testing.assert_allclose(out[name], alone[name], rtol=1e-5, atol=1e-6)


def test_columns_side_by_side(tmp_path: Path) -> None:
    publish(tmp_path, seed=1)
    batch = frames()
    split = batch.with_columns({"a": batch["features"][:, :2].astype(float),
                                "b": batch["features"][:, 2:]})  # fmt: skip
    ours = make(tmp_path, input=["a", "b"]).process(split, context())
    assert ours["latent"].tobytes() == make(tmp_path).process(batch, context())["latent"].tobytes()


def test_before_the_first_model_there_is_nothing(tmp_path: Path) -> None:
    operator, said = make(tmp_path / "models"), context()
    for _ in range(2):
        out = operator.process(frames(), said)
        assert not out["latent"].any()
        assert out["latent_version"].tolist() == [0] * 20
    assert operator.statistics.waiting == 40
    # A name or a folder that is misspelt looks like this, too.
    (event,) = said.events
    assert (event.kind, event.level) == ("model_awaited", "info")
    assert f"'tiny' in {tmp_path}/models, a folder that is not there yet" in event.message
    publish(tmp_path / "models", seed=2)
    assert operator.process(frames(), context())["latent_version"].tolist() == [1] * 20


def test_a_promotion_is_taken_between_batches(tmp_path: Path) -> None:
    publish(tmp_path, seed=1)
    operator = make(tmp_path)
    operator.process(frames(), context())
    publish(tmp_path, seed=2)
    first = operator.process(frames(), context())
    assert set(first["latent_version"].tolist()) <= {1, 2}
    operator.serving.settle()
    batch = frames()
    out = operator.process(batch, context())
    assert out["latent_version"].tolist() == [2] * 20
    np.testing.assert_allclose(out["latent"], wanted(batch, 2), rtol=1e-5, atol=1e-6)
    assert operator.serving.swaps == 1


def test_a_rollback_is_a_new_number(tmp_path: Path) -> None:
    publish(tmp_path, seed=1)
    operator = make(tmp_path)
    before = operator.process(frames(), context())
    publish(tmp_path, seed=2)
    operator.serving.settle()
    Registry(tmp_path).rollback("tiny", reason="worse")
    operator.serving.settle()
    out = operator.process(frames(), context())
    assert out["latent_version"].tolist() == [3] * 20
    assert out["latent"].tobytes() == before["latent"].tobytes()


def spoil(folder: Path, version: str) -> None:
    """Damage the tensors of a version."""
    path = folder / "versions" / f"{version}.safetensors"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"!")


def test_a_damaged_version_is_told_once_and_the_old_one_serves(tmp_path: Path) -> None:
    publish(tmp_path, seed=1)
    operator = make(tmp_path)
    operator.process(frames(), context())
    spoil(tmp_path, publish(tmp_path, seed=2).version)
    operator.serving.settle()
    events = []
    for _ in range(3):
        said = context()
        out = operator.process(frames(), said)
        assert out["latent_version"].tolist() == [1] * 20
        events += said.events
    assert [e.kind for e in events] == ["model_refused"]
    assert "goes on serving" in events[0].message
    publish(tmp_path, seed=3)
    operator.serving.settle()
    assert operator.process(frames(), context())["latent_version"].tolist() == [3] * 20


def test_a_version_that_takes_other_inputs_does_not_come_into_service(tmp_path: Path) -> None:
    publish(tmp_path, seed=1)
    operator = make(tmp_path)
    operator.process(frames(), context())
    for shape, number in ((7,), 1), ((5, 1), 3):
        publish(tmp_path, seed=2, shape=shape)
        operator.serving.settle()
        said = context()
        assert operator.process(frames(), said)["latent_version"].tolist() == [number] * 20
        if number == 1:
            assert [e.kind for e in said.events] == ["model_refused"]
            assert "takes inputs of shape [7], and the one in service [5]" in said.events[0].message


def test_weights_that_are_not_finite_do_not_come_into_service(tmp_path: Path) -> None:
    publish(tmp_path, seed=1)
    operator = make(tmp_path)
    operator.process(frames(), context())
    model = tiny_model(2)
    with torch.no_grad():
        model.up.bias[0] = torch.nan
    registry = Registry(tmp_path)
    registry.promote("tiny", registry.add("tiny", model).version, reason="By hand, unseen.")
    operator.serving.settle()
    said = context()
    assert operator.process(frames(), said)["latent_version"].tolist() == [1] * 20
    assert [e.kind for e in said.events] == ["model_refused"]
    assert "Weights of version" in said.events[0].message


def test_at_the_start_the_newest_sound_version_serves(tmp_path: Path) -> None:
    publish(tmp_path, seed=1)
    spoil(tmp_path, publish(tmp_path, seed=2).version)
    said = context()
    out = make(tmp_path).process(frames(), said)
    assert out["latent_version"].tolist() == [1] * 20
    assert [e.kind for e in said.events] == ["model_refused"]


def test_frames_answered_before_get_the_version_they_had(tmp_path: Path) -> None:
    folder, ledger = tmp_path / "registry", str(tmp_path / "ledger")
    publish(folder, seed=1)
    operator = make(folder, ledger=ledger)
    first = [operator.process(frames(10, first=i), context()) for i in range(0, 30, 10)]
    publish(folder, seed=2)
    operator.serving.settle()
    first += [operator.process(frames(10, first=i), context()) for i in range(30, 50, 10)]
    whole = FrameBatch.concatenate(first)
    assert whole["latent_version"].tolist() == [1] * 30 + [2] * 20
    publish(folder, seed=3)
    # Killed, and begun anew from offset 5, with other batches; number 3 is in service now.
    again = make(folder, ledger=ledger, device="cpu")
    given = FrameBatch.concatenate([b.select(["features"]) for b in first])
    out = [again.process(given.take(slice(5, 42)), context())]
    out += [again.process(given.take(slice(42, 50)), context())]
    replayed = FrameBatch.concatenate(out)
    assert replayed["latent_version"].tolist() == whole["latent_version"][5:].tolist()
    np.testing.assert_allclose(replayed["latent"], whole["latent"][5:], rtol=1e-5, atol=1e-6)
    new = again.process(frames(10, first=50), context())
    assert new["latent_version"].tolist() == [3] * 10


def test_a_batch_may_be_half_old(tmp_path: Path) -> None:
    folder, ledger = tmp_path / "registry", str(tmp_path / "ledger")
    operator = make(folder, ledger=ledger)
    operator.process(frames(10), context())
    publish(folder, seed=1)
    make(folder, ledger=ledger).process(frames(10, first=10), context())
    out = make(folder, ledger=ledger).process(frames(40), context())
    assert out["latent_version"].tolist() == [0] * 10 + [1] * 30
    assert not out["latent"][:10].any()
    assert out["latent"][10:].all()


def test_a_version_that_is_gone_cannot_be_replayed(tmp_path: Path) -> None:
    folder, ledger = tmp_path / "registry", str(tmp_path / "ledger")
    old = publish(folder, seed=1).version
    make(folder, ledger=ledger).process(frames(), context())
    publish(folder, seed=2)
    spoil(folder, old)
    operator = make(folder, ledger=ledger, batch_size=64)
    with pytest.raises(PipelineError, match="Bring the version back"):
        operator.process(frames(), context())


def test_what_is_not_finite(tmp_path: Path) -> None:
    publish(tmp_path, seed=1)
    batch = frames()
    values = batch["features"].copy()
    values[[3, 7], 1] = np.nan
    bad = batch.with_columns({"features": values})
    with pytest.raises(SchemaError, match="at offset 3"):
        make(tmp_path).process(bad, context())
    operator = make(tmp_path, nonfinite="nan", errors=True)
    out = operator.process(bad, context())
    good = make(tmp_path, errors=True).process(batch, context())
    rows = np.isfinite(out["latent"]).all(axis=1)
    assert np.flatnonzero(~rows).tolist() == [3, 7]
    assert np.isnan(out["latent_error"][[3, 7]]).all()
    assert out["latent"][rows].tobytes() == good["latent"][rows].tobytes()
    assert operator.statistics.nonfinite == 2


def test_what_float32_cannot_hold_is_not_finite(tmp_path: Path) -> None:
    publish(tmp_path, seed=1)
    values = frames()["features"].astype(np.float64)
    values[4, 2] = -1e300
    bad = FrameBatch.from_arrays("a", {"features": values}, first_offset=0)
    with pytest.raises(SchemaError, match="of 'a' at offset 4 that is beyond float32"):
        make(tmp_path).process(bad, context())
    operator = make(tmp_path, nonfinite="nan")
    out = operator.process(bad, context())
    assert np.flatnonzero(~np.isfinite(out["latent"]).all(axis=1)).tolist() == [4]
    assert operator.statistics.nonfinite == 1
    # Infinities of both signs have no sum.
    values[4, :2] = np.inf, -np.inf
    with pytest.raises(SchemaError, match="not finite in 'features' of 'a' at offset 4"):
        make(tmp_path).process(bad, context())


class Through(TinyModel):
    """Hands on the first numbers."""

    kind = "tests.analytics.inference.test_operator:Through"

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1)[:, :2]


def test_answers_are_nobody_elses_memory(tmp_path: Path) -> None:
    publish(tmp_path, make=Through)
    operator = make(tmp_path)
    first, second = frames(20), frames(20, first=20)
    out = operator.process(first, context())
    operator.process(second, context())
    assert out["latent"].tobytes() == first["features"][:, :2].tobytes()


def test_copies_share_the_loaded_version_and_no_counts(tmp_path: Path) -> None:
    publish(tmp_path, seed=1)
    operator = make(tmp_path)
    operator.process(frames(), context())
    pipeline = Pipeline("p", [("infer", operator)])
    other = copy.deepcopy(operator)
    assert other.statistics.rows == 0
    assert other.serving is operator.serving
    name, fresh = pipeline.fresh("frame")[0]
    assert name == "infer"
    assert fresh is not operator


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"n_components": 3}, "set n_components = 2"),
        ({"errors": True, "model": "undecoded"}, "set errors = false"),
        ({"device": "tpu"}, "must be one of auto, cpu, cuda"),
        ({"precision": "float16", "device": "cpu"}, "is for GPUs"),
        ({"batch_size": 0}, "'batch_size'"),
        ({"nonfinite": "drop"}, "'nonfinite'"),
        ({"model": ""}, "'model'"),
    ],
)
def test_wrong_parameters(tmp_path: Path, parameters: dict[str, object], says: str) -> None:
    publish(tmp_path, seed=1)
    publish(tmp_path, "undecoded", make=Undecoded)
    with pytest.raises(ConfigError, match=says):
        make(tmp_path, **parameters).process(frames(), context())


@pytest.mark.skipif(torch.cuda.is_available(), reason="There is a GPU here.")
def test_a_gpu_that_is_not_there(tmp_path: Path) -> None:
    publish(tmp_path, seed=1)
    with pytest.raises(ConfigError, match="finds no GPU"):
        make(tmp_path, device="cuda").process(frames(), context())


def test_another_size_of_input(tmp_path: Path) -> None:
    publish(tmp_path, shape=(4,))
    with pytest.raises(SchemaError, match="takes 4 numbers a frame"):
        make(tmp_path).process(frames(), context())
    with pytest.raises(SchemaError, match="no column 'x'"):
        make(tmp_path, input="x").process(frames(), context())
