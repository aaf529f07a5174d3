"""What happens when a stream is full is what its policy says, and every drop is counted."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from bridge import Event
from bridge.errors import StorageFull, StreamFull
from bridge.staging import Producer, Stager, StagerClient, StreamOptions
from tests.bridge.staging.common import frame, producer, read_all

SMALL = 2 << 20


def put_all(p: Producer, first: int, *, timeout: float) -> None:
    for i in range(first, 10**6):
        p.put(i, float(i), frame(i), timeout=timeout)


def fill(stager: Stager, policy: str, count: int, **more: object):
    options = StreamOptions(when_full=policy, capacity=SMALL, keep=0)  # type: ignore[arg-type]
    p = producer(stager, options=options, **more)
    taken = 0
    for i in range(count):
        taken += p.put(i, float(i), frame(i))
    p.flush()
    return p, taken


def check_told(client: StagerClient, total: int) -> None:
    """The events tell of drops about once a second; in the end of all of them."""
    position, told = 0, 0
    for _ in range(30):
        with client.fetch({"events": position}, wait=1.0) as got:
            for record in got.records:
                event = msgspec.msgpack.decode(record.data, type=Event)
                if event.kind == "dropped":
                    told += int(event.data["dropped"])
                    assert told == event.data["total"]
            position = got.positions.get("events", position)
        if told == total:
            return
    raise AssertionError(f"{told} of {total} drops were told.")


@pytest.mark.parametrize("mapped", [True, False])
def test_block_waits_and_then_says_for_what(stager: Stager, client: StagerClient, mapped: bool):
    options = StreamOptions(capacity=SMALL, keep=0)
    with producer(stager, options=options, mapped=mapped) as p:
        with pytest.raises(StreamFull, match=r"Waited 0\.5 s for room in the stream of 'w0'"):
            put_all(p, 0, timeout=0.5)
        i = p.statistics().frames
        assert p.statistics().dropped == 0
        # How much a client takes before it knows that the stager is full depends on the machine;
        # the newest of it may still be on their way.
        got = read_all(client, "w0", group="g", limit=i if mapped else i - 500)
        for k in range(i, i + 20_000):
            p.put(k, float(k), frame(k), timeout=60.0)
            if k % 2000 == 0 and k - 500 > len(got):
                # All but the newest, which may still be on their way.
                got += read_all(client, "w0", start=len(got), group="g", limit=k - 500 - len(got))
        got += read_all(client, "w0", start=len(got), group="g", limit=i + 20_000 - len(got))
    assert got == list(range(i + 20_000))


@pytest.mark.parametrize("mapped", [True, False])
def test_drop_oldest_keeps_the_newest(stager: Stager, client: StagerClient, mapped: bool):
    p, taken = fill(stager, "drop_oldest", 100_000, mapped=mapped)
    with p:
        assert taken == 100_000
        status = client.status("frames/w0")
        assert status.end == 100_000
        assert status.dropped == status.low > 0
        with client.fetch({"frames/w0": 0}) as got:
            assert got.gaps[0].first == 0
            assert got.gaps[0].stop == status.low == got.batches[0].first
        check_told(client, status.dropped)


def test_drop_newest_keeps_the_oldest(stager: Stager, client: StagerClient):
    p, taken = fill(stager, "drop_newest", 100_000)
    with p:
        assert 0 < taken < 100_000
        assert p.statistics().dropped == 100_000 - taken
    status = client.status("frames/w0")
    assert (status.low, status.end, status.dropped) == (0, taken, 100_000 - taken)
    assert read_all(client, "w0") == list(range(taken))
    check_told(client, status.dropped)


def test_latest_offers_the_newest_frame_only(stager: Stager, client: StagerClient):
    p, _ = fill(stager, "latest", 30_000)
    with p:
        p.put(30_000, 1.0, frame(30_000))
        p.flush()
        with client.fetch({"frames/w0": 0}, max_frames=1 << 20) as got:
            newest = got.batches[-1]
            assert newest["energy"][-1] == -30_000
        status = client.status("frames/w0")
        assert status.end == 30_001
        assert status.dropped == status.low


def test_a_slow_group_holds_what_it_needs(stager: Stager, client: StagerClient):
    client_b = StagerClient(stager.address)
    options = StreamOptions(capacity=SMALL, keep=0)
    with producer(stager, options=options) as p, client_b:
        p.put(0, 0.0, frame(0))
        p.flush()
        client.commit("slow", {"frames/w0": 0})
        client_b.commit("fast", {"frames/w0": 1})
        with pytest.raises(StreamFull):
            put_all(p, 1, timeout=0.3)
        assert client.status("frames/w0").low == 0
        client.leave("slow", ["frames/w0"])
        client.commit("fast", {"frames/w0": client.status("frames/w0").end})
        p.put(10**6, 1.0, frame(1), timeout=60.0)


def test_the_stager_limit_is_a_clear_error():
    schema_bytes = 3 << 20
    with Stager("memory://limit", limit=schema_bytes) as stager:
        stager.start()
        options = StreamOptions(capacity=64 << 20)
        with (
            producer(stager, options=options) as p,
            pytest.raises(StorageFull, match="over the limit"),
        ):
            put_all(p, 0, timeout=1.0)
        with StagerClient(stager.address) as client, client.fetch({"events": 0}) as got:
            kinds = {msgspec.msgpack.decode(r.data, type=Event).kind for r in got.records}
        assert "storage_full" in kinds


def test_a_capacity_below_two_frames_is_refused(stager: Stager):
    with pytest.raises(StorageFull, match="must hold at least two frames"):
        producer(stager, options=StreamOptions(capacity=100))


def test_drops_by_policy_do_not_break_the_order(stager: Stager, client: StagerClient):
    p, _ = fill(stager, "drop_newest", 60_000)
    with p:
        topic = {"frames/w0": client.status("frames/w0").end}
        client.commit("g", topic)
        after = 0
        for i in range(60_000, 80_000):
            after += p.put(i, float(i), frame(i))
        p.flush()
        assert after > 0
        with client.fetch(topic, max_frames=1 << 20) as got:
            steps = np.concatenate([b.steps for b in got.batches])
        assert np.all(np.diff(steps) > 0)
        assert steps[0] >= 60_000


@pytest.mark.parametrize("mapped", [True, False])
def test_a_put_is_given_up_when_somebody_says_so(
    stager: Stager, client: StagerClient, mapped: bool
):
    options = StreamOptions(capacity=SMALL, keep=0)
    asked: list[bool] = []

    def give_up() -> bool:
        asked.append(len(asked) >= 2)
        return asked[-1]

    p = producer(stager, options=options, mapped=mapped)
    i = 0
    while p.put(i, float(i), frame(i), timeout=60.0, give_up=give_up):
        i += 1
    assert asked == [False, False, True]
    assert p.statistics().dropped == 1
    # What was sent and found no room is counted, once it is clear that there will be none.
    p.close(timeout=2.0, abandon=True)
    figures, status = p.statistics(), client.status("frames/w0")
    assert status.finished
    assert status.dropped == figures.dropped >= 1
    assert status.end + figures.dropped == i + 1
    assert (figures.dropped == 1) == mapped
