"""Frames shared out to groups of blocks give what whole frames give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest

from bridge.engines.job import Job, PipelineSource, partition_names, split_partition
from bridge.engines.options import JobOptions
from bridge.engines.results import read_results
from bridge.engines.shares import rows_of
from bridge.errors import ConfigError
from bridge.frames import FrameBatch
from bridge.pipeline import BlockOperator, Context, Pipeline
from bridge.staging import Stager, StagerClient
from bridge.testing.sources import make_frames
from tests.bridge.engines.common import play
from tests.bridge.engines.pipelines import Norm, Place
from tests.bridge.engines.test_stages import Host


class Count(BlockOperator):
    """How many atoms have a positive x."""

    def map_rows(
        self, batch: FrameBatch, start: int, stop: int, context: Context
    ) -> Mapping[str, npt.NDArray[Any]]:
        x = batch["x"]
        assert x.shape[1] == stop - start
        return {"positive": (x[:, :, 0] > 0).sum(axis=1), "rows": np.full(len(batch), stop - start)}

    def combine(
        self, parts: Sequence[Mapping[str, npt.NDArray[Any]]], batch: FrameBatch
    ) -> FrameBatch:
        return batch.with_columns(
            {name: np.sum([p[name] for p in parts], axis=0) for name in ("positive", "rows")}
        )

    def count_rows(self, batch: FrameBatch) -> int:
        return int(batch["x"].shape[1])


class Neighbours(Count):
    """The same, of atoms whose follower is positive: needs the row behind the last."""

    halo: ClassVar[bool] = True

    def map_rows(
        self, batch: FrameBatch, start: int, stop: int, context: Context
    ) -> Mapping[str, npt.NDArray[Any]]:
        x = np.roll(batch["x"][:, :, 0], -1, axis=1)[:, start:stop]
        return {"positive": (x > 0).sum(axis=1), "rows": np.full(len(batch), stop - start)}


def streams(frames: int = 40) -> dict[str, FrameBatch]:
    return {name: make_frames(name, frames, {"x": (101, 3), "scale": ()}) for name in "ab"}


@pytest.mark.parametrize("groups", [1, 2, 3])
@pytest.mark.parametrize("operator", [Count, Neighbours])
@pytest.mark.parametrize("disturb", [False, True])
def test_shares_add_up(
    stager: Stager,
    reader: StagerClient,
    operator: type[Count],
    groups: int,
    disturb: bool,
) -> None:
    recorded = streams()
    play(stager.address, recorded)
    pipeline = Pipeline(
        "test",
        [("count", operator()), ("scale", Norm(input="scale", output="scaled")), ("p", Place())],
        outputs=["positive", "rows", "scaled"],
    )
    options = JobOptions(block_groups=groups, status_every=0.01)
    host = Host(Job(pipeline, stager.address, options=options))
    host.run(disturb=disturb)
    host.close()
    for name, frames in recorded.items():
        results = read_results(reader, "test", name)
        assert results is not None
        assert results.offsets.tolist() == list(range(40))
        assert (results["positive"] == (frames["x"][:, :, 0] > 0).sum(axis=1)).all()
        assert (results["rows"] == 101).all()
        np.testing.assert_array_equal(results["scaled"], frames["scale"].astype(np.float64) ** 2)


def test_a_frame_that_one_share_sets_aside_is_set_aside(
    stager: Stager, reader: StagerClient
) -> None:
    recorded = streams()
    x = recorded["a"]["x"].copy()
    x[7, 100, 2] = np.nan
    recorded["a"] = recorded["a"].with_columns({"x": x})
    play(stager.address, recorded)
    options = JobOptions(block_groups=3, status_every=0.01)
    host = Host(Job(Pipeline("test", [("count", Count())]), stager.address, options=options))
    host.run()
    statistics = host.coordinator.statistics()
    host.close()
    results = read_results(reader, "test", "a")
    assert results is not None
    assert results.offsets.tolist() == [i for i in range(40) if i != 7]
    assert statistics.quarantined == 1
    assert statistics.frames == 80


def test_rows_are_shared_out_evenly_and_completely() -> None:
    for groups in (1, 2, 3, 7):
        shares = [rows_of(group, groups, 101) for group in range(groups)]
        assert shares[0][0] == 0
        assert shares[-1][1] == 101
        assert all(a[1] == b[0] for a, b in pairwise(shares))


def test_names_of_partitions() -> None:
    assert partition_names("a", 1) == ("a",)
    assert [split_partition(name) for name in partition_names("a", 2)] == [("a", 0), ("a", 1)]


def test_only_some_operators_take_shares() -> None:
    job = Job(Pipeline("test", [("p", Place())]), "", options=JobOptions(block_groups=2))
    with pytest.raises(ConfigError, match="cannot be given parts of frames"):
        _ = job.spread


def test_a_pipeline_is_loaded_by_reference() -> None:
    reference = "tests.bridge.engines.pipelines:make_pipeline"
    assert Job(PipelineSource(reference), "").name == "test"
    with pytest.raises(ConfigError, match=r"cannot be loaded"):
        _ = Job(PipelineSource("tests.bridge.engines.pipelines:missing"), "").name
    with pytest.raises(ConfigError, match=r"module:object"):
        _ = Job(PipelineSource("nonsense"), "").name
    with pytest.raises(ConfigError, match=r"not a pipeline"):
        _ = Job(PipelineSource("tests.bridge.engines.common:NAMES"), "").name
