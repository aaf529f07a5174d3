"""Ranks whose stream is full: no half frames, each lost step counted once, no standstill."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import numpy as np
import pytest

from bridge.errors import SchemaError
from bridge.schema import StreamSchema, Variable
from bridge.staging import Producer, Stager, StagerClient
from bridge.staging.messages import StreamOptions

PAIR = StreamSchema((Variable("x", "<f8", (4,), decomposed=True),), n_ranks=2)


@dataclass
class Run:
    """Two ranks, written by this thread, and a reader."""

    client: StagerClient
    ranks: list[Producer]
    taken: list[set[int]] = field(default_factory=lambda: [set(), set()])
    seen: list[int] = field(default_factory=list)
    position: int = 0

    def put(self, rank: int, steps: range) -> None:
        for step in steps:
            values = {"x": np.full(2, step + 0.5 * rank)}
            if self.ranks[rank].put_block(step, float(step), 2 * rank, values, timeout=30.0):
                self.taken[rank].add(step)

    def read(self, wait: float = 5.0) -> bool:
        with self.client.fetch({"frames/mpi": self.position}, wait=wait) as fetched:
            for batch in fetched.batches:
                self.seen += batch.steps.tolist()
                assert (batch["x"][:, 0] == batch.steps).all()
                if len(self.ranks) == 2:
                    assert (batch["x"][:, 2] == batch.steps + 0.5).all()
            self.position = fetched.positions.get("frames/mpi", self.position)
        self.client.commit("g", {"frames/mpi": self.position})
        return not fetched.finished

    def close(self) -> None:
        for producer in self.ranks:
            producer.close(timeout=30.0)
        while self.read():
            pass


def begin(stager: Stager, client: StagerClient, policy: str, *, mapped: bool = True) -> Run:
    options = StreamOptions(when_full=policy, segment=2048, capacity=16 << 10, keep=0)  # type: ignore[arg-type]
    ranks = [
        Producer("mpi", PAIR, address=stager.address, rank=r, options=options, mapped=mapped)
        for r in (0, 1)
    ]
    client.commit("g", {"frames/mpi": 0})
    return Run(client, ranks)


@pytest.mark.parametrize("mapped", [True, False])
def test_steps_that_ranks_drop_are_counted_once(
    stager: Stager, client: StagerClient, *, mapped: bool
) -> None:
    run = begin(stager, client, "drop_newest", mapped=mapped)
    # First one rank has the room; then they take turns at being ahead, and out of room.
    chunks = [range(200), *(range(first, first + 10) for first in range(200, 600, 10))]
    for turn, steps in enumerate(chunks):
        run.put(turn % 2, steps)
        run.put(1 - turn % 2, steps)
        if turn % 4 == 0:
            run.read(wait=0.05)
    run.close()
    status = client.status("frames/mpi")
    assert run.seen == sorted(set(run.seen))
    assert 0 < len(run.seen) == 600 - status.dropped < 600
    if mapped:  # otherwise blocks are dropped by the stager, too
        both, either = run.taken[0] & run.taken[1], run.taken[0] | run.taken[1]
        assert run.seen == sorted(both)
        assert status.incomplete == len(either - both)
        assert [p.statistics().dropped for p in run.ranks] == [600 - len(t) for t in run.taken]


@pytest.mark.parametrize("mapped", [True, False])
def test_a_rank_that_is_far_ahead_drops_and_waits_for_nobody(
    stager: Stager, client: StagerClient, *, mapped: bool
) -> None:
    run = begin(stager, client, "drop_newest", mapped=mapped)
    for step in range(100):
        run.put(0, range(step, step + 1))
        # Whatever was sent is stored, or dropped, before the other rank has come.
        run.ranks[0].flush(30.0)
    run.put(1, range(100))
    run.close()
    status = client.status("frames/mpi")
    assert run.seen == list(range(len(run.seen)))
    assert 0 < len(run.seen) == 100 - status.dropped < 100


@pytest.mark.parametrize("policy", ["drop_oldest", "latest"])
def test_a_quick_rank_leaves_room_for_a_slow_one(
    stager: Stager, client: StagerClient, policy: str
) -> None:
    run = begin(stager, client, policy)
    run.put(0, range(300))
    run.put(1, range(300))
    run.close()
    assert run.seen[-1] == 299
    status = client.status("frames/mpi")
    assert len(run.seen) + status.dropped == 300


def test_ranks_in_step_go_round_a_stream_that_drops(stager: Stager) -> None:
    # A segment that is full, and that nobody has said so of, once counted as room for its rank.
    schema = StreamSchema((Variable("x", "<f8", (3000,), decomposed=True),), n_ranks=2)
    options = StreamOptions(segment=12_352 * 8, capacity=16 * 12_352 * 8, when_full="drop_oldest")
    producers = [
        Producer("mpi", schema, address=stager.address, options=options, rank=rank)
        for rank in range(2)
    ]
    for step in range(200):
        for rank, producer in enumerate(producers):
            values = {"x": np.full(1500, float(step))}
            assert producer.put_block(step, 0.0, 1500 * rank, values)
    for producer in producers:
        producer.close()


@pytest.mark.parametrize("capacity", [150_000, 300_000])  # two frames a rank, and four
def test_a_stream_of_little_room_does_not_stand_still(
    stager: Stager, client: StagerClient, capacity: int
) -> None:
    schema = StreamSchema((Variable("x", "<f8", (3000,), decomposed=True),), n_ranks=3)
    options = StreamOptions(segment=25_600, capacity=capacity, keep=0)
    producers = [
        Producer("mpi", schema, address=stager.address, options=options, rank=rank)
        for rank in range(3)
    ]
    client.commit("g", {"frames/mpi": 0})

    def write(rank: int) -> None:
        with producers[rank] as producer:
            for step in range(40):
                values = {"x": np.full(1000, float(step))}
                producer.put_block(step, 0.0, 1000 * rank, values, timeout=60.0)
            producer.close(timeout=60.0)

    threads = [threading.Thread(target=write, args=(rank,)) for rank in range(3)]
    for thread in threads:
        thread.start()
    run = Run(client, producers)
    while run.read():
        pass
    for thread in threads:
        thread.join()
    assert run.seen == list(range(40))


@pytest.mark.parametrize("when_full", ["block", "drop_newest"])
def test_ranks_open_a_stream_with_the_same_options(
    stager: Stager, client: StagerClient, when_full: str
) -> None:
    options = StreamOptions(capacity=1 << 20)
    other = StreamOptions(capacity=2 << 20, when_full=when_full)  # type: ignore[arg-type]
    with Producer("mpi", PAIR, address=stager.address, options=options, rank=0) as first:
        with pytest.raises(SchemaError) as raised:
            Producer("mpi", PAIR, address=stager.address, options=other, rank=1)
        told = str(raised.value)
        assert "Rank 1 opens frames/mpi with " in told
        assert "capacity = 2097152" in told
        assert "capacity = 1048576" in told
        assert ("when_full = 'drop_newest'" in told) is (when_full == "drop_newest")
        assert client.status("frames/mpi").options == options
        with Producer("mpi", PAIR, address=stager.address, options=options, rank=1) as second:
            for rank, producer in enumerate((first, second)):
                producer.put_block(0, 0.0, 2 * rank, {"x": np.zeros(2)})
    # A life that begins anew may be kept otherwise.
    for rank in (0, 1):
        Producer("mpi", PAIR, address=stager.address, options=other, rank=rank).close()
    assert client.status("frames/mpi").options == other
