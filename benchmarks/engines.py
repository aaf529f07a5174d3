"""Flink or Spark against the local engine, in the same run, at the same streams.

``python -m benchmarks engines --engine flink`` in the environment of Flink, likewise for Spark.

Throughput: four streams are recorded in staging, in a process of its own; each engine projects
their frames onto four components (a frame operator, as a fitted PCA). From the time stamps of the
results, without the first fifth of the frames, in which workers are still coming up.
The naive way, on the same streams: frames go through the JVM, see `benchmarks.through_jvm`.
Flatness: the same number of small frames in 1, 20 and 200 streams; and a million of them, the rate
over the last half of the time stamps by that over the first.
Latency: four simulations put 25 small frames a second each; from the put until another process of
the same kind, this one, has the result in hand.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.processes import receive, spawn, stager_process
from benchmarks.report import figure, result
from benchmarks.through_jvm import through_jvm
from bridge.codec import decode_batch
from bridge.engines import load_engine
from bridge.engines.job import Job
from bridge.engines.local import LocalEngine
from bridge.engines.results import results_topic
from bridge.frames import FrameBatch
from bridge.pipeline import Context, FrameOperator, Pipeline
from bridge.schema import StreamSchema
from bridge.staging import Producer, StagerClient
from bridge.staging.messages import StreamOptions
from sim_adapters.link import link

STREAMS = tuple(f"s{i}" for i in range(4))
WORKERS = 2
RATE = 25
SIZES = {
    "22 atoms": (22, 1_000_000),
    "3,000 atoms": (3000, 20_000),
    "100,000 atoms": (100_000, 1000),
}


class Projection(FrameOperator):
    """Frames onto four fixed components."""

    def __init__(self, atoms: int) -> None:
        self.components = np.random.default_rng(0).normal(size=(3 * atoms, 4)).astype(np.float32)

    def process(self, batch: FrameBatch, context: Context) -> FrameBatch:
        flat = batch["x"].reshape(len(batch), -1)
        return batch.with_columns({"projection": flat @ self.components})


def _record(address: str, atoms: int, frames: int, names: Sequence[str] = STREAMS) -> None:
    x = np.random.default_rng(1).normal(size=(atoms, 3)).astype(np.float32)
    options = StreamOptions(capacity=max(64 << 20, 2 * frames * x.nbytes))
    for name in names:
        producer = Producer(
            name, StreamSchema.from_arrays({"x": x}), address=address, options=options
        )
        for step in range(frames):
            producer.put(step, float(step), {"x": x})
        producer.close(finished=True)


def _stamps(address: str, pipeline: str, names: Sequence[str]) -> tuple[Any, Any]:
    """Return when results were stored, in order, and how many frames each is of."""
    stamps: list[tuple[float, int]] = []
    with StagerClient(address) as client:
        for name in names:
            topic = results_topic(pipeline, name)
            position = 0
            while True:
                fetched = client.fetch({topic: position}, wait=0.0)
                if not fetched.records:
                    break
                stamps += [(r.stamp, len(decode_batch(r.data)[0])) for r in fetched.records]
                position = fetched.positions[topic]
    stamps.sort()
    return np.array([t for t, _ in stamps]), np.array([n for _, n in stamps])


def _rate(address: str, pipeline: str, names: Sequence[str] = STREAMS) -> float:
    """Return the frames a second, by the time stamps of the results, after the first fifth."""
    times, frames = _stamps(address, pipeline, names)
    done = np.cumsum(frames)
    begin = int(np.searchsorted(done, done[-1] / 5))
    return float((done[-1] - done[begin]) / max(times[-1] - times[begin], 1e-6))


def _evenness(address: str, pipeline: str, names: Sequence[str]) -> float:
    """Return the rate over the second half of the frames by that over the first half."""
    times, frames = _stamps(address, pipeline, names)
    done = np.cumsum(frames)
    middle = int(np.searchsorted(done, done[-1] / 2))
    first = (done[middle] - frames[0]) / max(times[middle] - times[0], 1e-6)
    return float((done[-1] - done[middle]) / max(times[-1] - times[middle], 1e-6) / first)


def _run(engine: str, pipeline: Pipeline, address: str, names: Sequence[str]) -> None:
    if engine == "local":
        with StagerClient(address) as client:
            LocalEngine(pipeline, client, group=pipeline.name).run()
    else:
        job = Job(pipeline, address, group=pipeline.name, expected=names)
        load_engine(engine)(job, parallelism=WORKERS).run()


def _throughput(engine: str, atoms: int, frames: int) -> tuple[float, float, float]:
    with stager_process(limit=8 << 30) as (address, _):
        _record(address, atoms, frames)
        # Once to touch the pages, then to measure.
        for kind in ("warm", "local", engine):
            pipeline = Pipeline(kind, [("projection", Projection(atoms))])
            _run("local" if kind == "warm" else kind, pipeline, address, STREAMS)
        naive = spawn.Pipe(duplex=False)
        # A JVM of its own: a process has one, with the settings that it was started with.
        process = spawn.Process(
            target=_naive, args=(naive[1], engine, address, atoms, frames // 10)
        )
        process.start()
        through = receive(naive[0], process)
        process.join()
        return _rate(address, "local"), _rate(address, engine), through


def _naive(pipe: Any, engine: str, address: str, atoms: int, stop: int) -> None:
    pipe.send(through_jvm(engine, address, STREAMS, atoms, stop))


def _flatness(engine: str, streams: int, frames: int) -> tuple[float, float]:
    """Return the rate with so many streams, and how even it was over the run."""
    names = [f"s{i}" for i in range(streams)]
    with stager_process(limit=8 << 30) as (address, _):
        _record(address, 22, frames // streams, names)
        _run(engine, Pipeline(engine, [("projection", Projection(22))]), address, names)
        return _rate(address, engine, names), _evenness(address, engine, names)


def _latency(engine: str, seconds: float) -> tuple[float, float]:
    x = np.zeros((22, 3), np.float32)
    put: dict[tuple[str, int], float] = {}
    took: list[tuple[float, float]] = []
    over, begun = threading.Event(), threading.Event()

    def read(address: str) -> None:
        with StagerClient(address) as client:
            positions = {results_topic("latency", name): 0 for name in STREAMS}
            while not over.is_set():
                fetched = client.fetch(positions, wait=0.5)
                now = time.time()
                for record in fetched.records:
                    batch, _ = decode_batch(record.data)
                    for offset in batch.offsets.tolist():
                        at = put[batch.simulation, offset]
                        took.append((at, now - at))
                positions |= fetched.positions

    with stager_process() as (address, _):
        pipeline = Pipeline("latency", [("projection", Projection(22))])
        made = load_engine(engine)(
            Job(pipeline, address, until="stopped"),
            parallelism=WORKERS,
            on_status=lambda status: begun.set(),
        )
        running = threading.Thread(target=made.run, args=("stopped",))
        running.start()
        if not begun.wait(120):
            raise SystemExit("The engine did not begin within 120 s.")
        reading = threading.Thread(target=read, args=(address,))
        reading.start()
        links = [link(name, stager=address, every=1) for name in STREAMS]
        start = time.time()
        for step in range(int(seconds * RATE)):
            for name, one in zip(STREAMS, links, strict=True):
                put[name, step] = time.time()
                one.put(step, float(step), x=x)
            time.sleep(max(0.0, start + (step + 1) / RATE - time.time()))
        time.sleep(1.5)
        over.set()
        reading.join()
        for one in links:
            one.close()
        made.stop()
        running.join(60)
    # The first seconds are those in which workers are still coming up.
    settled = [delay for at, delay in took if at > start + 5.0]
    return float(np.median(settled)) * 1e3, float(np.percentile(settled, 99)) * 1e3


def run(quick: bool, engine: str = "flink") -> dict[str, Any]:
    """Measure; see the module's text."""
    figures = []
    for size, (atoms, frames) in SIZES.items():
        runs = [
            _throughput(engine, atoms, frames // (4 if quick else 1))
            for _ in range(1 if quick else 3)
        ]
        small, large = atoms < 100, atoms > 10_000
        figures += [
            figure(f"{size}, local", [r[0] for r in runs], "frames/s"),
            figure(f"{size}, {engine}", [r[1] for r in runs], "frames/s",
                   target=20_000 if small else None),
            figure(f"{size}, {engine}", [r[1] * atoms * 12 / 1e6 for r in runs], "MB/s"),
            figure(f"{size}, {engine} by local", [r[1] / r[0] for r in runs], "",
                   target=0.7 if large else None),
            figure(f"{size}, through the JVM", [r[2] for r in runs], "frames/s"),
            figure(f"{size}, {engine} by through the JVM", [r[1] / r[2] for r in runs], ""),
        ]  # fmt: skip
    frames = 200_000 if quick else 1_000_000
    flat = {n: _flatness(engine, n, frames) for n in (1, 20, 200)}
    figures += [figure(f"{frames:,} frames in {n} streams", [flat[n][0]], "frames/s") for n in flat]
    figures += [
        figure("cost of a frame, 200 streams by 1", [flat[1][0] / flat[200][0]], "",
               better="lower"),
        figure(f"rate, second half of {frames:,} frames by first", [flat[20][1]], ""),
    ]  # fmt: skip
    waits = [_latency(engine, 15 if quick else 40)]
    median, rare = (40.0, 400.0) if engine == "flink" else (400.0, None)
    figures += [
        figure("put to result, median", [m for m, _ in waits], "ms", target=median,
               better="lower"),
        figure("put to result, 99th percentile", [p for _, p in waits], "ms", target=rare,
               better="lower"),
    ]  # fmt: skip
    return result(f"engines ({engine})", figures)
