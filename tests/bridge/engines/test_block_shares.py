"""Frames of several ranks, shared out block by block, give what assembled frames give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from analytics.features.density import DensityMap
from bridge.engines.job import Job
from bridge.engines.options import JobOptions
from bridge.engines.partition import PartitionStage
from bridge.engines.results import read_results
from bridge.engines.shares import Share
from bridge.errors import CorruptSegment
from bridge.frames import Block, FrameBatch
from bridge.pipeline import BlockOperator, Context, Pipeline
from bridge.staging import Stager, StagerClient
from tests.bridge.engines.ranks import play_ranks
from tests.bridge.engines.test_stages import Host
from tests.bridge.staging.test_decomposed import damage

ATOMS, FRAMES = 53, 12


class Placed(BlockOperator):
    """A sum, of whole numbers, to which each atom adds something that depends on which it is."""

    def map_rows(
        self, batch: FrameBatch, start: int, stop: int, context: Context
    ) -> Mapping[str, npt.NDArray[Any]]:
        return {"sum": self.add(batch["x"], np.arange(start, stop), batch["charge"])}

    def add(
        self, x: npt.NDArray[Any], rows: npt.NDArray[Any], charge: npt.NDArray[Any]
    ) -> npt.NDArray[Any]:
        assert x.shape[1] == len(rows)
        whole = np.floor(x[:, :, 0] * 1000.0).astype(np.int64)
        return (whole * (rows + 1) * charge[:, rows]).sum(axis=1)

    def combine(
        self, parts: Sequence[Mapping[str, npt.NDArray[Any]]], batch: FrameBatch
    ) -> FrameBatch:
        return batch.with_columns({"sum": np.sum([part["sum"] for part in parts], axis=0)})

    def count_rows(self, batch: FrameBatch) -> int:
        return int(batch["x"].shape[1])


class Whole(Placed):
    """The same, and needs the whole frames."""

    halo = True

    def map_rows(
        self, batch: FrameBatch, start: int, stop: int, context: Context
    ) -> Mapping[str, npt.NDArray[Any]]:
        rows = np.arange(start, stop)
        return {"sum": self.add(batch["x"][:, rows], rows, batch["charge"])}


class ById(Placed):
    """The same, from the ids that come with blocks."""

    unordered = True

    def map_blocks(
        self, frame: FrameBatch, blocks: Sequence[Block], context: Context
    ) -> Mapping[str, npt.NDArray[Any]]:
        total = np.zeros(1, np.int64)
        for block in blocks:
            rows = np.arange(block.start, block.start + block.count)
            ids = rows if block.ids is None else block.ids
            total += self.add(block.values["x"][None], ids, frame["charge"])
        return {"sum": total}


def frames_of(seed: int = 1) -> FrameBatch:
    rng = np.random.default_rng(seed)
    columns = {
        "x": rng.uniform(-4, 4, (FRAMES, ATOMS, 3)).astype(np.float32),
        "box": np.full((FRAMES, 3), 4.0),
        "charge": rng.integers(1, 9, (FRAMES, ATOMS)),
    }
    return FrameBatch.from_arrays("w", columns)


def whole(operator: BlockOperator, frames: FrameBatch, column: str) -> npt.NDArray[Any]:
    return operator.process(frames, Context())[column]


@pytest.mark.parametrize("migrating", [False, True])
@pytest.mark.parametrize(("ranks", "groups"), [(4, 2), (3, 2), (2, 3), (3, 7)])
@pytest.mark.parametrize("operator", [Placed, Whole, ById])
def test_shares_of_blocks_add_up(
    stager: Stager,
    reader: StagerClient,
    operator: type[Placed],
    ranks: int,
    groups: int,
    *,
    migrating: bool,
) -> None:
    frames = frames_of()
    play_ranks(stager.address, frames, ranks, decomposed=("x",), migrating=migrating)
    host = Host(
        Job(
            Pipeline("test", [("sum", operator())], outputs=["sum", "box"]),
            stager.address,
            options=JobOptions(block_groups=groups, status_every=0.01),
        )
    )
    host.run(disturb=True)
    host.close()
    results = read_results(reader, "test", "w")
    assert results is not None
    assert results.offsets.tolist() == list(range(FRAMES))
    assert np.array_equal(results["sum"], whole(operator(), frames, "sum"))
    assert np.array_equal(results["box"], frames["box"])


@pytest.mark.parametrize("decomposed", [("x",), ("charge",)])
@pytest.mark.parametrize("groups", [2, 5])
def test_a_map_of_blocks(
    stager: Stager, reader: StagerClient, groups: int, decomposed: tuple[str, ...]
) -> None:
    frames = frames_of(2)
    play_ranks(stager.address, frames, 3, decomposed=decomposed, migrating=True)
    operator = DensityMap(bins=3, variable="x", quantity="density")
    options = JobOptions(block_groups=groups, status_every=0.01)
    host = Host(Job(Pipeline("test", [("map", operator)]), stager.address, options=options))
    host.run()
    host.close()
    results = read_results(reader, "test", "w")
    assert results is not None
    assert results["density"].tobytes() == whole(operator, frames, "density").tobytes()


def test_a_block_with_a_value_that_is_not_finite_sets_its_frame_aside(
    stager: Stager, reader: StagerClient
) -> None:
    frames = frames_of()
    frames.columns["x"][5, 40, 1] = np.nan
    play_ranks(stager.address, frames, 4, decomposed=("x",), migrating=True)
    options = JobOptions(block_groups=2, status_every=0.01)
    host = Host(Job(Pipeline("test", [("sum", ById())]), stager.address, options=options))
    host.run()
    statistics = host.coordinator.statistics()
    host.close()
    results = read_results(reader, "test", "w")
    assert results is not None
    assert results.offsets.tolist() == [i for i in range(FRAMES) if i != 5]
    assert statistics.quarantined == 1


def test_a_worker_does_not_touch_the_blocks_of_others(tmp_path: Path) -> None:
    frames = frames_of().take(slice(0, 1))
    options = JobOptions(block_groups=2)
    with Stager("tcp://127.0.0.1:0", directory=tmp_path).start() as stager:
        play_ranks(stager.address, frames, 4, decomposed=("x",), migrating=False)
        job = Job(Pipeline("test", [("sum", ById())]), stager.address, options=options)
        # The first atom is in the block of rank 0, the last in that of rank 3.
        assert damage(tmp_path, frames["x"][0, -1].tobytes()) == 1
        stage = PartitionStage(job)
        try:
            stage.open("w#0")
            (report,) = stage.pump(wait=5.0, budget=5.0)
            assert report.frames == 1
            stage.open("w#1")
            with pytest.raises(CorruptSegment, match="are damaged"):
                stage.pump(["w#1"], wait=5.0, budget=5.0)
        finally:
            stage.end()


@pytest.mark.parametrize(
    ("operator", "migrating", "read"),
    [(ById, True, 1), (ById, False, 1), (Placed, False, 1), (Placed, True, 4), (Whole, False, 4)],
)
def test_bytes_that_a_share_reads(
    stager: Stager, operator: type[Placed], read: int, *, migrating: bool
) -> None:
    frames = frames_of()
    play_ranks(stager.address, frames, 4, decomposed=("x",), migrating=migrating, even=True)
    job = Job(
        Pipeline("test", [("sum", operator())]), stager.address, options=JobOptions(block_groups=4)
    )
    stage = PartitionStage(job)
    try:
        share = Share(job, "w", 1)
        with share.fetch(stage._client, 0, max_bytes=1 << 20, wait=5.0) as fetched:
            rows = fetched.nbytes - FRAMES * (frames["box"][0].nbytes + frames["charge"][0].nbytes)
            per_row = 12 + 8 * (migrating and operator is not Whole)
            expected = FRAMES * per_row * ATOMS * read / 4
            assert abs(rows - expected) <= FRAMES * per_row * 2
    finally:
        stage.end()
