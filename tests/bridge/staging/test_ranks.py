"""Ranks of one simulation that come, run and leave each at its own pace."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from bridge.schema import StreamSchema, Variable
from bridge.staging import Producer, Stager, StagerClient
from bridge.staging.frame_log import MAX_PENDING_STEPS
from bridge.staging.messages import StreamOptions

PAIR = StreamSchema((Variable("x", "<f8", (4,), decomposed=True),), n_ranks=2)
OPTIONS = StreamOptions(segment=32 << 10, capacity=1 << 20)


def write(address: str, rank: int, steps: int, *, mapped: bool, finished: bool = True) -> int:
    """Write blocks of all steps, at once; returns the incarnation."""
    producer = Producer("mpi", PAIR, address=address, rank=rank, mapped=mapped, options=OPTIONS)
    for step in range(steps):
        producer.put_block(step, float(step), 2 * rank, {"x": np.full(2, step + 0.5 * rank)})
    producer.close(finished=finished)
    return producer.resumed.incarnation


def read_to_the_end(client: StagerClient) -> list[float]:
    seen: list[float] = []
    finished = False
    while not finished:
        position = {"frames/mpi": len(seen)}
        with client.fetch(position, group="g", commit=position, wait=5.0) as fetched:
            assert fetched, "nothing came for 5 s"
            seen += [row[0] for batch in fetched.batches for row in batch["x"][:, ::2].tolist()]
            assert all((b["x"][:, 2] - b["x"][:, 0] == 0.5).all() for b in fetched.batches)
            finished = bool(fetched.finished)
    return seen


@pytest.mark.parametrize("mapped", [True, False])
def test_a_rank_may_end_before_another_begins(
    stager: Stager, client: StagerClient, mapped: bool
) -> None:
    lives = [write(stager.address, 0, 14, mapped=mapped)]
    assert not client.status("frames/mpi").finished
    lives.append(write(stager.address, 1, 14, mapped=mapped))
    assert lives == [1, 1]
    assert client.status("frames/mpi").finished
    assert read_to_the_end(client) == list(range(14))


@pytest.mark.parametrize("mapped", [True, False])
def test_a_quick_rank_waits_for_a_slow_one(
    stager: Stager, client: StagerClient, mapped: bool
) -> None:
    steps = 4 * MAX_PENDING_STEPS
    quick = threading.Thread(
        target=write, args=(stager.address, 0, steps), kwargs={"mapped": mapped}
    )
    quick.start()
    slow = threading.Thread(
        target=write, args=(stager.address, 1, steps), kwargs={"mapped": mapped}
    )
    slow.start()
    seen = read_to_the_end(client)
    quick.join()
    slow.join()
    assert seen == list(range(steps))
    assert client.status("frames/mpi").dropped == 0


def test_a_new_life_begins_when_ranks_come_again(stager: Stager, client: StagerClient) -> None:
    for life in (1, 2):
        for rank in range(2):
            assert (
                write(stager.address, rank, 0, mapped=True, finished=False) == 2 * life - 1 + rank
            )


def test_a_rank_that_left_is_remembered(tmp_path: Path) -> None:
    with Stager("tcp://127.0.0.1:0", directory=tmp_path, durable=True).start() as stager:
        address = stager.address
        last = Producer("mpi", PAIR, address=address, rank=1, options=OPTIONS)
        write(address, 0, 3, mapped=True)
        for step in range(3):
            last.put_block(step, float(step), 2, {"x": np.full(2, step + 0.5)})
        last.flush()
    with Stager(address, directory=tmp_path, durable=True).start(), StagerClient(address) as client:
        last.close()
        assert client.status("frames/mpi").finished
        assert read_to_the_end(client) == [0, 1, 2]


@pytest.mark.parametrize("mapped", [True, False])
def test_blocks_of_steps_that_are_not_complete_outlive_a_stager(
    tmp_path: Path, mapped: bool
) -> None:
    # They were acknowledged, so that the rank which wrote them does not send them again.
    with Stager("tcp://127.0.0.1:0", directory=tmp_path, durable=True).start() as stager:
        address = stager.address
        slow = Producer("mpi", PAIR, address=address, rank=1, options=OPTIONS, mapped=mapped)
        write(address, 0, 9, mapped=mapped)
        slow.put_block(0, 0.0, 2, {"x": np.full(2, 0.5)})
        slow.flush()
    for steps in ((1, 2, 3), (4, 5, 6, 7, 8)):
        with Stager(address, directory=tmp_path, durable=True).start():
            for step in steps:
                slow.put_block(step, float(step), 2, {"x": np.full(2, step + 0.5)})
            slow.flush(30.0)
    with Stager(address, directory=tmp_path, durable=True).start(), StagerClient(address) as client:
        slow.close()
        assert client.status("frames/mpi").finished
        assert client.status("frames/mpi").dropped == 0
        assert read_to_the_end(client) == list(range(9))
