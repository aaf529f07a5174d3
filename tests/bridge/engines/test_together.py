"""Batches of many simulations through a frame operator at once: fewer calls, the same answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from bridge.engines.job import Job
from bridge.engines.local import LocalEngine
from bridge.engines.options import JobOptions, LocalOptions
from bridge.engines.results import read_results
from bridge.engines.runner import Runner
from bridge.errors import OperatorFailed
from bridge.frames import FrameBatch
from bridge.pipeline import Context, GlobalOperator, Pipeline
from bridge.staging import Stager, StagerClient
from bridge.testing.sources import make_frames
from tests.bridge.engines.common import check_commands, check_results, make_streams, play
from tests.bridge.engines.pipelines import EachTenth, Norm, Running, make_pipeline
from tests.bridge.engines.test_stages import Host

NAMES = tuple(f"s{i:02}" for i in range(30))


class Together(Norm):
    """Counts its calls, and how many batches came in each."""

    calls: ClassVar[list[int]] = []

    def process(self, batch: FrameBatch, context: Context) -> FrameBatch:
        self.calls.append(1)
        return super().process(batch, context)

    def process_many(
        self, batches: Sequence[FrameBatch], contexts: Sequence[Context]
    ) -> list[FrameBatch | None]:
        self.calls.append(len(batches))
        for batch, context in zip(batches, contexts, strict=True):
            assert context.simulation == batch.simulation
        return [Norm.process(self, b, c) for b, c in zip(batches, contexts, strict=True)]


class Picky(Together):
    """Fails where a frame of the stream ``s03`` is among them."""

    def process(self, batch: FrameBatch, context: Context) -> FrameBatch:
        if batch.simulation == "s03":
            raise ValueError("Not that one.")
        return super().process(batch, context)

    def process_many(
        self, batches: Sequence[FrameBatch], contexts: Sequence[Context]
    ) -> list[FrameBatch | None]:
        if any(batch.simulation == "s03" for batch in batches):
            raise ValueError("Not that one.")
        return super().process_many(batches, contexts)


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    Together.calls.clear()


def chain(first: Norm) -> Pipeline:
    return Pipeline("test", [("first", first), ("running", Running())])


BATCHES = [make_frames(name, 5, {"x": (4, 3)}) for name in NAMES]


def test_what_is_begun_together_goes_on_alone() -> None:
    runner, plain = Runner(chain(Together())), Runner(chain(Norm()))
    assert runner.gathers
    assert not plain.gathers
    begun = runner.begin(BATCHES)
    assert Together.calls == [30]
    for batch, ready in zip(BATCHES, begun, strict=True):
        ours, theirs = runner.process(batch, begun=ready), plain.process(batch)
        assert ours.results is not None
        assert theirs.results is not None
        assert list(ours.results.columns) == list(theirs.results.columns)
        assert ours.variables == theirs.variables
        for name, column in theirs.results.columns.items():
            assert ours.results[name].tobytes() == column.tobytes()


def test_a_failure_waits_for_its_turn() -> None:
    runner = Runner(chain(Picky()))
    begun = runner.begin(BATCHES[:6])
    for batch, ready in zip(BATCHES[:6], begun, strict=True):
        if batch.simulation == "s03":
            with pytest.raises(OperatorFailed, match=r"'first'.*'s03'.*Not that one"):
                runner.process(batch, begun=ready)
        else:
            assert runner.process(batch, begun=ready).results is not None


def test_where_failures_are_skipped_only_those_frames_are_lost() -> None:
    runner = Runner(chain(Picky()), on_error="skip")
    begun = runner.begin(BATCHES[:6])
    outcomes = [runner.process(b, begun=r) for b, r in zip(BATCHES[:6], begun, strict=True)]
    assert [o.quarantined for o in outcomes] == [0, 0, 0, 5, 0, 0]
    assert [e.kind for o in outcomes for e in o.events] == ["operator_failed"]


def test_frames_that_are_not_finite_are_set_aside() -> None:
    values = BATCHES[1]["x"].copy()
    values[2] = np.nan
    batches = [BATCHES[0], BATCHES[1].with_columns({"x": values})]
    runner = Runner(chain(Together()))
    outcomes = [
        runner.process(b, begun=r) for b, r in zip(batches, runner.begin(batches), strict=True)
    ]
    assert [o.quarantined for o in outcomes] == [0, 1]
    assert outcomes[1].results is not None
    assert outcomes[1].results.offsets.tolist() == [0, 1, 3, 4]


class Alike(Together):
    """Gives each frame the number of batches that came with it: a replay must cut alike."""

    def process_many(
        self, batches: Sequence[FrameBatch], contexts: Sequence[Context]
    ) -> list[FrameBatch | None]:
        self.calls.append(len(batches))
        company = [np.full(len(batch), float(len(batches))) for batch in batches]
        return [b.with_columns({"norm": c}) for b, c in zip(batches, company, strict=True)]

    def process(self, batch: FrameBatch, context: Context) -> FrameBatch:
        return batch.with_columns({"norm": np.ones(len(batch))})


class Sum(GlobalOperator):
    """The sum of what all frames got so far; fails at a frame, once."""

    fails: ClassVar[list[int]] = []

    def __init__(self) -> None:
        self.total = 0.0
        self.seen = 0

    def process(self, batch: FrameBatch, context: Context) -> FrameBatch:
        self.seen += len(batch)
        if self.fails and self.seen >= self.fails[0]:
            self.fails.clear()
            raise KeyboardInterrupt
        sums = self.total + np.cumsum(batch["norm"])
        self.total = float(sums[-1])
        return batch.with_columns({"sum": sums})

    def save(self) -> dict[str, Any]:
        return {"total": self.total, "seen": self.seen}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.total, self.seen = state["total"], state["seen"]


def test_the_local_engine_replays_groups_as_they_were(
    stager: Stager, client: StagerClient, reader: StagerClient, tmp_path: Path
) -> None:
    streams = make_streams(20, NAMES)
    play(stager.address, streams)
    pipeline = Pipeline("test", [("first", Alike()), ("sum", Sum())])
    options = LocalOptions(max_frames=100, checkpoint_every=1000.0)
    Sum.fails[:] = [330]
    with pytest.raises(KeyboardInterrupt):
        LocalEngine(pipeline, client, checkpoint=tmp_path / "c", options=options).run()
    assert not Sum.fails
    before = {name: read_results(reader, "test", name) for name in NAMES}
    engine = LocalEngine(pipeline, client, checkpoint=tmp_path / "c", options=options)
    engine.begin()
    total = engine._runner.operator("sum").total
    engine.run()
    assert max(Together.calls) > 1
    # What was stored before the kill is what the replay came to.
    seen = sum(len(b) for b in before.values() if b is not None)
    assert seen >= 300
    assert total >= max(float(b["sum"].max()) for b in before.values() if b is not None)
    after = [read_results(reader, "test", name) for name in NAMES]
    values = np.sort(np.concatenate([b["sum"] for b in after if b is not None]))
    steps = np.concatenate([b["norm"] for b in after if b is not None])
    assert len(values) == 600
    # Were a group cut in another way, sums after the kill would not go on from those before.
    assert values[-1] == steps.sum()
    assert len(np.unique(values)) == 600


@pytest.mark.parametrize("gather", [0.0, 0.01])
def test_the_local_engine_gives_what_is_at_hand(
    stager: Stager, client: StagerClient, reader: StagerClient, gather: float
) -> None:
    streams = make_streams(20, NAMES)
    play(stager.address, streams)
    whole = make_pipeline(("policy", EachTenth()))
    pipeline = Pipeline("test", [(whole.operators[0][0], Together()), *whole.operators[1:]])
    LocalEngine(pipeline, client, options=LocalOptions(max_frames=64, gather=gather)).run()
    assert check_results(reader, streams) == 600
    check_commands(reader, NAMES, every=10, frames=600)
    assert max(Together.calls) > 1


@pytest.mark.parametrize("gather", [0.0, 0.01])
def test_a_worker_gives_what_is_at_hand(
    stager: Stager, reader: StagerClient, gather: float
) -> None:
    streams = make_streams(20, NAMES)
    play(stager.address, streams)
    pipeline = make_pipeline(("policy", EachTenth()))
    pipeline = Pipeline("test", [(pipeline.operators[0][0], Together()), *pipeline.operators[1:]])
    options = JobOptions(max_frames=16, status_every=0.01, batch_seconds=60.0, gather=gather)
    host = Host(Job(pipeline, stager.address, options=options), seed=3)
    try:
        host.run(disturb=True)
    finally:
        host.close()
    assert check_results(reader, streams) == 600
    check_commands(reader, NAMES, every=10, frames=600)
    assert max(Together.calls) > 1
