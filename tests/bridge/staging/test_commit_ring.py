"""Commits in mapped memory: in order, never lost, and seen by whoever asks."""

from __future__ import annotations

import random
import threading
from collections import deque
from pathlib import Path

import numpy as np
import pytest

from bridge.errors import ProtocolError, StaleIncarnation
from bridge.schema import StreamSchema, Variable
from bridge.staging import Producer, Stager, StagerClient
from bridge.staging.commit_ring import RING_BYTES, CommitRing

PAIR = StreamSchema((Variable("x", "<f8", (4,), decomposed=True),), n_ranks=2)


def both_ends() -> tuple[memoryview, CommitRing, CommitRing]:
    view = memoryview(bytearray(b"\xff" * RING_BYTES))
    return view, CommitRing(view, new=True), CommitRing(view)


def test_what_goes_in_comes_out_in_order() -> None:
    _, reader, writer = both_ends()
    rng = random.Random(4)
    waiting: deque[bytes] = deque()
    refused = 0
    for number in range(3000):
        data = number.to_bytes(4, "little") * rng.randint(1, 90)
        if writer.put(data):
            waiting.append(data)
        else:
            refused += 1
        assert bool(reader) == bool(waiting)
        if rng.random() < 0.02:
            # Some are left for the next time.
            for taken, found in enumerate(reader.look()):
                assert found == waiting[0]
                if taken == 3:
                    break
                waiting.popleft()
        if rng.random() < 0.02:
            assert list(reader.look()) == list(waiting)
            waiting.clear()
    assert refused


def test_it_is_full_when_it_is_full_and_not_before() -> None:
    _, reader, writer = both_ends()
    count = 0
    while writer.put(bytes(56)):
        count += 1
    assert count == (RING_BYTES - 192) // 64
    assert len(list(reader.look())) == count
    assert writer.put(bytes(56))


def test_a_record_that_is_not_all_there_is_left() -> None:
    view, reader, writer = both_ends()
    writer.put(b"first")
    writer.put(b"second")
    at = 192 + 16 + 8
    view[at] ^= 1
    assert list(reader.look()) == [b"first"]
    assert reader
    view[at] ^= 1
    assert list(reader.look()) == [b"second"]


@pytest.mark.parametrize("head", [RING_BYTES, 12])
def test_what_is_no_ring_is_refused(head: int) -> None:
    view, reader, _ = both_ends()
    np.frombuffer(view[:8], np.uint64)[0] = head
    with pytest.raises(ProtocolError, match="which cannot be"):
        list(reader.look())


def pair(stager: Stager) -> list[Producer]:
    return [Producer("mpi", PAIR, address=stager.address, rank=rank) for rank in range(2)]


def put(producers: list[Producer], step: int) -> None:
    for rank, producer in enumerate(producers):
        producer.put_block(step, float(step), 2 * rank, {"x": np.full(2, step + 0.5 * rank)})


def use_rings(producers: list[Producer], client: StagerClient) -> int:
    """Put frames until their commits are written into rings; returns the next step."""
    step = 0
    while not all(p._io._ring is not None and not p._io._ring.wanted for p in producers):
        put(producers, step)
        step += 1
        client.topics()
    # By messages still; what is numbered higher has to wait for them.
    for producer in producers:
        producer.flush()
    return step


def test_whoever_asks_sees_what_was_written(stager: Stager, client: StagerClient) -> None:
    producers = pair(stager)
    step = use_rings(producers, client)
    for more in range(20):
        # By this thread, as a simulation does whose frames are some time apart.
        for rank, producer in enumerate(producers):
            io = producer._io
            io._spoke -= 1.0
            at = step + more
            producer.put_block(at, float(at), 2 * rank, {"x": np.full(2, at + 0.5 * rank)})
            while any(o.sent < o.filled for o in list(io._chunks)):
                producer.wait_for_command(0.001)
        assert client.status("frames/mpi").end == step + more + 1
    with client.fetch({"frames/mpi": 0}, wait=0.001) as fetched:
        assert np.concatenate([b["x"][:, 3] - 0.5 for b in fetched.batches]).tolist() == list(
            range(step + 20)
        )
    for producer in producers:
        producer.close()
    assert client.status("frames/mpi").finished


def test_who_waits_is_given_the_frame(stager: Stager, client: StagerClient) -> None:
    producers = pair(stager)
    step = use_rings(producers, client)
    found: list[float] = []

    def read() -> None:
        with (
            StagerClient(stager.address) as other,
            other.fetch({"frames/mpi": step}, wait=30.0) as got,
        ):
            found.extend(got.batches[0]["x"][0].tolist())

    reader = threading.Thread(target=read)
    reader.start()
    while not all(p._io._ring is not None and p._io._ring.wanted for p in producers):
        producers[0].wait_for_command(0.001)
    put(producers, step)
    reader.join(30.0)
    assert found == [step, step, step + 0.5, step + 0.5]
    for producer in producers:
        producer.close()


def test_a_newer_life_ends_an_older_ones_ring(stager: Stager, client: StagerClient) -> None:
    old = pair(stager)
    step = use_rings(old, client)
    rings = [p._io._ring for p in old]
    new = pair(stager)
    assert all(ring is not None and ring.wanted for ring in rings)
    for producer in new:
        producer.close()
    assert client.status("frames/mpi").end == step
    for rank, producer in enumerate(old):
        producer.put_block(step, float(step), 2 * rank, {"x": np.zeros(2)})
        with pytest.raises(StaleIncarnation):
            producer.close()


def test_what_a_stager_did_not_take_out_before_it_died_is_sent_again(tmp_path: Path) -> None:
    first = Stager("tcp://127.0.0.1:0", directory=tmp_path, durable=True).start()
    address = first.address
    with StagerClient(address) as client:
        producers = pair(first)
        step = use_rings(producers, client)
        assert client.status("frames/mpi").end == step
    # From here on it takes nothing out, as one that is killed.
    first._core.catch_up = lambda now: None  # type: ignore[method-assign]
    for more in range(5):
        for producer in producers:
            producer._io._spoke -= 1.0
        put(producers, step + more)
    first.stop()
    second = Stager(address, directory=tmp_path, durable=True).start()
    try:
        for producer in producers:
            producer.flush(60.0)
            producer.close()
        with StagerClient(address) as client:
            assert client.status("frames/mpi").finished
            with client.fetch({"frames/mpi": 0}) as fetched:
                seen = np.concatenate([batch["x"][:, 3] - 0.5 for batch in fetched.batches])
            assert seen.tolist() == list(range(step + 5))
    finally:
        second.stop()
