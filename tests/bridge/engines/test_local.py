"""The local engine over real staging."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bridge.commands import Command, Decision
from bridge.engines import EngineStatistics, LocalEngine, LocalOptions
from bridge.engines.results import read_results
from bridge.errors import ConfigError, ConnectionLost, NobodyListening, OperatorFailed
from bridge.pipeline import Pipeline
from bridge.staging import Stager, StagerClient
from bridge.staging.messages import StreamOptions
from bridge.testing.sources import ABORT, END, PAUSE, ScriptedSource, make_frames
from tests.bridge.engines.common import (
    NAMES,
    check_commands,
    check_results,
    make_streams,
    play,
    read,
    read_events,
    read_status,
)
from tests.bridge.engines.pipelines import EachTenth, Failing, Norm, StopAt, make_pipeline

SMALL = LocalOptions(max_frames=16)


@pytest.fixture(params=[False, True], ids=["without checkpoint", "with checkpoint"])
def checkpoint(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path / "engine" / "checkpoint" if request.param else None


def test_every_frame_of_all_simulations_is_analysed_once(
    stager: Stager, client: StagerClient, reader: StagerClient, checkpoint: Path | None
) -> None:
    streams = make_streams()
    play(stager.address, streams)
    seen: list[EngineStatistics] = []
    engine = LocalEngine(
        make_pipeline(("policy", EachTenth())),
        client,
        checkpoint=checkpoint,
        on_status=seen.append,
        options=SMALL,
    )
    done = engine.run()
    assert check_results(reader, streams) == 600
    check_commands(reader, NAMES, every=10, frames=600)
    assert (done.state, done.frames, done.lag, done.decisions, done.sent) == (
        "finished", 600, 0, 60, 60,
    )  # fmt: skip
    assert done.batches >= 600 / 16
    assert 0 < done.latency <= done.latency_99
    assert set(done.seconds) == {"norm", "running", "place", "policy"}
    assert all(s.finished and s.position == 200 for s in done.simulations.values())
    assert [e.data["frames"] for e in read_events(reader, "total")] == [600]
    assert sorted(e.simulation for e in read_events(reader, "ended")) == list(NAMES)
    assert [s.state for s in seen][-1] == "finished"
    assert read_status(reader)[-1] == seen[-1]
    offsets = {t.name: t.groups["test"] for t in reader.topics("frames/")}
    assert offsets == {f"frames/{name}": 200 for name in NAMES}


def test_simulations_that_come_later_are_picked_up_and_finished_ones_let_go(
    stager: Stager, client: StagerClient, reader: StagerClient, checkpoint: Path | None
) -> None:
    streams = make_streams(90)
    engine = LocalEngine(
        make_pipeline(), client, checkpoint=checkpoint, simulations=NAMES, options=SMALL
    )
    thread = threading.Thread(target=engine.run)
    thread.start()
    for name in NAMES:
        # Each begins when the one before has ended altogether.
        with ScriptedSource(name, [streams[name], END], address=stager.address):
            pass
        deadline = time.monotonic() + 60.0
        while not any(e.simulation == name for e in read_events(reader, "ended")):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    thread.join(60)
    assert not thread.is_alive()
    assert check_results(reader, streams) == 270
    assert [e.simulation for e in read_events(reader, "ended")] == list(NAMES)


def test_a_simulation_that_dies_and_comes_back_goes_on(
    stager: Stager, client: StagerClient, reader: StagerClient
) -> None:
    frames = make_streams(90, ["a"])["a"]
    script = [frames.take(slice(0, 40)), ABORT, frames.take(slice(30, 90)), END]
    engine = LocalEngine(make_pipeline(), client)
    with ScriptedSource("a", script, address=stager.address):
        engine.run()
    assert check_results(reader, {"a": frames}) == 90


def test_frames_that_are_not_finite_are_told_of_and_never_averaged_in(
    stager: Stager, client: StagerClient, reader: StagerClient, checkpoint: Path | None
) -> None:
    streams = make_streams(60)
    values = streams["b"].columns["x"]
    values[[7, 31], 0, 1] = np.nan
    values[59] = np.inf
    play(stager.address, streams)
    engine = LocalEngine(make_pipeline(), client, checkpoint=checkpoint, options=SMALL)
    done = engine.run()
    bad = [("b", 7), ("b", 31), ("b", 59)]
    assert check_results(reader, streams, without=bad) == 177
    events = read_events(reader, "quarantined")
    assert [o for e in events for o in e.data["offsets"]] == [7, 31, 59]
    assert [s for e in events for s in e.data["steps"]] == [70, 310, 590]
    assert "'x' of the input is not finite" in events[0].message
    assert done.quarantined == done.simulations["b"].quarantined == 3


def test_an_engine_that_was_stopped_goes_on_where_it_was(
    stager: Stager, reader: StagerClient, checkpoint: Path | None
) -> None:
    frames = make_streams(100, ["a"])["a"]
    script = [frames.take(slice(0, 60)), PAUSE, frames.take(slice(60, 100)), END]
    source = ScriptedSource("a", script, address=stager.address).start()
    source.wait_until_paused()
    states = []
    for _ in range(2):
        with StagerClient(stager.address) as client:
            engine = LocalEngine(
                Pipeline("test", [("norm", Norm())]), client, checkpoint=checkpoint
            )
            while engine.step() == 0:
                pass
            if engine.position("a") < 100:
                engine.stop()
            source.resume()
            states.append(engine.run().state)
    source.join()
    assert states == ["stopped", "finished"]
    results = read_results(reader, "test", "a")
    assert results is not None
    assert results.offsets.tolist() == list(range(100))


def test_the_end_is_told_when_a_target_is_reached_and_all_have_answered(
    stager: Stager, client: StagerClient, reader: StagerClient, checkpoint: Path | None
) -> None:
    streams = make_streams(40)
    sources = [
        ScriptedSource(name, [frames, PAUSE], address=stager.address).start()
        for name, frames in streams.items()
    ]
    for source in sources:
        source.wait_until_paused()
    options = LocalOptions(max_frames=16, linger=0.01)
    engine = LocalEngine(
        make_pipeline(("stop", StopAt(70))), client, checkpoint=checkpoint, options=options
    )
    done = engine.run("stopped")
    for source in sources:
        source.join()
    assert done.state == "finished"
    assert all([c.kind for c in source.commands] == ["stop"] for source in sources)
    assert check_results(reader, streams) == 120
    assert len(read_events(reader, "target_reached")) == 1


@pytest.mark.parametrize("max_frames", [16, 64])
def test_what_is_decided_after_the_target_is_refused(
    stager: Stager,
    client: StagerClient,
    reader: StagerClient,
    checkpoint: Path | None,
    max_frames: int,
) -> None:
    sources = [
        ScriptedSource(name, [frames, PAUSE], address=stager.address).start()
        for name, frames in make_streams(40).items()
    ]
    for source in sources:
        source.wait_until_paused()
    # It knows nothing of the target, and comes before whoever tells of it.
    pipeline = make_pipeline(("policy", EachTenth()), ("stop", StopAt(70)))
    options = LocalOptions(max_frames=max_frames, linger=0.01)
    LocalEngine(pipeline, client, checkpoint=checkpoint, options=options).run("stopped")
    for source in sources:
        source.join()
    decisions = [d for d in read(reader, "decisions", Decision) if d.command.kind == "set"]
    verdicts = {d.command.value: d.verdict for d in decisions}
    assert verdicts == {
        float(place): "sent" if place < 70 else "refused" for place in range(9, 120, 10)
    }
    reasons = {d.reason for d in decisions if d.verdict == "refused"}
    assert all("is to stop; it gets no other command." in reason for reason in reasons)
    sent = [c for s in sources for c in s.commands if c.kind == "set"]
    assert len(sent) == 7


def test_who_does_not_answer_the_stop_is_named(
    stager: Stager, client: StagerClient, reader: StagerClient
) -> None:
    frames = make_streams(40, ["a"])["a"]
    source = ScriptedSource("a", [frames, PAUSE], address=stager.address, obey=False).start()
    source.wait_until_paused()
    options = LocalOptions(stop_timeout=0.05, linger=0.01)
    LocalEngine(make_pipeline(("stop", StopAt(7))), client, options=options).run("stopped")
    [event] = read_events(reader, "stop_unanswered")
    assert "'a' did not answer the command to stop" in event.message
    source.resume()
    source.join()


class Strict:
    """A guard that refuses every other command."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def check(self, command: Command, now: float) -> Decision:
        self.asked.append(command.id)
        if len(self.asked) % 2:
            return Decision(command, "refused", reason="Not now.", stamp=now)
        return Decision(command, "sent", stamp=now)


