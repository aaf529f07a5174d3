"""A linked simulation asks a model."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest

from bridge.staging import Stager, StagerClient
from bridge.staging.client_like import ClientLike
from bridge.staging.inference import InferenceService
from bridge.staging.spread import connect
from bridge.surrogate import Inferred
from sim_adapters.link import link


class Doubling:
    def answer(self, inputs: Mapping[str, np.ndarray]) -> Inferred:
        x = inputs["x"]
        return Inferred({"y": 2.0 * x}, x[:, 0] >= 0.0, 7, "Only for x from 0 on.")


@contextmanager
def serving(client: ClientLike) -> Iterator[InferenceService]:
    over = threading.Event()
    service = InferenceService(client, "double", Doubling())
    thread = threading.Thread(target=service.run, args=(over.is_set,))
    thread.start()
    try:
        yield service
    finally:
        over.set()
        thread.join(20.0)


def test_a_simulation_computes_for_itself_what_the_model_does_not_know(stager: Stager) -> None:
    with (
        StagerClient(stager.address) as client,
        serving(client) as service,
        link("sim", stager=stager.address) as stream,
    ):
        x = np.array([[1.0, 2.0], [-1.0, 3.0]])
        stream.put(0, 0.0, x=x)
        pending = stream.ask("double", x=x, timeout=60.0)
        stream.put(1, 0.5, x=x)
        found = pending.result()
        assert found.valid.tolist() == [True, False]
        assert found["y"][0].tolist() == [2.0, 4.0]
        assert (found.version, found.reason) == (7, "Only for x from 0 on.")
    assert service.statistics.requests == 1


def test_each_rank_asks_for_itself() -> None:
    pytest.importorskip("mpi4py", exc_type=ImportError)
    from sim_adapters.mpi_launch import launch

    root = Path(__file__).parents[2]
    ranks = str(Path(__file__).with_name("asking_ranks.py"))
    with Stager("tcp://127.0.0.1:0") as started:
        address = started.start().address
        with StagerClient(address) as client, serving(client) as service:
            lines = launch(
                3, [sys.executable, ranks, address], what="asking ranks",
                environment={"PYTHONPATH": str(root)}, limit=90.0,
            )  # fmt: skip
    told = {one["rank"]: one["told"] for one in map(json.loads, lines)}
    for rank in range(3):
        twice = 2.0 * (rank + 1)
        valid = [True] * (2 + rank) + [False]
        assert told[rank] == [[[twice, twice], valid, 7]] * 3
    assert service.statistics.requests == 9


def test_simulations_on_several_stagers_ask_one_service() -> None:
    with ExitStack() as stack:
        stagers = [stack.enter_context(Stager("tcp://127.0.0.1:0")).start() for _ in range(2)]
        addresses = ",".join(one.address for one in stagers)
        client = stack.enter_context(connect(addresses))
        service = stack.enter_context(serving(client))
        for number in range(6):
            with link(f"sim-{number}", stager=addresses) as stream:
                x = np.full((2, 3), float(number))
                stream.put(0, 0.0, x=x)
                found = stream.infer("double", x=x, timeout=60.0)
                assert found.all_valid, found.reason
                assert np.array_equal(found["y"], 2.0 * x)
        # The streams are with both.
        for one in stagers:
            with StagerClient(one.address) as reader:
                assert reader.topics("frames/", schemas=False)
    assert service.statistics.requests == 6


def test_a_simulation_without_a_service_goes_on(stager: Stager) -> None:
    with link("sim", stager=stager.address) as stream:
        found = stream.infer("nobody", x=np.ones((3, 1)), timeout=0.05)
    assert not found.valid.any()
    assert "is it running?" in found.reason
