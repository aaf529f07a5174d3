"""A linked simulation asks a model."""

from __future__ import annotations

import threading
from collections.abc import Mapping

import numpy as np

from bridge.staging import Stager, StagerClient
from bridge.staging.inference import InferenceService
from bridge.surrogate import Inferred
from sim_adapters.link import link


class Doubling:
    def answer(self, inputs: Mapping[str, np.ndarray]) -> Inferred:
        x = inputs["x"]
        return Inferred({"y": 2.0 * x}, x[:, 0] >= 0.0, 7, "Only for x from 0 on.")


def test_a_simulation_computes_for_itself_what_the_model_does_not_know(stager: Stager) -> None:
    over = threading.Event()
    with StagerClient(stager.address) as client:
        service = InferenceService(client, "double", Doubling())
        thread = threading.Thread(target=service.run, args=(over.is_set,))
        thread.start()
        try:
            with link("sim", stager=stager.address) as stream:
                x = np.array([[1.0, 2.0], [-1.0, 3.0]])
                stream.put(0, 0.0, x=x)
                pending = stream.ask("double", x=x, timeout=60.0)
                stream.put(1, 0.5, x=x)
                found = pending.result()
                assert found.valid.tolist() == [True, False]
                assert found["y"][0].tolist() == [2.0, 4.0]
                assert (found.version, found.reason) == (7, "Only for x from 0 on.")
        finally:
            over.set()
            thread.join(20.0)
    assert service.statistics.requests == 1


def test_a_simulation_without_a_service_goes_on(stager: Stager) -> None:
    with link("sim", stager=stager.address) as stream:
        found = stream.infer("nobody", x=np.ones((3, 1)), timeout=0.05)
    assert not found.valid.any()
    assert "is it running?" in found.reason
