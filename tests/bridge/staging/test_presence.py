"""Who is killed is told of within seconds, who only says nothing later; who comes back is back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bridge.commands import Event
from bridge.staging import Stager, StagerClient
from bridge.staging import messages as m
from bridge.staging.catalogue import Catalogue
from bridge.staging.core import SILENT_AFTER, StagerCore
from bridge.staging.segments import SegmentStore
from tests.bridge.staging.common import SCHEMA

PRODUCER = """
import os, sys, time
sys.path[:0] = {path!r}
from tests.bridge.staging.common import SCHEMA, frame
from bridge.staging import Producer
p = Producer("w0", SCHEMA, address={address!r})
p.put(0, 0.0, frame(0))
p.flush()
os.kill(os.getpid(), {signal})
"""


def told(client: StagerClient) -> list[Event]:
    with client.fetch({"events": 0}, wait=1.0) as got:
        found = [msgspec.msgpack.decode(r.data, type=Event) for r in got.records]
    return [event for event in found if event.kind == "silent"]


def test_a_producer_that_is_killed_is_told_of() -> None:
    with Stager("tcp://127.0.0.1:0") as stager:
        stager.start()
        with StagerClient(stager.address) as client:
            here = [str(Path(__file__).parent), os.getcwd()]
            code = PRODUCER.format(path=here, address=stager.address, signal=int(signal.SIGKILL))
            subprocess.run([sys.executable, "-c", code], check=False, timeout=60)
            deadline = time.monotonic() + 60
            while not (events := told(client)):
                assert time.monotonic() < deadline
            [event] = events
            assert event.simulation == "w0"
            # Not for its silence: that would have taken longer.
            assert event.data == {"rank": 0, "gone": True}
            assert "was killed" in event.message
            assert not client.status("frames/w0").connected


class Watched:
    """A stager's state machine with one producer, who may be cut off; the clock is the test's."""

    def __init__(self, folder: Path) -> None:
        self.connected = True
        self.now = 1e9
        self.catalogue = Catalogue(SegmentStore(folder, limit=1 << 26))
        self.core = StagerCore(self.catalogue, self.send)
        self.ask(m.Hello(1))
        self.ask(m.OpenStream(2, "w0", SCHEMA, m.StreamOptions(), "token"))

    def send(self, peer: bytes, parts: list[Any]) -> bool:
        return self.connected

    def ask(self, request: m.Request) -> None:
        self.core.handle(b"p", [memoryview(m.encode(request))], self.now)
        self.core.settle(self.now)

    def wait(self, seconds: float) -> list[bool]:
        """Let time pass; returns of each event whether the producer was said to be gone."""
        end = self.now + seconds
        while self.now < end:
            self.now += 0.5
            self.core.tick(self.now)
        topic = self.catalogue.records("events", None)
        events = [msgspec.msgpack.decode(topic.data(r), type=Event) for r in topic.live()]
        return [e.data["gone"] for e in events if e.kind == "silent"]


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    watched = Watched(tmp_path / "segments")
    yield watched
    watched.catalogue.close()
    watched.catalogue.store.close(remove=True)


def test_who_is_gone_is_told_of_within_five_seconds_and_once(watched: Watched) -> None:
    watched.connected = False
    assert watched.wait(2.5) == []
    assert watched.wait(2.5) == [True]
    assert watched.wait(30.0) == [True]


def test_who_is_cut_off_and_back_at_once_is_not_told_of(watched: Watched) -> None:
    for _ in range(10):
        watched.connected = False
        assert watched.wait(3.0) == []
        watched.connected = True
        watched.ask(m.Ping(3))


def test_who_says_nothing_though_connected_is_told_of_later(watched: Watched) -> None:
    assert watched.wait(SILENT_AFTER) == []
    assert watched.wait(2.0) == [False]
    log = watched.catalogue.existing_frames("w0")
    assert not log.connected
    # Who is heard again is there.
    watched.ask(m.Ping(3))
    assert log.connected
    assert watched.wait(5.0) == [False]
    assert watched.wait(SILENT_AFTER) == [False, False]
