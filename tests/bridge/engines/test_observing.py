"""An engine that reads along: it holds nothing back, and tells of what it left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.engines import LocalEngine, LocalOptions
from bridge.engines.observing import Observing
from bridge.errors import ConfigError
from bridge.staging import Stager, StagerClient
from bridge.staging.messages import StreamOptions
from bridge.testing.sources import END, PAUSE, ScriptedSource, make_frames
from tests.bridge.engines.common import make_streams, play, read_events
from tests.bridge.engines.pipelines import make_pipeline


class Clock:
    """Seconds that pass as they are asked for: each look is due."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def test_an_observer_that_keeps_up_misses_nothing(
    stager: Stager, client: StagerClient, reader: StagerClient, tmp_path: Path
) -> None:
    streams = make_streams()
    play(stager.address, streams)
    engine = LocalEngine(
        make_pipeline(), Observing(client, clock=Clock()), checkpoint=tmp_path / "checkpoint"
    )
    assert engine.run().frames == 600
    assert read_events(reader, "gap") == []


def test_an_observer_commits_nothing_where_others_read(
    stager: Stager, client: StagerClient, reader: StagerClient
) -> None:
    streams = make_streams()
    play(stager.address, streams)
    names = [topic.name for topic in reader.topics("frames/")]
    reader.commit("analysis", dict.fromkeys(names, 0))
    engine = LocalEngine(make_pipeline(), Observing(client, clock=Clock()), group="trainer")
    assert engine.run().frames == 600
    assert {tuple(topic.groups) for topic in reader.topics("frames/")} == {("analysis",)}


def test_an_observer_leaves_where_others_come(
    stager: Stager, client: StagerClient, reader: StagerClient
) -> None:
    first, rest = make_frames("a", 10, {"x": (4, 3)}), make_frames("a", 20, {"x": (4, 3)})
    rest = rest.take(slice(10, 20))
    source = ScriptedSource("a", [first, PAUSE, rest, END], address=stager.address)
    source.start()
    source.wait_until_paused()
    engine = LocalEngine(make_pipeline(), Observing(client, clock=Clock()), group="trainer")
    while engine.position("a") < 10:
        engine.step(0.1)
    engine.step(0.01)
    assert reader.topics("frames/")[0].groups == {"trainer": 10}
    reader.commit("analysis", {"frames/a": 0})
    source.resume()
    source.join()
    assert engine.run().frames == 20
    assert reader.topics("frames/")[0].groups == {"analysis": 0}


def test_a_late_observer_passes_frames_over_and_tells_how_many(
    stager: Stager, client: StagerClient, reader: StagerClient
) -> None:
    play(stager.address, {"a": make_frames("a", 1000, {"x": (4, 3)})})
    options = LocalOptions(max_frames=10)
    observing = Observing(client, behind=100, clock=Clock())
    done = LocalEngine(make_pipeline(), observing, options=options).run()
    progress = done.simulations["a"]
    assert (progress.frames, progress.missed) == (50, 950)
    assert observing.passed_over == 950
    (told,) = read_events(reader, "gap")
    assert told.level == "info"
    assert "950 frames of 'a' were passed over" in told.message


def test_an_observer_alone_makes_nobody_wait_for_more_than_it_may_be_late(
    stager: Stager, client: StagerClient, reader: StagerClient, tmp_path: Path
) -> None:
    # More than the stream holds, and an engine that commits only with its checkpoints.
    small = StreamOptions(capacity=1 << 16)
    frames = make_frames("a", 4000, {"x": (4, 3)})
    source = ScriptedSource("a", [frames, END], address=stager.address, options=small)
    source.start()
    engine = LocalEngine(
        make_pipeline(),
        Observing(client, behind=20, clock=Clock()),
        checkpoint=tmp_path / "checkpoint",
        options=LocalOptions(checkpoint_every=1000.0),
    )
    done = engine.run()
    source.join()
    progress = done.simulations["a"]
    assert progress.frames + progress.missed == 4000


def test_an_observer_reads_what_is_wanted_alone(
    stager: Stager, client: StagerClient, reader: StagerClient
) -> None:
    streams = make_streams()
    play(stager.address, streams)
    mine = sorted(streams)[0]
    observing = Observing(client, wanted=lambda name: name == mine, clock=Clock())
    done = LocalEngine(make_pipeline(), observing).run()
    assert set(done.simulations) == {mine}


def test_wrong_numbers_are_refused(client: StagerClient) -> None:
    with pytest.raises(ConfigError, match="must not be negative"):
        Observing(client, behind=-1)
