"""The source that plays a script does what the script says."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import msgspec
import numpy as np
import pytest

from bridge.commands import Acknowledgement, Command
from bridge.frames import FrameBatch
from bridge.staging import Stager, StagerClient
from bridge.testing.sources import ABORT, END, PAUSE, ScriptedSource, make_frames
from tests.bridge.engines.common import read

FRAMES = make_frames("a", 30, {"x": (2, 3)}, seed=1)


@pytest.fixture
def client() -> Iterator[StagerClient]:
    with (
        Stager(f"memory://{uuid4().hex}").start() as stager,
        StagerClient(stager.address) as connection,
    ):
        yield connection


def read_frames(client: StagerClient) -> FrameBatch:
    with client.fetch({"frames/a": 0}, wait=1.0) as fetched:
        return FrameBatch.concatenate(fetched.batches).copy()


def part(start: int, stop: int) -> FrameBatch:
    return FRAMES.take(slice(start, stop))


def test_frames_arrive_as_they_are(client: StagerClient) -> None:
    ScriptedSource("a", [FRAMES, END], address=client.address).play()
    found = read_frames(client)
    assert np.array_equal(found["x"], FRAMES["x"])
    assert np.array_equal(found.steps, FRAMES.steps)
    assert np.array_equal(found.times, FRAMES.times)
    assert client.status("frames/a").finished


def test_a_pause_comes_after_what_was_put_and_ends_when_told(client: StagerClient) -> None:
    script = [part(0, 10), PAUSE, part(10, 30), PAUSE, END]
    with ScriptedSource("a", script, address=client.address) as source:
        for number, count in ((1, 10), (2, 30)):
            source.wait_until_paused(number)
            assert client.status("frames/a").end == count
            source.resume()
    assert client.status("frames/a").finished


def test_an_abort_leaves_the_stream_open_for_another_life(client: StagerClient) -> None:
    script = [part(0, 10), ABORT, PAUSE, part(5, 30), END]
    with ScriptedSource("a", script, address=client.address) as source:
        source.wait_until_paused()
        status = client.status("frames/a")
        assert (status.end, status.finished, status.incarnation) == (10, False, 1)
        source.resume()
    status = client.status("frames/a")
    assert (status.end, status.finished, status.incarnation) == (30, True, 2)
    assert np.array_equal(read_frames(client)["x"], FRAMES["x"])


def test_commands_are_answered_and_a_stop_ends_the_stream(client: StagerClient) -> None:
    script = [part(0, 10), PAUSE, part(10, 30), END]
    with ScriptedSource("a", script, address=client.address) as source:
        source.wait_until_paused()
        for kind in ("pause", "stop"):
            command = Command(kind, "a", id=f"id/{kind}")  # type: ignore[arg-type]
            client.append("commands/a", [msgspec.msgpack.encode(command)])
    assert [c.kind for c in source.commands] == ["pause", "stop"]
    answers = read(client, "acks/a", Acknowledgement)
    assert [(a.command, a.outcome, a.step) for a in answers] == [
        ("id/pause", "applied", 90),
        ("id/stop", "applied", 90),
    ]
    status = client.status("frames/a")
    assert (status.end, status.finished) == (10, True)


def test_what_goes_wrong_in_a_script_is_raised_where_it_is_waited_for(
    client: StagerClient,
) -> None:
    wrong = FrameBatch.from_arrays("a", {"y": np.zeros(3)}, steps=[100, 200, 300])
    source = ScriptedSource("a", [part(0, 10), wrong], address=client.address).start()
    with pytest.raises(ValueError, match="y"):
        source.join()


def test_a_pause_that_nobody_ends_is_an_error(client: StagerClient) -> None:
    source = ScriptedSource("a", [part(0, 1), PAUSE], address=client.address, time_limit=0.1)
    source.start()
    source.wait_until_paused()
    with pytest.raises(TimeoutError, match="Nobody resumed 'a'"):
        source.join()
