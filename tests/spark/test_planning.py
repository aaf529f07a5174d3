"""Sharing out limits and ranges."""

from __future__ import annotations

import random

import pytest

from bridge.engines.spark.planning import Range, deal, pack, share


def test_a_fast_stream_leaves_slow_ones_their_share() -> None:
    waiting = {"fast": 1_000_000, "slow0": 3, "slow1": 40}
    granted = share(waiting, dict.fromkeys(waiting, 1), 100)
    assert granted == {"fast": 57, "slow0": 3, "slow1": 40}


def test_streams_that_want_as_much_get_as_much() -> None:
    waiting = dict.fromkeys("abcd", 1000)
    assert share(waiting, dict.fromkeys(waiting, 10), 4000) == dict.fromkeys("abcd", 100)


def test_what_is_rounded_up_turns() -> None:
    waiting = dict.fromkeys("abc", 5)
    ones = dict.fromkeys("abc", 1)
    served = [share(waiting, ones, 1, first=turn) for turn in range(3)]
    assert sorted(name for one in served for name in one) == ["a", "b", "c"]


def test_a_frame_larger_than_the_limit_comes_all_the_same() -> None:
    assert share({"a": 2}, {"a": 10_000}, 100) == {"a": 1}


@pytest.mark.parametrize("seed", range(20))
def test_a_limit_is_kept_and_used(seed: int) -> None:
    rng = random.Random(seed)
    waiting = {f"s{i}": rng.randrange(0, 50) for i in range(rng.randrange(1, 9))}
    costs = {name: rng.randrange(1, 20) for name in waiting}
    limit = rng.randrange(20, 500)
    granted = share(waiting, costs, limit, first=seed)
    spent = sum(granted[name] * costs[name] for name in granted)
    assert spent <= limit
    assert all(0 < n <= waiting[name] for name, n in granted.items())
    left = {name for name in waiting if granted.get(name, 0) < waiting[name]}
    assert not left or limit - spent < max(costs[name] for name in left) * len(waiting)


def test_a_large_range_is_split_and_small_ones_are_packed() -> None:
    large = pack([Range("a", 0, 100, 100 << 20)], 4, 1 << 20)
    assert [[(r.start, r.stop) for r in task] for task in large] == [
        [(0, 25)],
        [(25, 50)],
        [(50, 75)],
        [(75, 100)],
    ]
    small = pack([Range(f"s{i}", 0, 3, 600) for i in range(200)], 4, 1 << 20)
    assert len(small) == 1
    assert len(small[0]) == 200


@pytest.mark.parametrize("seed", range(20))
def test_every_frame_is_in_one_task(seed: int) -> None:
    rng = random.Random(seed)
    ranges = []
    for i in range(rng.randrange(1, 12)):
        start = rng.randrange(100)
        stop = start + rng.randrange(0, 300)
        ranges.append(Range(f"s{i}", start, stop, (stop - start) * rng.randrange(1, 5000)))
    tasks = pack(ranges, rng.randrange(1, 6), rng.randrange(1, 100_000))
    found = sorted(
        (r.simulation, n) for task in tasks for r in task for n in range(r.start, r.stop)
    )
    assert found == sorted((r.simulation, n) for r in ranges for n in range(r.start, r.stop))


def test_hands_are_even() -> None:
    dealt = deal({0: 100, 1: 1, 2: 1, 3: 1, 4: 97}, 2)
    assert dealt == [[0], [1, 2, 3, 4]]
