"""Requests to models and their replies, through a stager."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import pytest

from bridge.errors import SchemaError
from bridge.staging import Stager, StagerClient
from bridge.staging.inference import InferenceClient, InferenceService
from bridge.surrogate import Inferred, ServiceStatistics


class Square:
    """Answers x squared, for x up to 10."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def answer(self, inputs: Mapping[str, np.ndarray]) -> Inferred:
        if set(inputs) != {"x"}:
            raise SchemaError(f"The model takes 'x', not {sorted(inputs)}.")
        x = inputs["x"]
        self.calls.append(len(x))
        valid = x <= 10.0
        return Inferred({"y": x * x}, valid, 3, "" if valid.all() else "x is above 10.")


@contextmanager
def serving(service: InferenceService) -> Iterator[ServiceStatistics]:
    over = threading.Event()
    thread = threading.Thread(target=service.run, args=(over.is_set,))
    thread.start()
    try:
        yield service.statistics
    finally:
        over.set()
        thread.join(20.0)
        assert not thread.is_alive()


@pytest.fixture
def asker(client: StagerClient) -> InferenceClient:
    return InferenceClient(client, "sim", timeout=30.0)


@pytest.fixture
def other(stager: Stager) -> Iterator[Callable[..., InferenceService]]:
    clients: list[StagerClient] = []

    def make(surrogate: Square, **options: int) -> InferenceService:
        clients.append(StagerClient(stager.address, name="service"))
        return InferenceService(clients[-1], "square", surrogate, **options)

    yield make
    for one in clients:
        one.close()


def test_a_request_and_its_reply(asker: InferenceClient, other) -> None:
    with serving(other(Square())) as statistics:
        for n in range(1, 20):
            x = np.linspace(0.0, 5.0, n)
            found = asker.infer("square", {"x": x})
            assert found.all_valid
            assert (found.version, found.reason) == (3, "")
            assert np.array_equal(found["y"], x * x)
    assert (statistics.requests, statistics.rows) == (19, 190)


def test_rows_outside_the_domain_are_for_the_simulation_to_compute(asker, other) -> None:
    with serving(other(Square())) as statistics:
        found = asker.infer("square", {"x": np.array([1.0, 20.0, 3.0])})
    assert found.valid.tolist() == [True, False, True]
    assert found.reason == "x is above 10."
    assert statistics.invalid == 1


def test_what_waits_is_answered_together(asker: InferenceClient, other) -> None:
    model = Square()
    service = other(model, max_rows=6)
    sent = [asker.submit("square", {"x": np.full(2, float(n))}) for n in range(5)]
    assert service.step(20.0) == 5
    assert model.calls == [6, 4]
    for n, pending in reversed(list(enumerate(sent))):
        assert pending.result()["y"].tolist() == [n * n] * 2


def test_a_bad_request_does_not_spoil_the_others(asker: InferenceClient, other) -> None:
    service = other(Square())
    good = asker.submit("square", {"x": np.ones(2)})
    bad = asker.submit("square", {"z": np.ones(2)})
    assert service.step(20.0) == 2
    assert good.result().all_valid
    found = bad.result()
    assert (found.valid.tolist(), found.reason) == ([False] * 2, "The model takes 'x', not ['z'].")
    assert service.statistics.refused == 1


def test_nobody_answers(client: StagerClient) -> None:
    asker = InferenceClient(client, "sim", timeout=0.05, retry=60.0)
    found = asker.infer("square", {"x": np.ones(3)})
    assert found.valid.tolist() == [False] * 3
    assert "did not answer in time" in found.reason
    # Others are not waited for until the service is given another try.
    assert "did not answer lately" in asker.infer("square", {"x": np.ones(3)}, timeout=60).reason
    assert asker.unanswered == 1


def test_a_request_that_is_too_late_is_passed_over(client: StagerClient, other) -> None:
    asker = InferenceClient(client, "sim", timeout=0.02)
    asker.infer("square", {"x": np.ones(3)})
    model = Square()
    service = other(model)
    deadline = time.monotonic() + 30.0
    while not service.statistics.expired and time.monotonic() < deadline:
        service.step(0.05)
    assert (service.statistics.expired, model.calls) == (1, [])


def test_replies_to_an_earlier_life_are_not_taken(stager, asker, other) -> None:
    service = other(Square())
    asker.submit("square", {"x": np.ones(1)})
    service.step(20.0)
    with StagerClient(stager.address) as again:
        reborn = InferenceClient(again, "sim", timeout=30.0)
        pending = reborn.submit("square", {"x": np.full(1, 2.0)})
        service.step(20.0)
        assert pending.result()["y"].tolist() == [4.0]


def test_damaged_requests_are_counted(client: StagerClient, asker, other) -> None:
    service = other(Square())
    client.append("requests/square", [b"no state"])
    pending = asker.submit("square", {"x": np.ones(1)})
    while not service.statistics.requests:
        service.step(20.0)
    assert service.statistics.refused == 1
    assert pending.result().all_valid


@pytest.mark.parametrize(
    "inputs",
    [{}, {"x": 1.0}, {"x": np.ones(0)}, {"x": np.ones(2), "z": np.ones(3)}, {"x": ["a"]}],
    ids=["nothing", "no rows", "no row", "different rows", "text"],
)
def test_bad_inputs(asker: InferenceClient, inputs) -> None:
    with pytest.raises(SchemaError, match="request to 'square'"):
        asker.submit("square", inputs)


def test_nothing_piles_up(client: StagerClient, asker: InferenceClient, other) -> None:
    with serving(other(Square())):
        for _ in range(30):
            assert asker.infer("square", {"x": np.ones(100_000)}).all_valid
    topics = [t for t in client.topics() if t.name.startswith(("requests/", "replies/"))]
    assert [t.end for t in topics] == [30, 30]
    assert min(t.low for t in topics) > 10
