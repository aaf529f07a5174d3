"""An engine that is killed anywhere, and started again, gives everything exactly once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.engines import LocalEngine, LocalOptions
from bridge.engines.results import read_results
from bridge.errors import CorruptData, PipelineError, StagingError
from bridge.frames import FrameBatch
from bridge.staging import Stager, StagerClient
from bridge.testing.sources import END, PAUSE, ScriptedSource
from tests.bridge.engines.common import (
    NAMES,
    check_commands,
    check_results,
    make_streams,
    play,
    read_events,
)
from tests.bridge.engines.mortal import MortalStager
from tests.bridge.engines.pipelines import EachTenth, make_pipeline


class Killed(BaseException):
    """Nothing of the engine gets any further."""


class MortalClient(StagerClient):
    """A real client whose process dies at its n-th call, before or after the stager heard it."""

    def __init__(self, address: str, calls: int, *, heard: bool) -> None:
        self.calls = calls
        self.heard = heard
        super().__init__(address)

    def _mortal(self, call: Callable[[], Any]) -> Any:
        self.calls -= 1
        if self.calls < 0 or (self.calls == 0 and not self.heard):
            raise Killed
        answer = call()
        if self.calls == 0:
            raise Killed
        return answer

    def fetch(self, *args: Any, **more: Any) -> Any:
        return self._mortal(lambda: StagerClient.fetch(self, *args, **more))

    def append(self, *args: Any, **more: Any) -> Any:
        return self._mortal(lambda: StagerClient.append(self, *args, **more))

    def commit(self, *args: Any, **more: Any) -> Any:
        return self._mortal(lambda: StagerClient.commit(self, *args, **more))


PIPELINE = make_pipeline(("policy", EachTenth()))

LIVES = st.lists(
    st.tuples(
        st.integers(1, 90),  # calls until death
        st.booleans(),  # the stager heard the last one
        st.sampled_from([3, 7, 16]),  # frames taken at once
        st.sampled_from([1, 1 << 30]),  # bytes until a checkpoint: always, or hardly ever
    ),
    min_size=1,
    max_size=5,
)


def live(address: str, checkpoint: Path, calls: int, heard: bool, frames: int, size: int) -> None:
    """Run an engine until it dies; at the latest when nothing more comes."""
    options = LocalOptions(max_frames=frames, checkpoint_bytes=size, checkpoint_every=0.001)
    with MortalClient(address, calls, heard=heard) as client:
        engine = LocalEngine(PIPELINE, client, checkpoint=checkpoint, options=options)
        try:
            engine.begin()
            while engine.step():
                pass
            client.calls = 0
        except Killed:
            pass
        # Dead: it closes its files, and nothing it says is heard.
        with pytest.raises(Killed):
            engine.run()


def finish(address: str, checkpoint: Path, **more: Any) -> None:
    with StagerClient(address) as client:
        LocalEngine(more.get("pipeline", PIPELINE), client, checkpoint=checkpoint).run()


@settings(max_examples=25, deadline=None)
@given(LIVES)
def test_everything_comes_exactly_once_wherever_the_engine_dies(
    lives: list[tuple[int, bool, int, int]],
) -> None:
    streams = make_streams(60)
    streams["b"].columns["x"][[11, 40], 1] = np.nan
    bad = [("b", 11), ("b", 40)]
    with (
        tempfile.TemporaryDirectory() as folder,
        Stager(f"memory://{uuid4().hex}").start() as stager,
    ):
        checkpoint = Path(folder) / "checkpoint"
        late = dict(streams)
        # One more simulation comes with each life, so that their turns could be taken otherwise.
        for one in lives:
            if late:
                name = next(iter(late))
                play(stager.address, {name: late.pop(name)})
            live(stager.address, checkpoint, *one)
        play(stager.address, late)
        finish(stager.address, checkpoint)
        with StagerClient(stager.address) as reader:
            assert check_results(reader, streams, without=bad) == 178
            check_commands(reader, NAMES, every=10, frames=178)
            assert sorted(e.simulation for e in read_events(reader, "ended")) == list(NAMES)
            assert [e.data["frames"] for e in read_events(reader, "total")] == [178]
            told = [o for e in read_events(reader, "quarantined") for o in e.data["offsets"]]
            assert told == [11, 40]


@pytest.mark.parametrize("durable", [False, True], ids=["in memory", "on disk"])
def test_an_engine_without_a_checkpoint_stores_no_result_twice(
    tmp_path: Path, durable: bool
) -> None:
    streams = make_streams(60)
    with Stager(
        f"memory://{uuid4().hex}", directory=tmp_path if durable else None, durable=durable
    ).start() as stager:
        play(stager.address, streams)
        for calls in (5, 9, 17):
            with MortalClient(stager.address, calls, heard=calls % 2 == 0) as client:
                engine = LocalEngine(PIPELINE, client, options=LocalOptions(max_frames=7))
                with pytest.raises(Killed):
                    engine.run()
        with StagerClient(stager.address) as client, StagerClient(stager.address) as reader:
            LocalEngine(PIPELINE, client).run()
            for name, frames in streams.items():
                results = read_results(reader, "test", name)
                assert results is not None
                assert results.offsets.tolist() == frames.offsets.tolist()


ENGINE = """
import sys
from pathlib import Path
from bridge.engines import LocalEngine, LocalOptions
from bridge.staging import StagerClient
from tests.bridge.engines.mortal import MortalStager
from tests.bridge.engines.pipelines import EachTenth, make_pipeline

