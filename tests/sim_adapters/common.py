"""What the tests of adapters share."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from bridge import FrameBatch
from bridge.staging import StagerClient

__all__ = ["read_stream", "wait_until", "wait_until_full"]


def read_stream(client: StagerClient, simulation: str) -> FrameBatch:
    """Return all frames of a finished stream, copied."""
    topic, position = f"frames/{simulation}", 0
    out: list[FrameBatch] = []
    while True:
        with client.fetch({topic: position}, wait=60.0) as got:
            out += [b.copy() for b in got.batches]
            position = got.positions.get(topic, position)
            if topic in got.finished:
                break
            assert got, f"Nothing more of {simulation!r} came within 60 s."
    whole = FrameBatch.concatenate(out)
    assert np.array_equal(whole.offsets, np.arange(len(whole)))
    assert np.all(np.diff(whole.steps) > 0)
    assert np.all(np.diff(whole.times) > 0)
    return whole


def wait_until(ready: Callable[[], bool], what: str) -> None:
    """Wait for something that another thread or process brings about, for 60 s at most."""
    end = time.monotonic() + 60.0
    while not ready():
        assert time.monotonic() < end, f"Waited 60 s for {what}."
        time.sleep(0.002)


def wait_until_full(client: StagerClient, least: int) -> None:
    """Wait until a stream has no room for another frame, and has not grown for a while.

    At any other time a simulation hears a stop, too, but loses no frame to it.
    """
    end = time.monotonic() + 60.0
    before, looks = -1, 0
    now = None
    while time.monotonic() < end:
        now = next(iter(client.topics("frames/w", schemas=False)), None)
        if now is not None:
            room = now.options.capacity
            looks = looks + 1 if now.end == before else 0
            before = now.end
            # Ranks that have unequal parts of the frames leave some of it unused, and bytes that
            # are sent come in chunks of up to half of it: then it must have rested for longer.
            full = now.allocated > 0.9 * room and now.bytes > 0.7 * room
            half = now.allocated > 0.45 * room
            if before >= least and (looks >= 1 if full else half and looks >= 8):
                return
        with client.fetch({"none": 0}, wait=0.3):
            pass
    raise AssertionError(f"The stream did not become full: {now!r}")
