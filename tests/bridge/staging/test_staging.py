"""Put, fetch, commit: what goes in comes out, once, in order, however it travels."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from bridge import FrameReference, StreamSchema, Variable
from bridge.errors import OffsetOutOfRange, UnknownTopic
from bridge.staging import Producer, Stager, StagerClient, StreamOptions
from tests.bridge.staging.common import SCHEMA, frame, producer, read_all


@pytest.mark.parametrize("put_mapped", [True, False])
@pytest.mark.parametrize("read_mapped", [True, False])
def test_frames_arrive_once_and_in_order(stager: Stager, put_mapped: bool, read_mapped: bool):
    with (
        producer(stager, mapped=put_mapped) as p,
        StagerClient(stager.address, mapped=read_mapped) as client,
    ):
        for i in range(5000):
            p.put(i, i * 0.5, frame(i), epoch=i // 1000)
        p.close()
        assert read_all(client, "w0") == list(range(5000))
        with client.fetch({"frames/w0": 1234}, max_frames=1) as got:
            batch = got.batches[0]
            assert (batch.first, batch.steps[0], batch.times[0]) == (1234, 1234, 617.0)
            assert batch.epochs[0] == 1
            assert batch["x"].dtype == np.float32
            assert not batch["x"].flags.writeable


def test_put_many_is_put_repeated(stager: Stager, client: StagerClient):
    n = 9000
    numbers = np.arange(n)
    with producer(stager) as p:
        x = np.broadcast_to(numbers[:, None, None], (n, 5, 3)).astype(np.float32)
        p.put_many(numbers, numbers * 0.5, {"x": x, "energy": -numbers.astype(float)}, epochs=7)
        p.put(n, n * 0.5, frame(n))
    assert read_all(client, "w0") == list(range(n + 1))


@pytest.mark.parametrize("order", ["<", ">"])
def test_units_are_converted_while_frames_are_copied(
    stager: Stager, client: StagerClient, order: str
):
    x = np.arange(90.0).reshape(3, 10, 3).astype(f"{order}f4")
    schema = StreamSchema.from_arrays({"x": x[0].astype("f4"), "n": np.int64(0)})
    with Producer("units", schema, address=stager.address) as p:
        p.put_many([1, 2, 3], [0.0] * 3, {"x": x, "n": np.arange(3)}, factors={"x": 0.1})
    with client.fetch({"frames/units": 0}) as got:
        assert np.array_equal(got.batches[0]["x"], x.astype("<f4") * np.float32(0.1))
        assert got.batches[0]["n"].tolist() == [0, 1, 2]
    assert x[0, 0, 1] == 1.0


@pytest.mark.parametrize("nbytes", [12, 36_000, 1_200_000])
@pytest.mark.parametrize("mapped", [True, False])
def test_frames_of_any_size(stager: Stager, nbytes: int, mapped: bool):
    rng = np.random.default_rng(nbytes)
    data = rng.random((40, nbytes // 12, 3)).astype(np.float32)
    schema = StreamSchema.from_arrays({"positions": data[0]})
    with Producer("big", schema, address=stager.address, mapped=mapped) as p:
        for i, x in enumerate(data):
            p.put(i, float(i), {"positions": x})
    got = []
    position = 0
    with StagerClient(stager.address, mapped=mapped) as client:
        while position < 40:
            with client.fetch({"frames/big": position}) as fetched:
                got += [b["positions"].copy() for b in fetched.batches]
                position = fetched.positions["frames/big"]
    assert np.array_equal(np.concatenate(got), data)


def test_readers_come_late_leave_and_come_back(stager: Stager):
    with producer(stager) as p:
        for i in range(100):
            p.put(i, float(i), frame(i))
        p.flush()
        with StagerClient(stager.address) as early:
            assert read_all(early, "w0", group="g", limit=100) == list(range(100))
        for i in range(100, 200):
            p.put(i, float(i), frame(i))
    with StagerClient(stager.address) as late:
        assert late.status("frames/w0").groups == {"g": 100}
        assert read_all(late, "w0") == list(range(200))
        assert read_all(late, "w0", start=100) == list(range(100, 200))


def test_a_follower_finds_new_streams_by_itself(stager: Stager, client: StagerClient):
    seen: dict[str, int] = {}
    positions: dict[str, int] = {}
    for name in ("a", "b", "c"):
        with producer(stager, name) as p:
            p.put(1, 1.0, frame(1))
        while f"frames/{name}" not in seen:
            with client.fetch(positions, follow="frames/", done=list(seen)) as got:
                positions.update(got.positions)
                for batch in got.batches:
                    seen[f"frames/{batch.simulation}"] = len(batch)
    assert seen == {"frames/a": 1, "frames/b": 1, "frames/c": 1}


def test_a_long_poll_ends_when_something_comes(stager: Stager, client: StagerClient):
    with producer(stager) as p:
        timer = threading.Timer(0.2, p.put, (1, 1.0, frame(1)))
        timer.start()
        with client.fetch({"frames/w0": 0}, wait=30.0) as got:
            assert [len(b) for b in got.batches] == [1]
        timer.join()


def test_a_frame_that_comes_long_after_the_one_before_waits_for_no_others(
    stager: Stager, client: StagerClient
):
    with producer(stager, linger=3600.0) as p:
        p._io._spoke = -float("inf")  # what was sent last, when the stream was opened
        p.put(0, 0.0, frame(0))
        p.flush(60.0)
    assert read_all(client, "w0") == [0]


def test_an_empty_answer_at_the_time_limit(client: StagerClient):
    assert not client.fetch({"frames/nobody": 0}, wait=0.05)
    with pytest.raises(UnknownTopic, match="no topic 'frames/nobody'"):
        client.fetch({"frames/nobody": 0}, wait=0.0)


def test_one_frame_by_reference(stager: Stager, client: StagerClient):
    with producer(stager) as p:
        for i in range(300):
            p.put(i, float(i), frame(i))
        p.flush()
        found = p.read_frame(FrameReference("w0", 123))
        assert found.step == 123
        assert found["x"][0, 0] == 123
        with pytest.raises(OffsetOutOfRange, match="Frame 300 of 'w0' is not held"):
            client.read_frame(FrameReference("w0", 300))


def test_records_of_a_writer_are_stored_once(client: StagerClient):
    first = client.append("results/p/w0", [b"abc"], writer="p", first=0, stop=10)
    again = client.append("results/p/w0", [b"abc"], writer="p", first=0, stop=10)
    beyond = client.append("results/p/w0", [b"de"], writer="p", first=5, stop=15)
    rest = client.append("results/p/w0", [b"de"], writer="p", first=10, stop=15)
    other = client.append("results/p/w0", [b"f"], writer="q", first=0, stop=1)
    assert [r.accepted for r in (first, again, beyond, rest, other)] == [
        True, False, False, True, True,
    ]  # fmt: skip
    assert beyond.watermark == 10
    with client.fetch({"results/p/w0": 0}) as got:
        assert [bytes(r.data) for r in got.records] == [b"abc", b"de", b"f"]
    assert client.watermark("results/p/w0", "p") == 15
    assert client.watermark("results/p/w0", "nobody") == -1


def test_large_records(client: StagerClient):
    data = np.random.default_rng(0).bytes(3_000_000)
    for _ in range(5):
        client.append("results/p/w0", [data, b"", b"x"])
    with client.fetch({"results/p/w0": 0}, max_bytes=1 << 30) as got:
        assert [bytes(r.data) for r in got.records] == [data, b"", b"x"] * 5


def test_an_offset_beyond_the_end_is_refused(client: StagerClient):
    client.append("events", [b"x"])
    with pytest.raises(OffsetOutOfRange, match="beyond its end, 1"):
        client.fetch({"events": 5}, wait=0.0)


BLOCKS = StreamSchema(
    (
        Variable("x", "<f4", (10, 3), decomposed=True),
        Variable("box", "<f8", (3,)),
    ),
    n_ranks=3,
)


@pytest.mark.parametrize("migrating", [False, True])
def test_blocks_of_ranks_are_joined(stager: Stager, client: StagerClient, migrating: bool):
    rng = np.random.default_rng(1)
    frames = rng.random((20, 10, 3)).astype(np.float32)
    ranks = [
        Producer("mpi", BLOCKS, address=stager.address, rank=r, mapped=r != 1) for r in range(3)
    ]
    try:
        for i, whole in enumerate(frames):
            order = rng.permutation(10) if migrating else np.arange(10)
            cuts = sorted(rng.integers(0, 11, 2))
            for rank, ids in enumerate(np.split(order, cuts)):
                start = 0 if migrating else int([0, *cuts][rank])
                ranks[rank].put_block(
                    i, float(i), start, {"x": whole[ids], "box": np.full(3, i, float)},
                    ids=ids if migrating else None,
                )  # fmt: skip
    finally:
        for p in ranks:
            p.close()
    got, position = [], 0
    while position < 20:
        with client.fetch({"frames/mpi": position}) as fetched:
            got += [b["x"].copy() for b in fetched.batches]
            position = fetched.positions["frames/mpi"]
    assert np.array_equal(np.concatenate(got), frames)
    assert {p.resumed.incarnation for p in ranks} == {1}


def test_a_restarted_simulation_continues_its_stream(stager: Stager, client: StagerClient):
    with producer(stager) as p:
        for i in range(10):
            p.put(i, float(i), frame(i), epoch=2)
        p.close(finished=False)
    with producer(stager) as q:
        assert q.resumed.incarnation == 2
        assert (q.resumed.next_offset, q.resumed.last_step, q.resumed.last_epoch) == (10, 9, 2)
        for i in range(10, 20):
            q.put(i, float(i), frame(i), epoch=3)
    assert read_all(client, "w0") == list(range(20))


def test_memory_is_bounded_by_the_capacity(stager: Stager, client: StagerClient):
    options = StreamOptions(capacity=4 << 20, keep=1 << 20)
    with producer(stager, options=options) as p:
        position = 0
        for i in range(200_000):
            p.put(i, float(i), frame(i))
            if i % 10_000 == 9_999:
                p.flush()
                while position < i:
                    at = {"frames/w0": position}
                    with client.fetch(at, group="g", commit=at) as got:
                        position = got.positions["frames/w0"]
        client.commit("g", {"frames/w0": position})
        status = client.status("frames/w0")
        assert status.allocated <= 4 << 20
        assert status.dropped == 0
        assert status.end == 200_000


def test_views_stay_what_they_were_while_they_are_held(stager: Stager, client: StagerClient):
    options = StreamOptions(when_full="drop_oldest", capacity=4 << 20)
    with producer(stager, options=options) as p:
        for i in range(1000):
            p.put(i, float(i), frame(i))
        p.flush()
        held = client.fetch({"frames/w0": 0})
        before = held.batches[0]["x"].copy()
        for i in range(1000, 400_000):
            p.put(i, float(i), frame(i))
        p.flush()
        assert client.status("frames/w0").low > 1000
        assert np.array_equal(held.batches[0]["x"], before)
        held.release()


def test_schema_travels_whole(stager: Stager, client: StagerClient):
    with producer(stager):
        assert client.schema("w0") == SCHEMA


@pytest.mark.parametrize("mapped", [True, False])
def test_a_fetch_brings_no_more_frames_than_asked_for(stager: Stager, mapped: bool):
    with producer(stager) as p, StagerClient(stager.address, mapped=mapped) as client:
        for i in range(1000):
            p.put(i, float(i), frame(i))
        p.flush()
        position, sizes = 0, []
        while position < 1000:
            with client.fetch({"frames/w0": position}, max_frames=7) as got:
                sizes.append(sum(len(b) for b in got.batches))
                assert got.batches[0].first == position
                position = got.positions["frames/w0"]
        assert max(sizes) == 7
        assert sum(sizes) == 1000


def test_a_busy_stream_does_not_hide_the_others(stager: Stager, client: StagerClient):
    names = ["busy", "quiet-1", "quiet-2"]
    producers = [producer(stager, name) for name in names]
    try:
        for i in range(5000):
            producers[0].put(i, float(i), frame(i))
        for p in producers[1:]:
            p.put(0, 0.0, frame(0))
        for p in producers:
            p.flush()
        positions: dict[str, int] = {}
        seen: set[str] = set()
        for _ in range(2):
            with client.fetch(positions, follow="frames/", max_frames=2) as got:
                positions.update(got.positions)
                seen |= {b.simulation for b in got.batches}
        assert seen == set(names)
    finally:
        for p in producers:
            p.close()


def test_rows_that_follow_each_other_are_one_batch(stager: Stager, client: StagerClient):
    with producer(stager) as p:
        for i in range(50):
            p.put(i, float(i), frame(i))
            p.flush()
        with client.fetch({"frames/w0": 0}) as got:
            assert [len(b) for b in got.batches] == [50]
