"""Blocks of ranks reach block operators as they were written; others see no difference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from analytics.features.density import DensityMap
from bridge.block_batch import BlockBatch
from bridge.engines import LocalEngine, LocalOptions
from bridge.engines.job import Job
from bridge.engines.options import JobOptions
from bridge.engines.results import read_results
from bridge.frames import Block, FrameBatch
from bridge.pipeline import BlockOperator, Context, FrameOperator, Pipeline
from bridge.staging import Stager, StagerClient
from tests.bridge.engines.ranks import play_ranks
from tests.bridge.engines.test_block_shares import ById, Placed, Whole, whole
from tests.bridge.engines.test_stages import Host

ATOMS, FRAMES = 22_007, 5


class Seen(ById):
    """Notes what it is given."""

    given: list[Any]

    def map_rows(
        self, batch: FrameBatch, start: int, stop: int, context: Context
    ) -> Mapping[str, npt.NDArray[Any]]:
        self.given.append(stop - start)
        return super().map_rows(batch, start, stop, context)

    def map_blocks(
        self, frame: FrameBatch, blocks: Sequence[Block], context: Context
    ) -> Mapping[str, npt.NDArray[Any]]:
        self.given.append([block.rank for block in blocks])
        return super().map_blocks(frame, blocks, context)


class Mirror(FrameOperator):
    """Replaces what the ranks wrote."""

    def process(self, batch: FrameBatch, context: Context) -> FrameBatch:
        return batch.with_columns({"x": -batch["x"]})


class Farthest(FrameOperator):
    """Looks at whole frames, and leaves out the one of step 2."""

    def process(self, batch: FrameBatch, context: Context) -> FrameBatch:
        far = batch["x"][:, :, 0].argmax(axis=1)
        return batch.with_columns({"farthest": far}).take(batch.steps != 2)


def frames_of() -> FrameBatch:
    rng = np.random.default_rng(1)
    columns = {
        "x": rng.uniform(-4, 4, (FRAMES, ATOMS, 3)).astype(np.float32),
        "box": np.full((FRAMES, 3), 4.0),
        "charge": rng.integers(1, 9, (FRAMES, ATOMS)),
    }
    return FrameBatch.from_arrays("w", columns)


def seen() -> Seen:
    operator = Seen()
    operator.given = []
    return operator


def run(client: StagerClient, pipeline: Pipeline, **more: Any) -> FrameBatch:
    engine = LocalEngine(pipeline, client, **more)
    engine.run()
    found = read_results(client, pipeline.name, "w")
    assert found is not None
    return found


@pytest.mark.parametrize("migrating", [False, True])
@pytest.mark.parametrize("operator", [Placed, Whole, ById])
def test_the_same_bits_as_from_whole_frames(
    stager: Stager, client: StagerClient, operator: type[Placed], *, migrating: bool
) -> None:
    frames = frames_of()
    play_ranks(stager.address, frames, 3, decomposed=("x",), migrating=migrating)
    density = DensityMap(bins=3, variable="x", quantity="density")
    operators: list[tuple[str, BlockOperator]] = [("sum", operator()), ("map", density)]
    results = run(client, Pipeline("local", operators))
    assert results.offsets.tolist() == list(range(FRAMES))
    assert np.array_equal(results["sum"], whole(operator(), frames, "sum"))
    assert results["density"].tobytes() == whole(density, frames, "density").tobytes()
    assert sorted(results.columns) == ["density", "sum"]
    job = Job(Pipeline("hosted", operators), stager.address, options=JobOptions(status_every=0.01))
    host = Host(job)
    host.run(disturb=True)
    host.close()
    hosted = read_results(client, "hosted", "w")
    assert hosted is not None
    for name, column in results.columns.items():
        assert hosted[name].tobytes() == column.tobytes()


def test_blocks_are_not_joined_where_nobody_asks(stager: Stager, client: StagerClient) -> None:
    frames = frames_of()
    play_ranks(stager.address, frames, 3, decomposed=("x",), migrating=True)
    operator = seen()
    engine = LocalEngine(Pipeline("test", [("sum", operator)]), client)
    ours = engine.operator("sum")
    ours.given = []
    engine.run()
    assert ours.given == [[0, 1, 2]] * FRAMES
    with client.fetch({"frames/w": 0}, in_blocks=True) as fetched:
        (batch,) = fetched.batches
        assert isinstance(batch, BlockBatch)
        assert batch.nbytes == frames.nbytes
        assert np.array_equal(batch["x"], frames["x"])
    with client.fetch({"frames/w": 0}) as fetched:
        assert type(fetched.batches[0]) is FrameBatch


def test_others_see_whole_frames(stager: Stager, client: StagerClient) -> None:
    frames = frames_of()
    play_ranks(stager.address, frames, 3, decomposed=("x",), migrating=True)
    operators = [("before", ById()), ("far", Farthest())]
    results = run(client, Pipeline("test", operators, outputs=["sum", "farthest", "x"]))
    left = [0, 1, 3, 4]
    assert results.offsets.tolist() == left
    assert np.array_equal(results["sum"], whole(ById(), frames, "sum")[left])
    assert np.array_equal(results["farthest"], frames["x"][left, :, 0].argmax(axis=1))
    assert np.array_equal(results["x"], frames["x"][left])


def test_what_was_replaced_is_not_taken_from_the_blocks(
    stager: Stager, client: StagerClient
) -> None:
    frames = frames_of()
    play_ranks(stager.address, frames, 3, decomposed=("x",), migrating=True)
    results = run(client, Pipeline("test", [("mirror", Mirror()), ("sum", ById())]))
    mirrored = frames.with_columns({"x": -frames["x"]})
    assert np.array_equal(results["sum"], whole(ById(), mirrored, "sum"))


def test_a_value_that_is_not_finite_sets_its_frame_aside(
    stager: Stager, client: StagerClient
) -> None:
    frames = frames_of()
    frames.columns["x"][3, 4_000, 1] = np.nan
    play_ranks(stager.address, frames, 3, decomposed=("x",), migrating=True)
    engine = LocalEngine(Pipeline("test", [("sum", ById())], inputs=["x", "charge"]), client)
    assert engine.run().quarantined == 1
    found = read_results(client, "test", "w")
    assert found is not None
    assert found.offsets.tolist() == [0, 1, 2, 4]
    assert np.array_equal(found["sum"], whole(ById(), frames.take([0, 1, 2, 4]), "sum"))


def test_turns_that_are_taken_again_see_blocks_too(
    stager: Stager, client: StagerClient, tmp_path: Path
) -> None:
    frames = frames_of()
    play_ranks(stager.address, frames, 3, decomposed=("x",), migrating=True)
    options = LocalOptions(max_frames=2, checkpoint_every=1000.0)
    pipeline = Pipeline("test", [("sum", seen())])
    first = LocalEngine(pipeline, client, checkpoint=tmp_path / "at", options=options)
    first.operator("sum").given = []
    while first.position("w") < 3:
        first.step(5.0)
    # It is not ended: what it did since its first checkpoint is done again.
    again = LocalEngine(pipeline, client, checkpoint=tmp_path / "at", options=options)
    ours = again.operator("sum")
    ours.given = []
    again.begin()
    assert ours.given == [[0, 1, 2]] * again.position("w")
    assert again.position("w") >= 3
    again.run()
    found = read_results(client, "test", "w")
    assert found is not None
    assert np.array_equal(found["sum"], whole(ById(), frames, "sum"))
