"""Frames that are written in place, row by row, and sent together."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from bridge import StreamSchema
from bridge.errors import FrameOrderError, SchemaError
from bridge.staging import Producer, Stager, StagerClient, StreamOptions
from tests.bridge.staging.common import producer, read_all

LARGE = StreamSchema.from_arrays(
    {"x": np.zeros((6000, 3), np.float32), "energy": np.zeros((), np.float64)},
    units={"x": "nm", "energy": "kJ/mol"},
)
"""Of frames whose checksums are made one by one."""


def _write(target: Producer, step: int, *, send: bool = False) -> None:
    row = target.next_row()
    assert row is not None
    row["x"][...] = step
    row["energy"][...] = -step
    target.put_row(step, 0.5 * step, send=send)


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
@pytest.mark.parametrize("mapped", [True, False], ids=["mapped", "sent"])
def test_rows_wait_until_they_are_sent(
    stager: Stager, client: StagerClient, mapped: bool, large: bool
):
    if large:
        target = Producer("w0", LARGE, address=stager.address, mapped=mapped)
    else:
        target = producer(stager, mapped=mapped)
    with target:
        for step in range(7):
            _write(target, step)
        target.send()
        assert read_all(client, "w0", limit=7) == list(range(7))
        _write(target, 7, send=True)
        assert read_all(client, "w0", start=7, limit=1) == [7]
        for step in range(8, 11):
            _write(target, step)
        target.flush(30.0)
        assert client.status("frames/w0").end == 11
        # What nobody sent is sent at the end.
        _write(target, 11)
    assert read_all(client, "w0") == list(range(12))


@pytest.mark.parametrize("mapped", [True, False], ids=["mapped", "sent"])
def test_what_waits_does_not_keep_the_room_that_it_waits_for(
    stager: Stager, client: StagerClient, mapped: bool
):
    options = StreamOptions(capacity=LARGE.frame_nbytes * 5, keep=0)
    target = Producer(
        "w0", LARGE, address=stager.address, options=options, timeout=60.0, mapped=mapped
    )

    def write() -> None:
        with target:
            for step in range(60):
                _write(target, step)

    thread = threading.Thread(target=write)
    thread.start()
    assert read_all(client, "w0", group="readers") == list(range(60))
    thread.join()


def test_large_frames_that_are_gathered_are_read_as_one_batch(stager: Stager, client: StagerClient):
    schema = StreamSchema.from_arrays({"x": np.zeros((1 << 17, 3), np.float32)})
    options = StreamOptions(segment=16 << 20)
    with Producer("w0", schema, address=stager.address, options=options, mapped=True) as target:
        for step in range(16):
            row = target.next_row()
            assert row is not None
            row["x"][...] = step
            target.put_row(step, 0.5 * step, send=False)
        target.send()
    with client.fetch({"frames/w0": 0}, max_bytes=64 << 20, wait=30.0) as got:
        assert np.concatenate([b.steps for b in got.batches]).tolist() == list(range(16))
        assert [float(x[0, 0]) for b in got.batches for x in b.columns["x"]] == list(range(16))
        # The first, before it was known that there are more to come, what fits the first segment,
        # and the rest.
        assert [len(b) for b in got.batches] == [1, 9, 6]


def test_rows_that_wait_outlive_the_stager(tmp_path: Path):
    with Stager(directory=tmp_path, durable=True) as first:
        address = first.start().address
        target = Producer("w0", LARGE, address=address, timeout=60.0)
        for step in range(5):
            _write(target, step)
        target.send()
        target.flush(30.0)
        for step in range(5, 9):
            _write(target, step)
    with Stager(address, directory=tmp_path, durable=True) as second:
        second.start()
        with target:
            _write(target, 9)
            target.send()
            target.flush(60.0)
        with StagerClient(address) as client:
            assert read_all(client, "w0") == list(range(10))


def test_a_row_is_asked_for_and_steps_increase(stager: Stager):
    with producer(stager) as target:
        with pytest.raises(SchemaError, match="call next_row first"):
            target.put_row(0, 0.0)
        _write(target, 3, send=True)
        with pytest.raises(FrameOrderError, match="came twice"):
            target.put_row(3, 0.0)
