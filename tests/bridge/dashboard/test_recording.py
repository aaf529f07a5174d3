"""Runs that are over: from their recording, from what they left, from topics on disk."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from bridge.commands import Command, Event, FrameReference
from bridge.dashboard.feed import Feed, open_feed
from bridge.dashboard.frames import Taken
from bridge.dashboard.recording.pictures import Pictures
from bridge.dashboard.recording.reader import load_recording
from bridge.dashboard.recording.writer import Recorder
from bridge.dashboard.static_report import make_static_report
from bridge.dashboard.stores.memory import Limits, Memory
from bridge.engines.protocol import EngineStatistics
from bridge.errors import ConfigError, OffsetOutOfRange
from bridge.frames import FrameBatch
from bridge.runs.directory import RunDirectory, write_json
from bridge.runs.records import save_lines
from bridge.runs.traces import Thinner, save_traces
from bridge.staging import Stager
from bridge.staging.messages import StreamOptions, TopicStatus
from bridge.staging.rendezvous import publish
from bridge.steering import LedgerLine
from tests.bridge.dashboard.feeding import (
    PIPELINE,
    Script,
    answer,
    decide,
    place,
    report,
    tell,
    wait_for,
)

CONFIGURATION = {
    "run": {"name": "walk"},
    "simulation": {"adapter": "openmm", "temperature": 310.0},
    "pipeline": {
        "name": PIPELINE,
        "operators": [{"use": "dihedrals"}, {"use": "a:B", "name": "r"}],
    },
    "report": {"maps": [{"name": "free", "x": "phi", "y": "psi", "labels": ["φ", "ψ"]}]},
    "steering": {"max_per_minute": 6},
}


def make_directory(path: Path) -> RunDirectory:
    """The folder of a run that has begun."""
    path.mkdir()
    directory = RunDirectory(path)
    write_json(directory.resolved, {"configuration": CONFIGURATION, "base": str(path)})
    return directory


def finish(directory: RunDirectory) -> None:
    """Write that the run is over."""
    text = {
        "outcome": "finished",
        "reason": "All is done.",
        "started": 1000.0,
        "wall_time_s": 100.0,
    }
    write_json(directory.report, text)


def results(first: int, count: int) -> dict[str, np.ndarray]:
    """Results that tell which frames they are of."""
    offsets = np.arange(first, first + count)
    return {"phi": np.sin(offsets), "psi": offsets * 1.0}


@pytest.fixture
def recorded(tmp_path: Path) -> Iterator[tuple[RunDirectory, dict[str, Any]]]:
    """The folder of a run that was recorded, and what its feed said when it ended."""
    directory = make_directory(tmp_path / "run")
    with Stager() as stager:
        stager.start()
        publish(directory.path, stager.address)
        a, b = Script(stager.address, "a"), Script(stager.address, "b")
        a.put(60)
        b.put(30)
        a.publish(results(0, 60))
        b.publish(results(0, 30))
        tell(a.client, "gap", "=1+1", simulation="a", stamp=time.time())
        command = Command("restart", "b", id="test/op/a@3", frame=FrameReference("a", 5))
        decide(a.client, command, "sent", time.time())
        answer(a.client, command, "applied", time.time())
        report(a.client, {"a": 60, "b": 30})
        feed = open_feed(directory, record=True)
        try:
            assert feed.wait_until_read(60.0)
            wait_for(lambda: feed.overview()["totals"]["frames"] == 90)
            wait_for(lambda: feed.ledger()["lines"])
        finally:
            said = tell_all(feed)
            feed.close()
        with open_feed(directory, record=True) as second:
            assert second.wait_until_read(60.0)
        a.close()
        b.close()
    (directory.path / "stager.json").unlink(missing_ok=True)
    finish(directory)
    return directory, said


def tell_all(feed: Feed) -> dict[str, Any]:
    """What a feed says of a run."""
    meta, arrays = feed.points("phi", "psi", "time")
    return {
        "points": {k: v.tolist() for k, v in arrays.items() if not k.startswith("stamp")},
        "stamps": arrays["stamp"] + meta["stamp0"],
        "series": feed.series(["psi"]).arrays["y1"].tolist(),
        "events": feed.events()["events"],
        "ledger": feed.ledger()["lines"],
        "overview": feed.overview()["simulations"],
        "capabilities": feed.capabilities(),
        "topology": feed.topology("a"),
        "names": feed.run()["simulations"],
        "graph": [n["id"] for n in feed.pipeline()["nodes"]],
    }


def test_a_recording_says_what_the_run_said(
    recorded: tuple[RunDirectory, dict[str, Any]],
) -> None:
    directory, before = recorded
    with open_feed(directory) as feed:
        after = tell_all(feed)
        about = feed.run()
        json.dumps(about, allow_nan=False)
        assert about["state"] == "ended"
        assert about["outcome"] == "finished"
        assert not about["live"]
        assert about["temperature"] == 310.0
        assert about["embedding"]["x"] == "phi"
        assert about["title"] == "walk (openmm)"
        assert after.pop("stamps") == pytest.approx(before.pop("stamps"))
        for row in (*before["overview"], *after["overview"]):
            # Those of the last seconds are gone: of a run that is over, they are of all of it.
            for name in ("spark", "rate", "ns_per_day"):
                row.pop(name)
        assert after == before
        assert feed.overview()["simulations"][0]["engine"] == "openmm"
        # The newest frame of each, and the one that the ledger names.
        assert feed.frame("a", "latest").meta["offset"] == 59
        named = feed.frame("a", 5)
        assert named.arrays["positions"] == pytest.approx(place(5) / 10, abs=1e-6)
        assert named.arrays["box"] == pytest.approx(np.eye(3) * 3)
        with pytest.raises(OffsetOutOfRange, match="The nearest one that was recorded is 5"):
            feed.frame("a", 7)
        nodes = {n["id"]: n for n in feed.pipeline()["nodes"]}
        assert nodes["operator/r"]["use"] == "a:B"


def test_a_dashboard_that_is_started_again_goes_on_with_the_recording(tmp_path: Path) -> None:
    directory = make_directory(tmp_path / "run")
    with Stager() as stager:
        stager.start()
        publish(directory.path, stager.address)
        script = Script(stager.address, "a")
        script.put(40)
        # Results that staging keeps no longer: only the first dashboard saw them.
        topic = f"results/{PIPELINE}/a"
        options = StreamOptions(when_full="drop_oldest", capacity=1 << 16, segment=1 << 14)
        script.client.append(topic, [], options=options)
        script.publish(results(0, 30))
        tell(script.client, "gap", "one")
        report(script.client, {"a": 30})
        with open_feed(directory, record=True) as feed:
            wait_for(lambda: feed.run()["memory"]["rows"] == 30)
            wait_for(lambda: feed.overview()["simulations"])
            start = feed.run()["replay"]["start"]
        for first in range(30, 4030, 20):
            script.publish(results(first, 20), first)
        assert script.client.status(topic).low > 1
        with open_feed(directory, record=True) as feed:
            assert feed.wait_until_read(60.0)
            wait_for(lambda: feed.run()["state"] == "running")
            _meta, arrays = feed.points("phi", "psi")
            offsets = arrays["offset"].tolist()
            assert offsets[:30] == list(range(30))
            assert offsets[-1] == 4029
            assert len(set(offsets)) == len(offsets)
            assert feed.events()["total"] == 1
            assert feed.run()["replay"]["start"] == start
            assert feed.overview(at=start + 1e9)["simulations"]
        script.close()
    (directory.path / "stager.json").unlink(missing_ok=True)
    finish(directory)
    with open_feed(directory) as feed:
        assert feed.points("phi", "psi").arrays["offset"].tolist() == offsets
        assert feed.frame("a", 39).meta["step"] == 390
    assert len(list((directory.path / "recording").glob("rows-*.npz"))) == 1


def test_one_dashboard_writes(tmp_path: Path) -> None:
    memory = Memory()
    memory.look([], PIPELINE, 1.0)

    def nothing(simulation: str, offset: int | None) -> Taken:
        raise OffsetOutOfRange("There is none.")

    one, two = (Recorder(tmp_path / "r", memory, lambda: PIPELINE, nothing) for _ in range(2))
    assert one.write()
    assert not two.write()
    one.stop()
    assert two.write()
    two.stop()


def test_how_simulations_ended_is_recorded(tmp_path: Path) -> None:
    memory, end = Memory(), 5

    def look(stamp: float, *, finished: bool) -> None:
        topic = TopicStatus("frames/w", "frames", end=end, finished=finished, last_step=10 * end)
        memory.look([topic], PIPELINE, stamp)

    def newest(simulation: str, offset: int | None) -> Taken:
        values = {"positions": np.zeros((2, 3), np.float32)}
        return Taken(simulation, end - 1, 10 * end, 1.0, 0, values, time.time())

    recorder = Recorder(tmp_path, memory, lambda: PIPELINE, newest, every=3600.0)
    look(1.0, finished=False)
    assert recorder.write()
    # Sooner than the history takes a sample, and than another picture is due.
    end = 7
    look(2.5, finished=False)
    end = 9
    look(2.7, finished=True)
    recorder.start()
    recorder.stop()
    again = Memory()
    pictures = load_recording(tmp_path, again)
    (row,) = again.simulations.rows(None)
    assert (row["state"], row["frames"], row["step"]) == ("finished", 9, 90)
    (mean,) = again.simulations.rows(None, mean=True)
    assert mean["rate"] == pytest.approx((9 - 5) / 1.7)
    assert pictures.newest("w") == 8


def test_a_recording_grows_by_what_is_new_and_stays_bounded(tmp_path: Path) -> None:
    limits = Limits(points=4000, recent=100, recording=120_000)
    memory = Memory(limits)

    def nothing(simulation: str, offset: int | None) -> Taken:
        raise OffsetOutOfRange("There is none.")

    recorder = Recorder(tmp_path, memory, lambda: PIPELINE, nothing)
    memory.look([], PIPELINE, 1.0)
    sizes = []
    for first in range(0, 12_000, 500):
        offsets = np.arange(first, first + 500)
        batch = FrameBatch.from_arrays(
            "w", {"phi": offsets * 1.0}, first_offset=first, times=offsets
        )
        memory.results.add(batch, float(first))
        memory.settle()
        recorder.write()
        files = list(tmp_path.glob("rows-*.npz"))
        sizes.append(sum(p.stat().st_size for p in files))
    assert max(sizes) < 2 * 120_000
    recorder.stop()
    again = Memory(limits)
    load_recording(tmp_path, again)
    rows = again.results.sample
    offsets = rows.key("offset")
    assert len(offsets) > 300
    assert len(np.unique(np.diff(offsets))) == 1, "An even sample."
    assert rows.column("phi")[:, 0].tolist() == offsets.tolist()
    (tmp_path / "history.npz").write_bytes(b"PK\x03\x04 nonsense")
    with pytest.raises(ConfigError, match="recording"):
        load_recording(tmp_path, Memory(limits))


def test_pictures_are_thinned_and_found_by_time(tmp_path: Path) -> None:
    pictures = Pictures(tmp_path, 20_000)
    for i in range(100):
        if i == 3 or pictures.due("../w", 1000.0 + 50 * i):
            values = {"positions": np.full((20, 3), i, np.float32)}
            taken = Taken("../w", i, i, i * 1.0, 0, values, 1000.0 + 50 * i)
            pictures.add(taken, 0.0, named=i == 3)
    assert pictures.nbytes <= 20_000
    assert sum(p.stat().st_size for p in tmp_path.rglob("*.npz")) == pictures.nbytes
    assert pictures.has("../w", 3), "What the ledger names stays longest."
    assert pictures.newest("../w") >= 80
    offset = pictures.newest("../w", 3500.0)
    assert 30 < offset <= 50
    assert pictures.read("../w", offset).values["positions"][0, 0] == offset
    assert not list(tmp_path.parent.glob("w*")), "A name is no path."


def test_a_run_without_a_recording_shows_what_it_left(tmp_path: Path) -> None:
    directory = make_directory(tmp_path / "run")
    line = LedgerLine(id="x", kind="pause", simulation="a", decided=1010.0, verdict="sent")
    save_lines(directory.ledger, [line])
    save_lines(directory.events, [Event("gap", "one", stamp=1020.0)])
    thinner = Thinner("a", 50, ["phi", "psi"], marks=[7])
    thinner.add(FrameBatch.from_arrays("a", results(0, 200), times=np.arange(200) * 0.5))
    save_traces(directory.results, [thinner.trace()])
    engine = EngineStatistics(PIPELINE, rate=3.0, stamp=1100.0)
    write_json(
        directory.report,
        {
            "outcome": "target_reached", "reason": "There.", "started": 1000.0,
            "wall_time_s": 100.0, "simulated_time": {"unit": "ps"},
            "engine": msgspec.to_builtins(engine),
            "simulations": [{"name": "a", "frames": 200, "step": 1990, "simulated_time": 99.5,
                             "dropped": 4, "lives": 2}],
        },
    )  # fmt: skip
    with open_feed(directory) as feed:
        about = feed.run()
        assert (about["state"], about["outcome"]) == ("ended", "target_reached")
        assert about["replay"] == {"start": 1000.0, "end": 1100.0}
        assert about["ended"] == 1100.0
        _meta, arrays = feed.points("phi", "psi")
        assert arrays["offset"].tolist() == list(range(0, 200, 4))
        assert arrays["y"].tolist() == arrays["offset"].tolist()
        assert feed.points("phi", "psi", at=1050.0).arrays["offset"].max() == 96
        assert feed.ledger()["lines"][0]["kind"] == "pause"
        assert feed.ledger(at=1005.0)["lines"] == []
        assert feed.overview()["simulations"][0]["last_command"]["state"] == "unanswered"
        assert b"unanswered" in make_static_report(feed)
        assert feed.events()["events"][0]["message"] == "one"
        row = feed.overview()["simulations"][0]
        assert (row["state"], row["frames"], row["dropped"]) == ("finished", 200, 4)
        half = feed.overview(at=1050.0)["simulations"][0]
        assert half["step"] == pytest.approx(100, abs=10)
        assert feed.pipeline()["engine"]["rate"] == 3.0
        with pytest.raises(OffsetOutOfRange):
            feed.frame("a", 3)


def test_topics_on_disk_are_read_when_nobody_has_them_open(tmp_path: Path) -> None:
    directory = make_directory(tmp_path / "run")
    with Stager(directory=directory.topics, durable=True) as stager:
        stager.start()
        script = Script(stager.address, "a")
        script.put(25)
        script.publish(results(0, 25))
        tell(script.client, "gap", "one")
        script.close()
    finish(directory)
    with open_feed(directory) as feed:
        assert feed.run()["state"] == "ended"
        assert feed.points("phi", "psi").arrays["offset"].tolist() == list(range(25))
        assert feed.events()["events"][0]["message"] == "one"
        assert feed.overview()["simulations"][0]["state"] == "finished"
        assert feed.frame("a", 9).arrays["positions"] == pytest.approx(place(9) / 10, abs=1e-6)
    # Nobody holds them any more.
    with Stager(directory=directory.topics, durable=True) as stager:
        stager.start()


def test_a_run_that_goes_on_is_followed_again(tmp_path: Path) -> None:
    directory = make_directory(tmp_path / "run")
    finish(directory)
    with open_feed(directory) as feed:
        assert feed.run()["state"] == "ended"
        with Stager() as stager:
            stager.start()
            publish(directory.path, stager.address)
            # It says anew what it does; the report is of the part before.
            os.utime(directory.resolved, (time.time() + 5, time.time() + 5))
            script = Script(stager.address, "a")
            script.put(3)
            script.publish(results(0, 3))
            wait_for(lambda: feed.run()["state"] == "running")
            wait_for(lambda: len(feed.points("phi", "psi").arrays["x"]) == 3)
            script.close()