def test_what_the_guard_refuses_is_written_down_and_not_sent(
    stager: Stager, client: StagerClient, reader: StagerClient
) -> None:
    play(stager.address, make_streams(100))
    guard = Strict()
    pipeline = make_pipeline(("policy", EachTenth()))
    done = LocalEngine(pipeline, client, guard=guard, options=SMALL).run()
    assert done.verdicts == {"refused": 15, "sent": 15}
    assert len(guard.asked) == len(set(guard.asked)) == 30
    check_commands(reader, NAMES, every=10, frames=300)
    refused = [d for d in read(reader, "decisions", Decision) if d.verdict == "refused"]
    assert {d.reason for d in refused} == {"Not now."}


def test_an_operator_that_fails_stops_the_engine_and_loses_no_frame(
    stager: Stager, client: StagerClient, reader: StagerClient, checkpoint: Path | None
) -> None:
    streams = make_streams(60, ["a"])
    play(stager.address, streams)
    broken = make_pipeline(("fussy", Failing((400,))))
    fussy = LocalEngine(broken, client, checkpoint=checkpoint, options=SMALL)
    with pytest.raises(OperatorFailed, match=r"'fussy'.*step 400 is not to my taste"):
        fussy.run()
    assert fussy.statistics().state == "failed"
    [event] = read_events(reader, "engine_failed")
    assert "'fussy'" in event.message
    if checkpoint is not None:
        mended = make_pipeline(("fussy", Failing(())))
        with StagerClient(stager.address) as again:
            LocalEngine(mended, again, checkpoint=checkpoint, options=SMALL).run()
        assert check_results(reader, streams) == 60


