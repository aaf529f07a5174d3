"""A pipeline in the simulation's own process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bridge.commands import Acknowledgement
from bridge.engines.in_situ import InSitu
from bridge.errors import FrameOrderError, OperatorFailed
from bridge.schema import StreamSchema
from bridge.staging import StagerClient
from tests.bridge.engines.common import check_commands, check_results, make_streams, read_events
from tests.bridge.engines.pipelines import EachTenth, Failing, make_pipeline

FRAMES = make_streams(50, ["a"])["a"]
SCHEMA = StreamSchema.from_arrays({"x": FRAMES["x"][0]})
BOTH = pytest.mark.parametrize("threaded", [False, True], ids=["synchronous", "threaded"])


@BOTH
def test_frames_put_are_analysed_and_commands_come_back(threaded: bool) -> None:
    pipeline = make_pipeline(("policy", EachTenth()))
    with InSitu(pipeline, "a", SCHEMA, threaded=threaded) as engine:
        for frame in FRAMES:
            engine.put(frame.step, frame.time, frame.values)
            if not threaded:
                assert engine.statistics().frames == frame.offset + 1
        done = engine.finish()
        assert done.state == "finished"
        with StagerClient(engine.address) as reader:
            check_commands(reader, ["a"], every=10, frames=50)
            assert check_results(reader, {"a": FRAMES}) == 50
            assert [e.data["frames"] for e in read_events(reader, "total")] == [50]
        results = engine.results()
    assert results is not None
    assert results["place"].tolist() == list(range(50))


def test_a_synchronous_decision_is_there_with_the_next_frame() -> None:
    pipeline = make_pipeline(("policy", EachTenth()))
    with InSitu(pipeline, "a", SCHEMA, threaded=False) as engine:
        for frame in FRAMES.take(slice(0, 10)):
            engine.put(frame.step, frame.time, frame.values)
        assert engine.wait_for_command(5.0)
        [command] = engine.commands()
        assert command.id == "test/policy/a@9#0"
        engine.acknowledge(Acknowledgement(command.id, "a", "applied", step=90))


@BOTH
def test_a_failure_of_the_pipeline_reaches_the_simulation(threaded: bool) -> None:
    engine = InSitu(make_pipeline(("fussy", Failing((30,)))), "a", SCHEMA, threaded=threaded)
    frames = iter(FRAMES)

    def run() -> None:
        for frame in frames:
            engine.put(frame.step, frame.time, frame.values)
        engine.finish()

    try:
        with pytest.raises(OperatorFailed, match="step 30 is not to my taste"):
            run()
        with pytest.raises(OperatorFailed):
            engine.put(1000, 0.0, {"x": FRAMES["x"][0]})
    finally:
        engine.close()
        engine.close()


def test_frames_out_of_order_are_refused() -> None:
    with InSitu(make_pipeline(), "a", SCHEMA, threaded=False) as engine:
        engine.put(10, 0.0, {"x": FRAMES["x"][0]})
        with pytest.raises(FrameOrderError):
            engine.put(10, 0.0, {"x": FRAMES["x"][0]})


def test_a_process_that_begins_again_goes_on_from_what_is_on_the_disk(tmp_path: Path) -> None:
    for part in (slice(0, 20), slice(20, 50)):
        with InSitu(
            make_pipeline(),
            "a",
            SCHEMA,
            threaded=False,
            directory=tmp_path / "staging",
            checkpoint=tmp_path / "checkpoint",
        ) as engine:
            for frame in FRAMES.take(part):
                engine.put(frame.step, frame.time, frame.values)
            if part.stop == 50:
                results = engine.results()
                assert results is not None
                assert np.array_equal(results["place"], np.arange(50))
