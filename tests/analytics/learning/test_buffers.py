"""Buffers: bounded, counted, and the same however samples come."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analytics.learning.buffers import Fifo, FifoReuse, Firo, Reservoir, make_buffer
from bridge.codec import decode_state, encode_state
from bridge.errors import ConfigError, PipelineError, SchemaError

KINDS = (Fifo, FifoReuse, Firo, Reservoir)


def rows(first, n):
    return np.arange(first, first + n, dtype=np.float32)[:, None] * np.ones((1, 3), np.float32)


def drive(buffer, sizes, *, at_once):
    """Put samples, and draw batches of 4 at the same places in the stream."""
    drawn, first = [], 0
    for size in sizes:
        for start in range(0, size, size if at_once else 1) if size else ():
            buffer.put(rows(first + start, size if at_once else 1))
        first += size
        if buffer.can_sample(4):
            drawn.append(buffer.sample(4)[0][:, 0])
    return drawn, buffer


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40, deadline=None)
@given(sizes=st.lists(st.integers(0, 30), max_size=12), limit=st.integers(4, 25))
def test_what_is_drawn_depends_on_the_samples_and_their_order_alone(kind, sizes, limit):
    whole, first = drive(kind(max_samples=limit, seed=3), sizes, at_once=True)
    single, second = drive(kind(max_samples=limit, seed=3), sizes, at_once=False)
    assert len(whole) == len(single)
    for a, b in zip(whole, single, strict=True):
        np.testing.assert_array_equal(a, b)
    assert first.statistics() == second.statistics()


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 30), min_size=1, max_size=12),
    limit=st.integers(4, 25),
    data=st.data(),
)
def test_a_restored_buffer_goes_on_to_the_bit(kind, sizes, limit, data):
    cut = data.draw(st.integers(0, len(sizes)))
    _, buffer = drive(kind(max_samples=limit, seed=1), sizes[:cut], at_once=True)
    other = kind(max_samples=limit, seed=1)
    other.restore(decode_state(encode_state(buffer.save())))
    assert other.statistics() == buffer.statistics()
    whole, _ = drive(buffer, sizes[cut:], at_once=True)
    again, _ = drive(other, sizes[cut:], at_once=True)
    assert [a.tolist() for a in whole] == [a.tolist() for a in again]
    assert other.statistics() == buffer.statistics()


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=30, deadline=None)
@given(sizes=st.lists(st.integers(0, 30), max_size=12), limit=st.integers(4, 25))
def test_nothing_is_lost_uncounted(kind, sizes, limit):
    drawn, buffer = drive(kind(max_samples=limit, seed=5), sizes, at_once=True)
    told = buffer.statistics()
    assert told.size <= limit
    assert told.seen == sum(sizes)
    assert told.drawn == 4 * len(drawn)
    gone = told.drawn if kind in (Fifo, Firo) else 0
    assert told.seen == told.size + told.evicted + gone
    assert told.unused <= told.evicted
    assert all(np.all(batch < told.seen) for batch in drawn)


def test_fifo_keeps_the_order_and_uses_each_sample_once():
    buffer = Fifo(max_samples=10)
    buffer.put(rows(0, 7))
    assert buffer.sample(3)[0][:, 0].tolist() == [0, 1, 2]
    buffer.put(rows(7, 8))
    assert buffer.sample(4)[0][:, 0].tolist() == [5, 6, 7, 8]
    assert buffer.statistics().unused == 2


def test_firo_uses_each_sample_once_in_another_order():
    buffer = Firo(max_samples=100, seed=2)
    buffer.put(rows(0, 100))
    drawn = np.concatenate([buffer.sample(10)[0][:, 0] for _ in range(10)])
    assert sorted(drawn.tolist()) == list(range(100))
    assert drawn.tolist() != list(range(100))
    assert not buffer.can_sample(1)


def test_a_window_holds_the_newest():
    buffer = FifoReuse(max_samples=8)
    buffer.put(rows(0, 30))
    assert buffer.content()[0][:, 0].tolist() == list(range(22, 30))
    assert sorted(buffer.sample(8)[0][:, 0].tolist()) == list(range(22, 30))


def test_a_reservoir_lets_go_of_what_was_used():
    buffer = Reservoir(max_samples=20, seed=7)
    buffer.put(rows(0, 20))
    used = set(buffer.sample(5)[0][:, 0].tolist())
    buffer.put(rows(20, 5))
    held = set(buffer.content()[0][:, 0].tolist())
    assert held == (set(range(25)) - used)
    assert buffer.statistics().unused == 0


def test_a_reservoir_that_learns_often_enough_uses_every_sample():
    buffer = Reservoir(max_samples=64, seed=7)
    for i in range(400):
        buffer.put(rows(4 * i, 4))
        if buffer.can_sample(16):
            buffer.sample(16)
    told = buffer.statistics()
    assert told.unused == 0
    assert told.uses > 2
    assert buffer.content()[0][:, 0].min() < 1400


def test_pairs_stay_together_and_integers_stay_integers():
    buffer = Reservoir(max_samples=9, seed=1)
    x = rows(0, 30)
    buffer.put(x, x + 0.5, np.arange(30))
    a, b, number = buffer.sample(6)
    np.testing.assert_array_equal(b, a + 0.5)
    np.testing.assert_array_equal(a[:, 0], number)
    assert number.dtype == np.int64


def test_a_buffer_is_bounded_in_bytes():
    buffer = FifoReuse(max_bytes="1 kB")
    buffer.put(np.zeros((500, 10)))
    assert buffer.capacity == 25
    assert buffer.statistics().nbytes == 1000
    with pytest.raises(SchemaError, match="holds 0 samples of 2000 bytes"):
        FifoReuse(max_bytes="1 kB").put(np.zeros((1, 500)))


def test_a_threshold_is_waited_for():
    buffer = Firo(threshold=10)
    buffer.put(rows(0, 9))
    assert not buffer.can_sample(2)
    with pytest.raises(PipelineError, match="waits for 10"):
        buffer.sample(2)
    buffer.put(rows(9, 1))
    assert buffer.can_sample(2)


def test_wrong_samples_and_tables_are_refused():
    buffer = make_buffer({"kind": "fifo", "max_bytes": "1 MiB"}, seed=0, where="train.toml")
    buffer.put(rows(0, 3))
    with pytest.raises(SchemaError, match="all simulations must send the same"):
        buffer.put(np.zeros((2, 4)))
    with pytest.raises(SchemaError, match="as many"):
        buffer.put(rows(0, 3), rows(0, 2))
    with pytest.raises(ConfigError, match="did you mean 'reservoir'"):
        make_buffer({"kind": "reservor"}, seed=0, where="train.toml")
    with pytest.raises(ConfigError, match="must not be negative"):
        make_buffer({"threshold": -1}, seed=0, where="train.toml")
    with pytest.raises(PipelineError, match="kind 'fifo' was saved"):
        Reservoir().restore(buffer.save())
    with pytest.raises(PipelineError, match="this one takes 2"):
        Fifo(max_samples=2).restore(
            Fifo(max_samples=3).save() | {"capacity": 3, "rows_0": rows(0, 0)}
        )
