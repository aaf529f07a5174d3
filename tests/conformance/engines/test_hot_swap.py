"""A model that is renewed while the stream runs, on every engine: nothing lost, nothing twice."""

from __future__ import annotations

import threading
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from bridge.engines.job import Job
from bridge.engines.local import LocalEngine
from bridge.engines.results import read_results
from bridge.frames import FrameBatch
from bridge.pipeline import Pipeline
from bridge.schema import StreamSchema
from bridge.staging import Producer, Stager, StagerClient
from tests.bridge.engines.pipelines import Norm
from tests.conformance.engines.test_conformance import ENGINES, OPTIONS, recorded, run

if find_spec("torch") is None:
    pytest.skip("There is no torch in this environment.", allow_module_level=True)

import torch

from analytics.inference.operator import Infer
from analytics.learning.registry import Registry
from tests.analytics.inference.tiny import publish

NAMES = ("a", "b", "c")
PATIENCE = 150.0


class Feeder(threading.Thread):
    """Puts frames of all simulations, and promotes, until each was answered by both versions."""

    def __init__(self, address: str, folder: Path) -> None:
        super().__init__(daemon=True)
        self.address = address
        self.folder = folder
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            self._feed()
        except BaseException as error:
            self.failure = error

    def _feed(self) -> None:
        rng = np.random.default_rng(0)
        schema = StreamSchema.from_arrays({"features": np.zeros(5, np.float32)})
        producers = [Producer(n, schema, address=self.address, timeout=60.0) for n in NAMES]
        deadline = time.monotonic() + PATIENCE
        step, wanted = 0, 1
        pause = threading.Event()
        try:
            with StagerClient(self.address) as client:
                while wanted < 3:
                    assert time.monotonic() < deadline, f"Version {wanted} did not answer in time."
                    for _ in range(3):
                        step += 1
                        for producer in producers:
                            values = rng.normal(size=5).astype(np.float32)
                            producer.put(step, float(step), {"features": values})
                    pause.wait(0.05)
                    if all(self._answered(client, name) >= wanted for name in NAMES):
                        wanted += 1
                        if wanted == 2:
                            publish(self.folder, seed=2)
        finally:
            for producer in producers:
                producer.close(finished=True)

    def _answered(self, client: StagerClient, name: str) -> int:
        found = read_results(client, "swap", name)
        return -1 if found is None or not len(found) else int(found["latent_version"].max())


@pytest.mark.parametrize("engine", ["local", "hosted"] if ENGINES == ["hosted"] else ENGINES)
def test_a_hot_swap_in_the_middle(
    engine: str, stager: Stager, reader: StagerClient, tmp_path: Path
) -> None:
    folder = tmp_path / "registry"
    publish(folder, seed=1)
    infer = Infer(
        model="tiny",
        registry=str(folder),
        input="features",
        errors=True,
        poll=0.05,
        ledger=str(tmp_path / "ledger"),
    )
    pipeline = Pipeline("swap", [("infer", infer), ("norm", Norm(input="latent"))])
    feeder = Feeder(stager.address, folder)
    feeder.start()
    if engine == "local":
        with StagerClient(stager.address) as client:
            LocalEngine(pipeline, client, simulations=NAMES).run()
    else:
        run(engine, Job(pipeline, stager.address, options=OPTIONS, expected=NAMES))
    feeder.join(PATIENCE)
    if feeder.failure is not None:
        raise feeder.failure
    streams = recorded(reader)
    assert sorted(streams) == list(NAMES)
    for name, frames in streams.items():
        check(read_results(reader, "swap", name), frames, folder)


def check(results: FrameBatch | None, frames: FrameBatch, folder: Path) -> None:
    """Assert that each row came once, with what the card's model says to it."""
    assert results is not None
    assert results.offsets.tolist() == frames.offsets.tolist()
    versions = results["latent_version"]
    assert (np.diff(versions) >= 0).all()
    assert set(versions.tolist()) == {1, 2}
    registry = Registry(folder)
    for number in (1, 2):
        loaded = registry.load(registry.at_number("tiny", number).version)
        rows = versions == number
        with torch.no_grad():
            x = torch.tensor(frames["features"][rows])
            z, errors = loaded.model.encode(x), loaded.model.errors(x)
        np.testing.assert_allclose(results["latent"][rows], z, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(results["latent_error"][rows], errors, rtol=1e-4, atol=1e-5)
        norm = (results["latent"][rows].astype(float) ** 2).sum(axis=1)
        np.testing.assert_allclose(results["norm"][rows], norm)
