"""Every operator, and whole pipelines, on every engine that is installed: the same to the bit.

Global operators depend on the order in which simulations take turns, which an engine writes down.
A runner that takes the same turns, here in one piece, must give the same answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from analytics.features.density import DensityMap
from analytics.features.rdf import RadialDistribution
from analytics.windows.keyed import Window
from bridge.commands import Decision
from bridge.config import read_toml
from bridge.engines import load_engine
from bridge.engines.configure import pipeline_from_table
from bridge.engines.job import Job
from bridge.engines.local import LocalEngine
from bridge.engines.options import JobOptions
from bridge.engines.protocol import EngineStatistics
from bridge.engines.results import read_results
from bridge.engines.runner import Runner
from bridge.engines.turns import Turn
from bridge.frames import FrameBatch
from bridge.pipeline import Pipeline
from bridge.staging import Stager, StagerClient
from bridge.testing.sources import END, ScriptedSource, make_frames
from tests.bridge.engines.pipelines import EachTenth, Norm, Place, Running
from tests.bridge.engines.ranks import play_ranks
from tests.bridge.engines.test_stages import Host
from tests.conformance.engines.side_by_side import side_by_side
from tests.conformance.operator_cases import ALL, Case

# The parts without an engine around them, where there is none: each environment has one suite.
ENGINES = ["flink"] if find_spec("pyflink") else []
ENGINES += ["spark"] if find_spec("pyspark") else []
ENGINES = ENGINES or ["hosted"]
OPTIONS = JobOptions(max_frames=50, save_every=0.3, checkpoint_every=0.5, status_every=0.2)
ROOT = Path(__file__).parents[3]

Streams = dict[str, FrameBatch]


def by_stream() -> Iterator[Any]:
    """Return the operators that share a stream, together."""
    groups: dict[int, list[Case]] = {}
    for case in ALL:
        groups.setdefault(id(case.stream), []).append(case)
    for cases in groups.values():
        yield pytest.param(cases, id=f"{cases[0].name} and {len(cases) - 1} more")


def record(address: str, streams: Streams) -> None:
    """Put whole streams into staging."""
    for name, frames in streams.items():
        ScriptedSource(name, [frames, END], address=address).play()


def recorded(client: StagerClient) -> Streams:
    """Return the streams as staging holds them."""
    out: Streams = {}
    for topic in client.topics("frames/"):
        position, parts = 0, list[FrameBatch]()
        while position < topic.end:
            with client.fetch({topic.name: position}, wait=1.0) as fetched:
                parts += [batch.copy() for batch in fetched.batches]
                position = fetched.positions[topic.name]
        out[topic.name.removeprefix("frames/")] = FrameBatch.concatenate(parts)
    return out


def run(engine: str, job: Job) -> EngineStatistics:
    """Run a job to its end."""
    if engine == "hosted":
        host = Host(job)
        try:
            host.run()
            return host.coordinator.statistics()
        finally:
            host.close()
    statistics: EngineStatistics = load_engine(engine)(job).run()
    return statistics


def turns_of(client: StagerClient, pipeline: Pipeline, streams: Streams) -> list[Turn]:
    """Return the turns that an engine took; each stream at once where that does not matter."""
    rounds: list[Turn] = []
    topic = f"turns/{pipeline.name}"
    for status in client.topics(topic):
        position = status.low
        while position < status.end:
            fetched = client.fetch({topic: position}, wait=1.0)
            for item in fetched.records:
                rounds += msgspec.msgpack.decode(item.data, type=list[Turn])
            position = fetched.positions[topic]
    if pipeline.stages()["global"]:
        return rounds
    return [Turn(name, 0, len(frames)) for name, frames in streams.items()]


def check(
    client: StagerClient, pipeline: Pipeline, near: Mapping[str, tuple[float, float]] | None = None
) -> None:
    """Hold what an engine stored against a runner that takes the same turns.

    To the bit, but for columns in `near`, the beginning of their names to tolerances.
    """
    streams = recorded(client)
    runner = Runner(pipeline)
    known: tuple[str, ...] = ()
    expected: dict[str, list[FrameBatch]] = {}
    commands: list[str] = []
    for turn in turns_of(client, pipeline, streams):
        known = known if turn.known is None else turn.known
        if turn.is_end:
            outcome = runner.finish_simulation(turn.simulation, turn.first, known)
        else:
            rows = slice(turn.first, turn.stop)
            outcome = runner.process(streams[turn.simulation].take(rows), known)
            if outcome.results is not None:
                expected.setdefault(turn.simulation, []).append(outcome.results)
        commands += [numbered.command.id for numbered in outcome.commands]
    assert expected
    for name, parts in expected.items():
        theirs = FrameBatch.concatenate(parts)
        ours = read_results(client, pipeline.name, name)
        assert ours is not None
        assert ours.offsets.tolist() == theirs.offsets.tolist()
        assert list(ours.columns) == list(theirs.columns)
        for column in theirs.columns:
            assert ours[column].dtype == theirs[column].dtype
            rtol, atol = (near or {}).get(column.partition(".")[0], (0.0, 0.0))
            if rtol and ours[column].dtype.kind == "f":
                np.testing.assert_allclose(ours[column], theirs[column], rtol=rtol, atol=atol)
                continue
            assert ours[column].tobytes() == theirs[column].tobytes(), column
    decided = [
        msgspec.msgpack.decode(record.data, type=Decision).command.id
        for topic in client.topics("decisions")
        for record in client.fetch({topic.name: topic.low}, wait=1.0, max_frames=100_000).records
    ]
    assert sorted(decided) == sorted(commands)


@pytest.mark.parametrize("cases", list(by_stream()))
@pytest.mark.parametrize("engine", ENGINES)
def test_operators(engine: str, cases: list[Case], stager: Stager, reader: StagerClient) -> None:
    parts: dict[str, list[FrameBatch]] = {}
    for batch in cases[0].stream:
        parts.setdefault(batch.simulation, []).append(batch)
    streams = {name: FrameBatch.concatenate(batches) for name, batches in parts.items()}
    record(stager.address, streams)
    names = {case.name: re.sub(r"\W+", "-", case.name) for case in cases}
    operators = {names[case.name]: case.make() for case in cases}
    near = {names[c.name]: (c.rtol, c.atol) for c in cases if c.rtol > 1e-6}
    columns = tuple(cases[0].stream[0].columns)
    pipeline = side_by_side("conformance", operators, columns)
    run(engine, Job(pipeline, stager.address, options=OPTIONS))
    check(reader, pipeline, near)


class Even(Norm):
    """Lets every other step pass, and replaces the column that it read."""

    def process(self, batch: FrameBatch, context: Any) -> FrameBatch:
        kept = batch.take(batch.steps % 2 == 0)
        return kept.with_columns({"x": 2 * kept["x"]})


def alanine() -> Pipeline:
    """Return the pipeline of the example."""
    table = read_toml(ROOT / "examples" / "alanine_dipeptide" / "run.toml")["pipeline"]
    for operator in table["operators"]:
        operator.update({"min_frames": 60, "update_every": 40} if "min_frames" in operator else {})
    return pipeline_from_table(table)


def alanine_frames() -> Streams:
    """Return walks of 22 atoms around a molecule."""
    rng = np.random.default_rng(5)
    start = rng.normal(size=(22, 3))
    out = {}
    for name in ("walker-0", "walker-1", "walker-2"):
        x = start + np.cumsum(rng.normal(scale=0.02, size=(150, 22, 3)), axis=0)
        out[name] = FrameBatch.from_arrays(name, {"positions": x.astype(np.float32)})
    return out


def nonfinite() -> Streams:
    """Return streams of which some frames are not finite."""
    streams = {name: make_frames(name, 90, {"x": (4, 3)}) for name in "ab"}
    x = streams["a"]["x"].copy()
    x[[3, 40, 41]] = np.nan
    return {**streams, "a": streams["a"].with_columns({"x": x})}


def plain() -> Streams:
    """Return three streams."""
    return {name: make_frames(name, 90, {"x": (4, 3)}) for name in "abc"}


def chain(*operators: Any, **fields: Any) -> Callable[[], Pipeline]:
    """Return what makes a pipeline of instances made anew."""
    return lambda: Pipeline(
        "whole", [(f"op{i}", make()) for i, make in enumerate(operators)], **fields
    )


WHOLE: dict[str, tuple[Callable[[], Pipeline], Callable[[], Streams]]] = {
    "frame": (chain(Norm), plain),
    "keyed": (chain(Norm, Running), plain),
    "global": (chain(Place), plain),
    "all with commands": (chain(Norm, Running, Place, EachTenth), plain),
    "rows taken out": (chain(Even, Norm, Running, Place), plain),
    "replaced and published": (chain(Even, Norm, Place, outputs=("x", "norm", "place")), plain),
    "set aside": (chain(Norm, Running, Place), nonfinite),
    "alanine dipeptide": (alanine, alanine_frames),
}


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("engine", ENGINES)
def test_whole_pipelines(engine: str, name: str, stager: Stager, reader: StagerClient) -> None:
    make, streams = WHOLE[name]
    record(stager.address, streams())
    pipeline = make()
    statistics = run(engine, Job(pipeline, stager.address, options=OPTIONS))
    assert statistics.frames == sum(map(len, streams().values()))
    assert statistics.quarantined == (3 if name == "set aside" else 0)
    check(reader, pipeline)


def test_the_local_engine_agrees_where_the_order_is_fixed(
    stager: Stager, reader: StagerClient
) -> None:
    """With one simulation there is only one order."""
    streams = {"walker-0": alanine_frames()["walker-0"]}
    record(stager.address, streams)
    pipeline = alanine()
    run("hosted", Job(pipeline, stager.address, options=OPTIONS))
    ours = read_results(reader, pipeline.name, "walker-0")
    with Stager("tcp://127.0.0.1:0") as other:
        other.start()
        record(other.address, streams)
        with StagerClient(other.address) as client:
            LocalEngine(alanine(), client).run()
            theirs = read_results(client, pipeline.name, "walker-0")
    assert ours is not None
    assert theirs is not None
    for column in theirs.columns:
        assert ours[column].tobytes() == theirs[column].tobytes()


def boxed() -> Streams:
    """Return two streams of particles in a box."""
    rng = np.random.default_rng(8)
    return {
        name: FrameBatch.from_arrays(
            name,
            {
                "positions": rng.uniform(-1.0, 5.0, (90, 303, 3)).astype(np.float32),
                "box": np.full((90, 3), 4.0),
            },
        )
        for name in "ab"
    }


@pytest.mark.parametrize(
    ("first", "ranks"), [("density", 1), ("density", 3), ("rdf", 1), ("rdf", 3)]
)
@pytest.mark.parametrize("engine", ENGINES)
def test_rows_shared_out(
    engine: str, first: str, ranks: int, stager: Stager, reader: StagerClient
) -> None:
    if ranks == 1:
        record(stager.address, boxed())
    else:
        for frames in boxed().values():
            # Particles change their ranks with each step.
            play_ranks(stager.address, frames, ranks, decomposed=("positions",), migrating=True)
    maker = {
        "density": lambda: DensityMap(bins=4, quantity="density"),
        "rdf": lambda: RadialDistribution(cutoff=1.5, bins=20),
    }[first]
    pipeline = Pipeline("whole", [(first, maker()), ("window", Window(size=20, input=first))])
    options = msgspec.structs.replace(OPTIONS, block_groups=2)
    run(engine, Job(pipeline, stager.address, options=options))
    check(reader, pipeline)