def test_an_engine_may_skip_what_operators_fail_on(
    stager: Stager, client: StagerClient, reader: StagerClient
) -> None:
    streams = make_streams(60, ["a"])
    play(stager.address, streams)
    pipeline = Pipeline("test", [("fussy", Failing((400,))), *make_pipeline().operators])
    options = LocalOptions(on_error="skip", max_frames=16)
    done = LocalEngine(pipeline, client, options=options).run()
    assert done.quarantined == 1
    assert check_results(reader, streams, without=[("a", 40)]) == 59
    assert len(read_events(reader, "operator_failed")) == 1


def test_frames_dropped_by_policy_are_a_gap_that_is_told(
    stager: Stager, client: StagerClient, reader: StagerClient
) -> None:
    frames = make_frames("a", 4000, {"x": (4, 3)})
    first, rest = frames.take(slice(0, 5)), frames.take(slice(5, 4000))
    small = StreamOptions(when_full="drop_oldest", capacity=1 << 16)
    source = ScriptedSource("a", [first, PAUSE, rest, END], address=stager.address, options=small)
    source.start()
    source.wait_until_paused()
    engine = LocalEngine(make_pipeline(), client)
    while engine.position("a") < 5:
        engine.step(0.1)
    source.resume()
    source.join()
    done = engine.run()
    progress = done.simulations["a"]
    assert progress.missed > 0
    assert progress.missed + progress.frames == 4000
    gaps = read_events(reader, "gap")
    assert sum(e.data["count"] for e in gaps) == progress.missed
    assert "were released before they were analysed" in gaps[0].message


@pytest.mark.parametrize("late", [False, True])
def test_a_stream_that_is_joined_late_is_told_of_once(
    stager: Stager, client: StagerClient, reader: StagerClient, late: bool
) -> None:
    frames = make_frames("a", 4000, {"x": (4, 3)})
    small = StreamOptions(when_full="drop_oldest", capacity=1 << 16)
    if not late:
        # Many small segments: one fetch brings several batches.
        small = StreamOptions(segment=1 << 14)
    parts: list[Any] = [frames.take(slice(i, i + 100)) for i in range(0, 4000, 100)]
    ScriptedSource("a", [*parts, END], address=stager.address, options=small).play()
    LocalEngine(make_pipeline(), client).run()
    assert len(read_events(reader, "joined_late")) == late


