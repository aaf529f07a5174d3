"""A model of the registry that answers simulations, by itself and through the command line."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from analytics.inference.surrogate import RegistrySurrogate
from analytics.learning.model import make_model
from analytics.learning.registry import Registry
from bridge.errors import ConfigError, CorruptData, SchemaError
from bridge.staging import Stager, StagerClient
from bridge.staging.inference import InferenceClient


def put(registry: Registry, factor: float) -> None:
    """Serve a model whose outputs are ``factor * a`` and the two numbers of b, within -1 to 1."""
    model = make_model(
        "regressor",
        (3,),
        {"inputs": {"a": 1, "b": 2}, "outputs": {"y": 1, "z": 2}, "depth": 0},
    )
    with torch.no_grad():
        layer = model.network[0]
        layer.weight.copy_(torch.diag(torch.tensor([factor, 1.0, 1.0])))
        layer.bias.zero_()
        model.low.fill_(-1.0)
        model.high.fill_(1.0)
    card = registry.add("law", model, alignment=None, metrics={}, trained_on={})
    registry.promote("law", card.version, reason="test")


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "models")


def test_rows_within_the_domain_are_answered(registry: Registry) -> None:
    put(registry, 3.0)
    a = np.array([0.5, 2.0, np.nan, -1.0])
    b = np.array([[0.1, 0.2]] * 4, np.float32)
    found = RegistrySurrogate("law", registry=registry.folder, device="cpu").answer(
        {"b": b, "a": a}
    )
    assert found.valid.tolist() == [True, False, False, True]
    assert found.version == 1
    assert found.reason.startswith("2 of 4 rows lie outside of what 'law' has learned")
    np.testing.assert_allclose(found["y"][found.valid], [1.5, -3.0], rtol=1e-6)
    np.testing.assert_allclose(found["z"][0], [0.1, 0.2], rtol=1e-6)


def test_another_version_is_taken_up(registry: Registry) -> None:
    surrogate = RegistrySurrogate("law", registry=registry.folder, device="cpu", poll=0.0)
    inputs = {"a": np.array([0.5]), "b": np.zeros((1, 2))}
    found = surrogate.answer(inputs)
    assert not found.valid.any()
    assert "No version of 'law' is served yet" in found.reason
    for number, factor in enumerate((2.0, 4.0), 1):
        put(registry, factor)
        found = surrogate.answer(inputs)
        assert (found.version, found["y"].tolist()) == (number, [factor * 0.5])


def test_a_version_that_is_damaged_takes_no_answers_away(
    registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    put(registry, 2.0)
    surrogate = RegistrySurrogate("law", registry=registry.folder, device="cpu", poll=0.0)
    inputs = {"a": np.array([0.5]), "b": np.zeros((1, 2))}
    assert surrogate.answer(inputs).version == 1
    put(registry, 3.0)
    served = registry.served("law")
    assert served is not None
    path = registry.folder / "versions" / f"{served.version}.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:50])
    for _ in range(3):
        found = surrogate.answer(inputs)
        assert (found.version, found["y"].tolist()) == (1, [1.0])
    assert caplog.text.count("Number 1 of 'law' goes on answering") == 1
    # Nothing else is there for who comes now.
    other = RegistrySurrogate("law", registry=registry.folder, device="cpu", poll=3600.0)
    with pytest.raises(CorruptData, match="damaged"):
        other.answer(inputs)
    # Who asks before the next look hears why, too.
    assert "damaged" in other.answer(inputs).reason
    path.write_bytes(whole)
    assert surrogate.answer(inputs).version == 2


def test_bad_inputs_and_models(registry: Registry) -> None:
    put(registry, 1.0)
    surrogate = RegistrySurrogate("law", registry=registry.folder, device="cpu")
    with pytest.raises(SchemaError, match="takes a, b; it was sent a"):
        surrogate.answer({"a": np.zeros(1)})
    with pytest.raises(SchemaError, match="'b' of the model 'law' has 2 real numbers a row"):
        surrogate.answer({"a": np.zeros(1), "b": np.zeros((1, 3))})
    model = make_model("vae", (4,), {})
    card = registry.add("other", model, alignment=None, metrics={}, trained_on={})
    registry.promote("other", card.version, reason="test")
    with pytest.raises(ConfigError, match="answered by a 'regressor'"):
        RegistrySurrogate("other", registry=registry.folder).answer({"a": np.zeros(1)})


def test_serve_model_from_the_command_line(registry: Registry) -> None:
    put(registry, 3.0)
    with Stager("tcp://127.0.0.1:0") as stager:
        stager.start()
        process = subprocess.Popen(
            [
                sys.executable, "-m", "bridge.cli", "serve-model", "law", "--registry",
                str(registry.folder), "--service", "rate", "--stager", stager.address,
                "--set", "device=cpu", "--json",
            ],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            with StagerClient(stager.address) as client:
                asker = InferenceClient(client, "sim")
                x = {"a": np.full(5, 0.5), "b": np.zeros((5, 2))}
                found = asker.infer("rate", x, timeout=100.0)
                assert found.all_valid, found.reason
                assert found["y"].tolist() == [1.5] * 5
        finally:
            process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    told = json.loads(out)
    assert (told["requests"], told["rows"], told["versions"]) == (1, 5, [1])