address, checkpoint = sys.argv[1:]
with StagerClient(address) as client:
    LocalEngine(
        make_pipeline(("policy", EachTenth())),
        client,
        checkpoint=Path(checkpoint),
        simulations=("a", "b", "c"),
        options=LocalOptions(max_frames=5, checkpoint_every=0.02),
    ).run()
"""


def start_engine(address: str, checkpoint: Path) -> subprocess.Popen[bytes]:
    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", ENGINE, address, str(checkpoint)]
    return subprocess.Popen(command, cwd=root, env=environment)


def wait_for_more(reader: StagerClient, name: str, engine: subprocess.Popen[bytes]) -> None:
    """Wait until ten more records of results are stored."""
    topic = f"results/test/{name}"
    position = {t.name: t.end for t in reader.topics(topic)}.get(topic, 0)
    wanted = position + 10
    for _ in range(120):
        with reader.fetch({topic: position}, wait=0.5) as fetched:
            position = fetched.positions.get(topic, position)
        if position >= wanted:
            return
        assert engine.poll() is None, f"The engine ended with {engine.returncode}."
    raise AssertionError(f"Only {position} of {wanted} records of results came.")


def test_kill_9_of_the_engine_in_the_middle_of_a_run(tmp_path: Path) -> None:
    streams = make_streams(600)
    with Stager("tcp://127.0.0.1:0").start() as stager, StagerClient(stager.address) as reader:
        sources = []
        for name, frames in streams.items():
            script: list[Any] = []
            for i in range(0, 600, 200):
                script += [frames.take(slice(i, i + 200)), PAUSE]
            source = ScriptedSource(name, [*script, END], address=stager.address)
            sources.append(source.start())
        for life in (1, 2, 3):
            for source in sources:
                source.wait_until_paused(life)
            engine = start_engine(stager.address, tmp_path / "checkpoint")
            wait_for_more(reader, "b", engine)
            engine.send_signal(signal.SIGKILL)
            engine.wait(30)
            for source in sources:
                source.resume()
        for source in sources:
            source.join()
        engine = start_engine(stager.address, tmp_path / "checkpoint")
        assert engine.wait(100) == 0
        assert check_results(reader, streams) == 1800
        check_commands(reader, NAMES, every=10, frames=1800)
        assert len(read_events(reader, "resumed")) == 3
        assert [e.data["frames"] for e in read_events(reader, "total")] == [1800]


def run_partly(address: str, checkpoint: Path, streams: dict[str, FrameBatch]) -> None:
    play(address, streams)
    for calls in (25, 100):
        live(address, checkpoint, calls, True, 3, 1)


def test_a_damaged_checkpoint_gives_way_to_the_one_before_and_is_told_of(
    stager: Stager, reader: StagerClient, tmp_path: Path
) -> None:
    streams = make_streams(60)
    checkpoint = tmp_path / "checkpoint"
    run_partly(stager.address, checkpoint, streams)
    assert (tmp_path / "checkpoint.previous").exists()
    checkpoint.write_bytes(checkpoint.read_bytes()[:-9])
    finish(stager.address, checkpoint)
    assert check_results(reader, streams) == 180
    check_commands(reader, NAMES, every=10, frames=180)
    [event] = read_events(reader, "checkpoint_damaged")
    assert "cannot be used" in event.message


def test_a_checkpoint_that_cannot_be_used_ends_the_engine(
    stager: Stager, reader: StagerClient, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "checkpoint"
    run_partly(stager.address, checkpoint, make_streams(60))
    other = make_pipeline()
    with pytest.raises(PipelineError, match="belongs to another pipeline"):
        finish(stager.address, checkpoint, pipeline=other)
    for path in tmp_path.glob("checkpoint*"):
        path.write_bytes(b"damaged")
    with pytest.raises(CorruptData, match="Remove the file"):
        finish(stager.address, checkpoint)
    assert len(read_events(reader, "engine_failed")) == 2


def test_a_stager_that_lost_its_frames_is_told_of(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint"
    with Stager(f"memory://{uuid4().hex}").start() as stager:
        run_partly(stager.address, checkpoint, make_streams(60))
    with Stager(f"memory://{uuid4().hex}").start() as stager:
        play(stager.address, make_streams(2))
        with pytest.raises(StagingError, match="the stager was started anew without"):
            finish(stager.address, checkpoint)


def test_a_stager_that_was_away_is_told_of(tmp_path: Path) -> None:
    frames = make_streams(100, ["a"])["a"]
    mortal = MortalStager(tmp_path / "topics")
    try:
        script = [frames.take(slice(0, 60)), PAUSE, frames.take(slice(60, 100)), END]
        with (
            ScriptedSource("a", script, address=mortal.address, time_limit=100.0) as source,
            StagerClient(mortal.address, timeout=2.0) as client,
        ):
            source.wait_until_paused()
            engine = LocalEngine(make_pipeline(), client, checkpoint=tmp_path / "checkpoint")
            running = threading.Thread(target=engine.run)
            running.start()
            deadline = time.monotonic() + 60.0
            while engine.position("a") < 60:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            mortal.kill()
            mortal.start()
            source.resume()
            running.join(60.0)
            assert not running.is_alive()
        with StagerClient(mortal.address) as reader:
            assert check_results(reader, {"a": frames}) == 100
            # More than once, where it is slow to answer again.
            told = read_events(reader, "stager_away")
            assert told
            assert all(away.data["downtime"] > 0 for away in told)
            assert all(mortal.address in away.message for away in told)
    finally:
        mortal.kill()