def test_a_stream_that_is_full_flows_on_while_the_engine_saves(
    stager: Stager, client: StagerClient, reader: StagerClient, tmp_path: Path
) -> None:
    frames = make_frames("a", 3000, {"x": (50, 3)})
    small = StreamOptions(capacity=1 << 18)
    options = LocalOptions(checkpoint_every=0.02, checkpoint_bytes=1 << 15)
    engine = LocalEngine(make_pipeline(), client, checkpoint=tmp_path / "c", options=options)
    with ScriptedSource("a", [frames, END], address=stager.address, options=small):
        done = engine.run()
    assert check_results(reader, {"a": frames}) == 3000
    assert done.checkpoints > 3


def test_a_pipeline_that_is_behind_tells_how_far(
    stager: Stager, client: StagerClient, reader: StagerClient
) -> None:
    frames = make_streams(60, ["a"])["a"]
    script = [part for i in range(0, 60, 20) for part in (frames.take(slice(i, i + 20)), PAUSE)]
    with ScriptedSource("a", script, address=stager.address) as source:
        for number in (1, 2, 3):
            source.wait_until_paused(number)
            source.resume()
    engine = LocalEngine(make_pipeline(), client, options=LocalOptions(max_frames=10))
    engine.step()
    status = read_status(reader)[0]
    assert status.simulations["a"].lag == status.lag > 0
    assert status.simulations["a"].position + status.lag == 60


def test_an_engine_gives_up_when_nothing_comes(stager: Stager, client: StagerClient) -> None:
    options = LocalOptions(idle_timeout=0.01)
    with pytest.raises(NobodyListening, match="there is no stream"):
        LocalEngine(make_pipeline(), client, options=options).run()
    frames = make_streams(5, ["a"])["a"]
    ScriptedSource("a", [frames, ABORT], address=stager.address).play()
    with pytest.raises(NobodyListening, match="and a have not finished"):
        LocalEngine(make_pipeline(), client, options=options).run()


def test_a_stager_that_does_not_come_back_is_told_of() -> None:
    with Stager("tcp://127.0.0.1:0") as service:
        service.start()
        with StagerClient(service.address, timeout=2.0) as client:
            engine = LocalEngine(
                make_pipeline(), client, options=LocalOptions(reconnect_timeout=0.1)
            )
            engine.step()
            service.stop()
            with pytest.raises(ConnectionLost, match=r"Waited .* for the stager at tcp.*come back"):
                engine.run()
            assert engine.statistics().state == "failed"


def test_a_stager_that_comes_back_with_what_it_held_is_waited_for(tmp_path: Path) -> None:
    streams = make_streams(60)
    where: dict[str, Any] = {"directory": tmp_path / "staging", "durable": True}
    with Stager("tcp://127.0.0.1:0", **where).start() as first:
        address = first.address
        play(address, streams)
        client = StagerClient(address, timeout=2.0)
        engine = LocalEngine(
            make_pipeline(("policy", EachTenth())),
            client,
            checkpoint=tmp_path / "checkpoint",
            options=LocalOptions(max_frames=7, reconnect_timeout=60.0),
        )
        engine.step()
    thread = threading.Thread(target=engine.run)
    thread.start()
    with Stager(address, **where).start(), client:
        thread.join(60)
        with StagerClient(address) as reader:
            assert check_results(reader, streams) == 180
            check_commands(reader, NAMES, every=10, frames=180)
    assert engine.statistics().state == "finished"


def test_a_stream_opened_but_empty_is_waited_for(
    stager: Stager, client: StagerClient, reader: StagerClient
) -> None:
    streams = make_streams(30, ["a", "b"])
    play(stager.address, {"a": streams["a"]})
    source = ScriptedSource("b", [streams["b"], END], address=stager.address)
    opened = source._open(streams["b"])
    engine = LocalEngine(make_pipeline(), client)
    thread = threading.Thread(target=engine.run)
    thread.start()
    opened.close(finished=False)
    source.play()
    thread.join(100)
    assert check_results(reader, streams) == 60


@pytest.mark.parametrize("key", ["max_frames", "linger", "checkpoint_every"])
def test_options_are_positive(key: str) -> None:
    with pytest.raises(ConfigError, match=f"'{key}' must be greater than 0, not 0"):
        LocalOptions(**{key: 0})
