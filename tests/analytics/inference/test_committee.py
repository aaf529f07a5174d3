"""Several models at once: their mean, and how far they are apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from analytics.inference.committee import Committee
from analytics.learning.registry import Registry
from bridge.errors import ConfigError, SchemaError
from bridge.frames import FrameBatch
from bridge.pipeline import Context
from tests.analytics.inference.test_operator import context, frames, spoil, wanted
from tests.analytics.inference.tiny import publish, tiny_model

torch.set_num_threads(1)


def make(folder: Path, **parameters: object) -> Committee:
    parameters = {"models": ["a", "b"], "input": "features", "poll": 0.0, **parameters}
    return Committee(registry=str(folder), **parameters)


def settle(operator: Committee) -> None:
    for serving in operator.members.servings:
        serving.settle()


def test_mean_and_disagreement_of_names(tmp_path: Path) -> None:
    for seed, name in enumerate("abc"):
        publish(tmp_path, name, seed)
    batch = frames()
    out = make(tmp_path, models=["a", "b", "c"]).process(batch, context())
    answers = np.stack([wanted(batch, seed) for seed in range(3)]).astype(float)
    mean = answers.mean(axis=0)
    apart = np.sqrt(((answers - mean) ** 2).sum(axis=2).mean(axis=0))
    np.testing.assert_allclose(out["committee"], mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(out["committee_disagreement"], apart, rtol=1e-4)
    assert out["committee_version"].tolist() == [3] * 20
    assert out["committee_members"].tolist() == [[1, 1, 1]] * 20
    assert {n: str(out[n].dtype) for n in list(out.columns)[1:]} == {
        "committee": "float32",
        "committee_disagreement": "float32",
        "committee_version": "int64",
        "committee_members": "int64",
    }


def test_errors_of_reconstruction_may_be_compared(tmp_path: Path) -> None:
    publish(tmp_path, "a", 0)
    publish(tmp_path, "b", 1, latent=3)
    batch = frames()
    out = make(tmp_path, compare="error").process(batch, context())
    x = torch.tensor(batch["features"])
    errors = [tiny_model(0).errors(x), tiny_model(1, latent=3).errors(x)]
    both = np.stack([e.detach().numpy() for e in errors if e is not None])
    np.testing.assert_allclose(out["committee"], both.mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(out["committee_disagreement"], both.std(axis=0), rtol=1e-3)


def test_until_there_are_two_nothing_is_said(tmp_path: Path) -> None:
    operator = make(tmp_path)
    out = operator.process(frames(), context())
    assert not out["committee"].any()
    publish(tmp_path, "a", 0)
    batch = frames()
    out = operator.process(batch, context())
    np.testing.assert_allclose(out["committee"], wanted(batch, 0), rtol=1e-5, atol=1e-6)
    assert not out["committee_disagreement"].any()
    assert not out["committee_version"].any()
    publish(tmp_path, "b", 1)
    out = operator.process(frames(), context())
    assert out["committee_disagreement"].all()
    publish(tmp_path, "b", 2)
    settle(operator)
    assert operator.process(frames(), context())["committee_members"].tolist() == [[1, 2]] * 20


def test_the_last_versions_of_one_name(tmp_path: Path) -> None:
    publish(tmp_path, "a", 0)
    operator = make(tmp_path, models="a", last=2)
    assert not operator.process(frames(), context())["committee_version"].any()
    for seed in (1, 2):
        publish(tmp_path, "a", seed)
        settle(operator)
    Registry(tmp_path).rollback("a", reason="worse")
    settle(operator)
    batch = frames()
    out = operator.process(batch, context())
    # Number 4 is the version of number 2; the different one before it is number 3.
    assert out["committee_members"].tolist() == [[4, 3]] * 20
    assert out["committee_version"].tolist() == [4] * 20
    mean = (wanted(batch, 1) + wanted(batch, 2)) / 2
    np.testing.assert_allclose(out["committee"], mean, rtol=1e-5, atol=1e-6)


def test_a_damaged_older_version_is_left_out(tmp_path: Path) -> None:
    publish(tmp_path, "a", 0)
    spoil(tmp_path, publish(tmp_path, "a", 1).version)
    publish(tmp_path, "a", 2)
    out = make(tmp_path, models="a", last=2).process(frames(), context())
    assert out["committee_members"].tolist() == [[3, 1]] * 20


def test_spaces_may_be_laid_on_each_other(tmp_path: Path) -> None:
    publish(tmp_path, "a", 0)
    turned = tiny_model(0)
    with torch.no_grad():
        turned.down[2].weight.copy_(-2 * turned.down[2].weight.flip(0))
        turned.down[2].bias.copy_(turned.down[2].bias + 1)
    registry = Registry(tmp_path)
    card = registry.add("b", turned, alignment=None, metrics={}, trained_on={})
    registry.promote("b", card.version, reason="for a test")
    batch = frames()
    apart = make(tmp_path).process(batch, context())["committee_disagreement"]
    assert apart.min() > 0.1
    np.save(tmp_path / "anchors.npy", frames(50, first=100)["features"])
    laid = make(tmp_path, anchors=str(tmp_path / "anchors.npy")).process(batch, context())
    assert laid["committee_disagreement"].max() < 1e-5
    np.testing.assert_allclose(laid["committee"], wanted(batch, 0), rtol=1e-4, atol=1e-5)


def test_anchors_that_are_too_few_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "anchors.npy", frames(2)["features"])
    with pytest.raises(SchemaError, match=r"2 frames in .* at least 3 are wanted"):
        make(tmp_path, anchors=str(tmp_path / "anchors.npy"))


def test_versions_that_took_other_inputs_are_no_members(tmp_path: Path) -> None:
    for seed, shape in enumerate([(5,), (7,), (5,)]):
        publish(tmp_path, "a", seed, shape=shape)
    out = make(tmp_path, models="a", last=2).process(frames(), context())
    assert out["committee_members"].tolist() == [[3, 1]] * 20


def test_frames_answered_before_get_the_members_they_had(tmp_path: Path) -> None:
    folder, ledger = tmp_path / "registry", str(tmp_path / "ledger")
    for seed, name in enumerate("ab"):
        publish(folder, name, seed)
    operator = make(folder, ledger=ledger)
    batch = frames(30)
    first = operator.process(batch.take(slice(0, 15)), context())
    publish(folder, "b", 2)
    settle(operator)
    second = operator.process(batch.take(slice(15, 30)), context())
    publish(folder, "a", 3)
    whole = FrameBatch.concatenate([first, second])
    again = make(folder, ledger=ledger, batch_size=64).process(batch, context())
    assert again["committee_members"].tolist() == whole["committee_members"].tolist()
    np.testing.assert_allclose(again["committee"], whole["committee"], rtol=1e-5, atol=1e-6)


def test_many_simulations_are_answered_together(tmp_path: Path) -> None:
    for seed, name in enumerate("ab"):
        publish(tmp_path, name, seed)
    operator = make(tmp_path)
    batches = [frames(3, first=i, simulation=f"s{i}") for i in range(5)]
    contexts = [Context("p", "o", b.simulation) for b in batches]
    for batch, out in zip(batches, operator.process_many(batches, contexts), strict=True):
        assert out is not None
        alone = operator.process(batch, context(batch.simulation))
        for name, column in alone.columns.items():
            np.testing.assert_allclose(out[name], column, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"models": "a"}, "at least two members"),
        ({"models": ["a", "b"], "last": 2}, "at least two members"),
        ({"compare": "shape"}, "'latent' or 'error'"),
        ({"anchors": "nowhere.npy"}, "cannot be read"),
        ({"models": ["a", "b", "a"]}, "always agrees with itself"),
        ({"models": ["a", "b "]}, "'models'"),
    ],
)
def test_wrong_parameters(tmp_path: Path, parameters: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        make(tmp_path, **parameters)
