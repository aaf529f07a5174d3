"""Several stagers: everybody finds the same one, and a client reads from all."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest

from bridge.commands import FrameReference
from bridge.engines.local import LocalEngine
from bridge.errors import ConfigError, NobodyListening, StagingError, UnknownTopic
from bridge.staging import (
    SpreadClient,
    Stager,
    StagerClient,
    connect,
    owner,
    publish,
    resolve,
)
from bridge.staging.ownership import split_addresses, subject
from bridge.staging.rendezvous import file_name, withdraw
from bridge.testing.sources import END, ScriptedSource, make_frames
from tests.bridge.engines.common import check_commands, check_results, play
from tests.bridge.engines.pipelines import EachTenth, make_pipeline

NAMES = [f"walker-{i}" for i in range(6)]


@pytest.fixture
def stagers() -> Iterator[tuple[Stager, Stager, Stager]]:
    made = [Stager(f"memory://{number}-{uuid4().hex}") for number in range(3)]
    with made[0] as a, made[1] as b, made[2] as c:
        yield a.start(), b.start(), c.start()


@pytest.fixture
def everywhere(stagers: tuple[Stager, ...]) -> str:
    return ",".join(stager.address for stager in stagers)


def test_everybody_finds_the_same_owner() -> None:
    addresses = [f"tcp://10.0.0.{i}:5555" for i in range(4)]
    names = [f"sim-{i}" for i in range(4000)]
    found = {name: owner(name, addresses) for name in names}
    assert found == {name: owner(name, ", ".join(reversed(addresses))) for name in names}
    counts = Counter(found.values())
    assert set(counts) == set(addresses)
    # Binomial, n = 4000, p = 1/4: five standard deviations are 137.
    assert all(abs(n - 1000) < 137 for n in counts.values())


def test_only_streams_of_a_lost_stager_move() -> None:
    addresses = [f"tcp://10.0.0.{i}:5555" for i in range(4)]
    for name in (f"sim-{i}" for i in range(500)):
        before = owner(name, addresses)
        if before != addresses[3]:
            assert owner(name, addresses[:3]) == before


def test_topics_of_a_simulation_lie_together() -> None:
    topics = ("frames/w", "commands/w", "acks/w", "results/p/w", "partials/p/w/3", "state/p/w")
    assert {subject(topic) for topic in topics} == {"w"}
    assert [subject(t) for t in ("events", "turns/p", "status/p")] == [
        "events",
        "turns/p",
        "status/p",
    ]


def test_addresses_are_needed() -> None:
    with pytest.raises(ConfigError, match="No stager is named"):
        split_addresses(" , ")
    assert split_addresses("b,a, b") == ("a", "b")


def test_one_address_gives_a_plain_client(stagers: tuple[Stager, ...]) -> None:
    with connect(stagers[0].address) as client:
        assert isinstance(client, StagerClient)


def test_an_engine_over_several_stagers(stagers: tuple[Stager, ...], everywhere: str) -> None:
    streams = {name: make_frames(name, 200, {"x": (4, 3)}) for name in NAMES}
    play(everywhere, streams)
    held = []
    for stager in stagers:
        with StagerClient(stager.address) as alone:
            held.append(len(alone.topics("frames/")))
    assert sum(held) == 6
    assert max(held) < 6
    with connect(everywhere) as client, connect(everywhere) as reader:
        assert isinstance(client, SpreadClient)
        LocalEngine(make_pipeline(("tenth", EachTenth())), client).run()
        assert check_results(reader, streams) == 1200  # type: ignore[arg-type]
        check_commands(reader, streams, every=10, frames=1200)  # type: ignore[arg-type]
        frame = reader.read_frame(FrameReference("walker-3", 7))
        np.testing.assert_array_equal(frame["x"], streams["walker-3"]["x"][7])
        assert reader.schema("walker-1").names == ("x",)
        assert reader.watermark("results/test/walker-1", "test/walker-1") == 200
        with pytest.raises(UnknownTopic):
            reader.status("frames/nobody")


def test_a_fetch_waits_for_all_stagers_at_once(everywhere: str) -> None:
    with connect(everywhere) as client:
        began = time.monotonic()
        assert not client.fetch({f"frames/{name}": 0 for name in NAMES}, wait=0.2)
        assert time.monotonic() - began >= 0.19
        source = ScriptedSource("walker-2", [make_frames("walker-2", 3, {"x": ()}), END],
                                address=everywhere)  # fmt: skip
        thread = threading.Thread(target=source.play)
        thread.start()
        frames = 0
        positions = {f"frames/{name}": 0 for name in NAMES}
        while frames < 3:
            with client.fetch(positions, wait=30.0) as fetched:
                assert fetched
                frames += sum(map(len, fetched.batches))
                positions |= fetched.positions
        thread.join(10)


def test_much_is_read_from_all_in_turn(everywhere: str) -> None:
    streams = {name: make_frames(name, 400, {"x": (4, 3)}) for name in NAMES}
    play(everywhere, streams)
    positions = {f"frames/{name}": 0 for name in NAMES}
    seen = Counter[str]()
    with connect(everywhere) as client:
        for _ in range(30):
            with client.fetch(positions, max_frames=20, wait=1.0) as fetched:
                assert sum(map(len, fetched.batches)) <= 20
                seen.update({b.simulation: len(b) for b in fetched.batches})
                positions |= fetched.positions
    assert set(seen) == set(NAMES)


def test_who_asks_for_nothing_waits(everywhere: str) -> None:
    with connect(everywhere) as client:
        began = time.monotonic()
        assert not client.fetch({}, wait=0.1)
        assert time.monotonic() - began >= 0.09


def test_all_commits_arrive_whoever_has_enough_to_bring(everywhere: str) -> None:
    play(everywhere, {name: make_frames(name, 40, {"x": (2,)}) for name in NAMES})
    with connect(everywhere) as client:
        positions = {f"frames/{name}": 0 for name in NAMES}
        commits = {f"frames/{name}": 30 for name in NAMES}
        # The first stager has all the frames that are asked for; the others are not reached.
        with client.fetch(positions, group="g", commit=commits, max_frames=1) as fetched:
            assert sum(map(len, fetched.batches)) == 1
        for name in NAMES:
            assert client.status(f"frames/{name}").groups["g"] == 30


def test_a_stream_at_the_wrong_stager_is_told(stagers: tuple[Stager, ...], everywhere: str) -> None:
    wrong = next(s.address for s in stagers if s.address != owner("lost", everywhere))
    ScriptedSource("lost", [make_frames("lost", 1, {"x": ()})], address=wrong).play()
    with connect(everywhere) as client, pytest.raises(StagingError, match="belongs to"):
        client.topics("frames/")


def test_events_of_all_stagers_can_be_read(stagers: tuple[Stager, ...], everywhere: str) -> None:
    for stager in stagers:
        with StagerClient(stager.address) as one:
            one.append("events", [stager.address.encode()])
    with connect(everywhere) as client:
        names = [t.name for t in client.topics("events")]
        assert len(names) == len(set(names)) == 3
        got = client.fetch(dict.fromkeys(names, 0), wait=1.0)
        assert {bytes(r.data).decode() for r in got.records} == set(everywhere.split(","))
        assert set(got.positions) == set(names)


def test_several_stagers_are_found_by_the_folder(tmp_path: Path) -> None:
    publish(tmp_path, "tcp://127.0.0.1:7001", number=1, count=2)
    with pytest.raises(NobodyListening, match=r"stager-2\.json"):
        resolve(run_directory=tmp_path, timeout=0.05, environment={})
    publish(tmp_path, "tcp://127.0.0.1:7002", number=2, count=2)
    found = resolve(run_directory=tmp_path, environment={})
    assert found == "tcp://127.0.0.1:7001,tcp://127.0.0.1:7002"
    withdraw(tmp_path, "tcp://127.0.0.1:7002", number=2)
    assert not (tmp_path / file_name(2)).exists()


def test_several_addresses_in_the_environment() -> None:
    given = "tcp://127.0.0.1:1,tcp://127.0.0.1:2"
    assert resolve(environment={"HEADRACE_STAGER": given}) == given
