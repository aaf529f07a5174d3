"""The runner against the same operators applied to the whole array at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.engines.runner import Runner
from bridge.errors import OperatorFailed, PipelineError, SchemaError
from bridge.frames import FrameBatch
from bridge.pipeline import Context, FrameOperator, Pipeline
from bridge.testing.streams import cut_again, freeze, random_stream, simulations_of
from tests.bridge.engines.pipelines import EachTenth, Failing, Norm, Place, make_pipeline

STREAM = random_stream({"x": (3, 2)}, frames=60)
NAMES = simulations_of(STREAM)


def whole(stream: Sequence[FrameBatch], name: str) -> FrameBatch:
    return FrameBatch.concatenate([b for b in stream if b.simulation == name])


class Answers:
    """What a runner said to a stream."""

    def __init__(self, runner: Runner, stream: Sequence[FrameBatch]) -> None:
        self.outcomes = [runner.process(freeze(batch), NAMES) for batch in stream]

    @property
    def commands(self) -> list[object]:
        return [n for o in self.outcomes for n in o.commands]

    def results(self, name: str) -> FrameBatch:
        return FrameBatch.concatenate(
            [o.results for o in self.outcomes if o.results is not None and o.simulation == name]
        )


def test_results_are_those_of_the_whole_array() -> None:
    answers = Answers(Runner(make_pipeline()), STREAM)
    places = []
    for name in NAMES:
        batch, results = whole(STREAM, name), answers.results(name)
        norm = (batch["x"].astype(float) ** 2).sum(axis=(1, 2))
        assert list(results.columns) == ["norm", "running", "place"]
        assert np.array_equal(results.offsets, batch.offsets)
        assert np.array_equal(results.steps, batch.steps)
        np.testing.assert_allclose(results["norm"], norm, rtol=1e-14)
        np.testing.assert_allclose(results["running"], np.cumsum(norm), rtol=1e-13)
        places.append(results["place"])
    assert sorted(np.concatenate(places)) == list(range(sum(map(len, STREAM))))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, len(STREAM)))
def test_neither_cuts_nor_a_restored_state_change_anything(seed: int, at: int) -> None:
    pipeline = make_pipeline(("policy", EachTenth()))
    wanted = Answers(Runner(pipeline), STREAM)
    stream = cut_again(STREAM, np.random.default_rng(seed))
    first = Runner(pipeline)
    before = Answers(first, stream[:at])
    second = Runner(pipeline)
    second.restore(first.save())
    found = Answers(second, stream[at:])
    found.outcomes[:0] = before.outcomes
    assert found.commands == wanted.commands
    for name in NAMES:
        ours, theirs = wanted.results(name), found.results(name)
        assert np.array_equal(ours.offsets, theirs.offsets)
        for key, column in ours.columns.items():
            assert np.array_equal(column, theirs[key])


def test_the_bytes_of_states_are_told_by_operator() -> None:
    runner = Runner(make_pipeline(("policy", EachTenth())))
    Answers(runner, STREAM)
    assert runner.states() == {}
    saved = runner.save()
    sizes = runner.states()
    # Each simulation has its own sum; whoever has nothing to keep takes nothing.
    assert sizes["running"] == len(NAMES) * runner.states_of(NAMES[0])["running"] > 0
    assert sizes["place"] > 0
    assert sizes["policy"] == 0
    assert "norm" not in sizes
    again = Runner(make_pipeline(("policy", EachTenth())))
    again.restore(saved)
    assert again.states() == sizes
    again.finish_simulation(NAMES[0], 0)
    assert again.states()["running"] < sizes["running"]


def test_the_stages_can_be_run_apart() -> None:
    pipeline = make_pipeline(("policy", EachTenth()))
    together = Answers(Runner(pipeline), STREAM)
    runners = [Runner(pipeline, scopes=[scope]) for scope in ("frame", "keyed", "global")]
    columns = []
    commands = []
    for batch in STREAM:
        current: FrameBatch | None = batch
        for runner in runners:
            assert current is not None
            outcome = runner.process(current, NAMES)
            current = outcome.batch
            commands += outcome.commands
        assert outcome.results is not None
        columns.append(outcome.results["place"])
    assert commands == together.commands
    wanted = [o.results["place"] for o in together.outcomes if o.results is not None]
    assert np.array_equal(np.concatenate(columns), np.concatenate(wanted))


def test_commands_are_numbered_by_what_caused_them() -> None:
    runner = Runner(make_pipeline(("policy", EachTenth())))
    answers = Answers(runner, STREAM)
    ids = [n.command.id for n in answers.commands]  # type: ignore[attr-defined]
    assert len(set(ids)) == len(ids) == sum(map(len, STREAM)) // 10
    for numbered in answers.commands:
        assert f"@{numbered.offset}#0" in numbered.command.id  # type: ignore[attr-defined]
        assert numbered.command.id.startswith("test/policy/walker")  # type: ignore[attr-defined]


class Twice(FrameOperator):
    """Decides twice at the first frame, and once without naming a frame."""

    def process(self, batch: FrameBatch, context: Context) -> FrameBatch:
        context.command("pause", "a", reason="r", at=batch.first)
        context.command("resume", "a", reason="r", at=batch.first)
        context.command("stop", "a", reason="r")
        return batch


def test_several_commands_of_one_frame_have_several_numbers() -> None:
    batch = FrameBatch.from_arrays("a", {"x": np.zeros(4)}, first_offset=7)
    outcome = Runner(Pipeline("p", [("twice", Twice())])).process(batch)
    assert [n.command.id for n in outcome.commands] == [
        "p/twice/a@7#0",
        "p/twice/a@7#1",
        "p/twice/a@10#0",
    ]
    assert [n.offset for n in outcome.commands] == [7, 7, 10]
    assert outcome.commands[0].command.author == "p/twice"


# ---------------------------------------------------------------- quarantine


def test_frames_that_are_not_finite_never_reach_an_operator() -> None:
    array = np.ones((6, 2), np.float32)
    array[1, 0] = np.nan
    array[4, 1] = np.inf
    batch = FrameBatch.from_arrays("a", {"x": array}, first_offset=10, steps=np.arange(6) * 5)
    outcome = Runner(make_pipeline()).process(batch)
    assert outcome.results is not None
    assert outcome.results.offsets.tolist() == [10, 12, 13, 15]
    assert outcome.results["running"].tolist() == [2.0, 4.0, 6.0, 8.0]
    assert outcome.quarantined == 2
    assert [e.kind for e in outcome.events] == ["quarantined"]
    assert outcome.events[0].data["steps"] == [5, 20]
    assert (outcome.first, outcome.stop) == (10, 16)


def test_only_the_inputs_are_looked_at() -> None:
    columns = {"x": np.ones((2, 2)), "unused": np.full(2, np.nan)}
    batch = FrameBatch.from_arrays("a", columns)
    assert Runner(make_pipeline(inputs=["x"])).process(batch).quarantined == 0
    assert Runner(make_pipeline()).process(batch).quarantined == 2


class Inverse(FrameOperator):
    """One over x, whatever x is."""

    def process(self, batch: FrameBatch, context: Context) -> FrameBatch:
        with np.errstate(divide="ignore"):
            return batch.with_columns({"inverse": 1.0 / batch["x"]})


def test_a_column_that_an_operator_spoils_is_found_under_its_name() -> None:
    batch = FrameBatch.from_arrays("a", {"x": np.array([1.0, 0.0, 2.0])})
    runner = Runner(Pipeline("p", [("inverse", Inverse()), ("place", Place())]))
    outcome = runner.process(batch)
    assert outcome.results is not None
    assert outcome.results["place"].tolist() == [0, 1]
    assert outcome.events[0].source == "p/inverse"
    assert "'inverse' of operator 'inverse' is not finite at offset 1" in outcome.events[0].message


def test_a_batch_of_bad_frames_alone_gives_no_results() -> None:
    batch = FrameBatch.from_arrays("a", {"x": np.full((3, 2), np.nan)})
    outcome = Runner(make_pipeline()).process(batch)
    assert outcome.results is None
    assert outcome.quarantined == 3


# ------------------------------------------------------------------ failures


def test_a_failure_names_operator_frames_and_cause() -> None:
    batch = FrameBatch.from_arrays("a", {"x": np.ones((5, 2))}, first_offset=20)
    runner = Runner(make_pipeline(("fussy", Failing((22,)))))
    with pytest.raises(OperatorFailed) as caught:
        runner.process(batch)
    assert str(caught.value) == (
        "Operator 'fussy' of pipeline 'test' failed on the frames 20 to 24 of 'a': ValueError: "
        "step 22 is not to my taste."
    )
    assert isinstance(caught.value.__cause__, ValueError)


def test_a_frame_operator_that_fails_loses_its_frames_alone() -> None:
    batch = FrameBatch.from_arrays("a", {"x": np.ones((5, 2))}, first_offset=20)
    pipeline = Pipeline("p", [("fussy", Failing((22, 23))), ("norm", Norm()), ("place", Place())])
    outcome = Runner(pipeline, on_error="skip").process(batch)
    assert outcome.results is not None
    assert outcome.results.offsets.tolist() == [20, 21, 24]
    assert outcome.quarantined == 2
    [event] = outcome.events
    assert (event.kind, event.level, event.source) == ("operator_failed", "error", "p/fussy")
    assert event.data["offsets"] == [22, 23]


class Grumpy(Place):
    """Has a state, and raises."""

    def process(self, batch: FrameBatch, context: Context) -> FrameBatch:
        raise RuntimeError("no")


def test_an_operator_with_a_state_that_fails_loses_the_batch() -> None:
    batch = FrameBatch.from_arrays("a", {"x": np.ones((5, 2))})
    runner = Runner(Pipeline("p", [("grumpy", Grumpy())]), on_error="skip")
    outcome = runner.process(batch)
    assert outcome.results is None
    assert outcome.quarantined == 5


def test_a_missing_column_stops_a_run_that_skips() -> None:
    batch = FrameBatch.from_arrays("a", {"positions": np.ones((5, 2))})
    runner = Runner(Pipeline("p", [("norm", Norm(input="position"))]), on_error="skip")
    with pytest.raises(OperatorFailed, match="no column 'position'") as caught:
        runner.process(batch)
    assert isinstance(caught.value.__cause__, SchemaError)


def test_an_input_or_output_that_is_not_there_is_an_error_with_a_hint() -> None:
    batch = FrameBatch.from_arrays("a", {"x": np.ones((5, 2))})
    with pytest.raises(PipelineError, match=r"input 'xx'.*Did you mean 'x'\?"):
        Runner(make_pipeline(inputs=["xx"])).process(batch)
    with pytest.raises(PipelineError, match=r"output 'nrom'.*Did you mean 'norm'\?"):
        Runner(make_pipeline(outputs=["nrom"])).process(batch)


def test_outputs_are_those_named() -> None:
    batch = FrameBatch.from_arrays("a", {"x": np.ones((5, 2))})
    outcome = Runner(make_pipeline(outputs=["x", "place"])).process(batch)
    assert outcome.results is not None
    assert list(outcome.results.columns) == ["x", "place"]


# -------------------------------------------------------------------- states


def test_a_state_of_another_pipeline_is_refused() -> None:
    saved = Runner(make_pipeline()).save()
    with pytest.raises(PipelineError, match="belongs to another pipeline"):
        Runner(make_pipeline(("policy", EachTenth()))).restore(saved)


def test_a_state_that_does_not_fit_names_the_operator() -> None:
    class Other(Place):
        def restore(self, state: object) -> None:
            raise KeyError("covariance")

    Other.__qualname__ = "Place"
    saved = Runner(make_pipeline()).save()
    changed = Pipeline("test", [*make_pipeline().operators[:2], ("place", Other())])
    with pytest.raises(PipelineError, match=r"Operator 'place'.*cannot take up its saved state"):
        Runner(changed).restore(saved)


def test_the_end_is_told_once_to_each_instance() -> None:
    runner = Runner(make_pipeline())
    for batch in STREAM:
        runner.process(batch, NAMES)
    ended = [runner.finish_simulation(name, 60).events for name in NAMES]
    assert [[e.kind for e in events] for events in ended] == [["ended"]] * len(NAMES)
    assert runner.finish_simulation(NAMES[0], 60).events == []
    [total] = runner.finish(180).events
    assert total.data["frames"] == sum(map(len, STREAM))
