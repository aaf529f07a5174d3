"""Units of results: declared by simulations and operators, told in the engine's status."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from bridge.commands import Event
from bridge.engines.coordinator import Coordinator
from bridge.engines.job import Job
from bridge.engines.local import LocalEngine
from bridge.engines.options import JobOptions
from bridge.engines.partition import PartitionStage
from bridge.frames import FrameBatch
from bridge.pipeline import Context, Pipeline
from bridge.schema import StreamSchema
from bridge.staging import Producer, Stager, StagerClient
from tests.bridge.engines.pipelines import Norm, Place, Running


class Square(Norm):
    """Says what unit it has."""

    def column_units(self, inputs: Mapping[str, str]) -> Mapping[str, str]:
        return {self.output: f"({inputs[self.input]})²"}


class Sum(Running):
    """Of the same unit as what it sums up."""

    def column_units(self, inputs: Mapping[str, str]) -> Mapping[str, str]:
        return {"running": inputs.get(self.input, "")}


class Telling(Place):
    """Tells the units that it was told."""

    def process(self, batch: FrameBatch, context: Context) -> FrameBatch:
        if not self.seen:
            context.event("units", f"{context.units['running']} {context.time_unit}")
        return super().process(batch, context)


def pipeline() -> Pipeline:
    return Pipeline("test", [("norm", Square()), ("running", Sum()), ("place", Telling())])


def play(address: str) -> None:
    schema = StreamSchema.from_arrays({"x": np.zeros(3)}, units={"x": "nm"}, time_unit="ps")
    with Producer("a", schema, address=address) as producer:
        for step in range(10):
            producer.put(step, step * 0.5, {"x": np.ones(3)})


def told(client: StagerClient) -> list[Any]:
    records = client.fetch({"events": 0}, wait=1.0).records
    events = [msgspec.msgpack.decode(r.data, type=Event) for r in records]
    return [e.message for e in events if e.kind == "units"]


def test_the_local_engine_tells_units(stager: Stager, client: StagerClient) -> None:
    play(stager.address)
    status = LocalEngine(pipeline(), client).run()
    assert status.units == {"norm": "(nm)²", "running": "(nm)²"}
    assert told(client) == ["(nm)² ps"]


def test_parts_on_workers_tell_the_same(stager: Stager, client: StagerClient) -> None:
    play(stager.address)
    job = Job(pipeline(), stager.address, options=JobOptions(status_every=0.01))
    stage, coordinator = PartitionStage(job), Coordinator(job, engine="test")
    try:
        stage.open("a")
        for _ in range(500):
            for report in stage.pump(wait=0.001, budget=0.0):
                coordinator.hear(report)
            coordinator.pump(wait=0.001, budget=0.0)
            if coordinator.over:
                break
        assert coordinator.finish().units == {"norm": "(nm)²", "running": "(nm)²"}
    finally:
        stage.end()
        coordinator.end()
    assert told(client) == ["(nm)² ps"]
