"""The naive way: frames sent through the JVM, for the benchmark of the engines.

Flink: a Python function reads the frames from staging and emits each as an element, pickled as
PyFlink does; keyed by simulation, they come out of the JVM into a Python map that projects them.
Spark: frames are rows of a DataFrame (of our source), and go from the JVM into ``mapInPandas``.
Both write down, in the Python worker, when and how many frames were projected.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bridge.engines.java import find_java
from bridge.staging import StagerClient

__all__ = ["through_jvm"]

PARALLELISM = 2


class Projector:
    """Projects one frame or several, and keeps a file with when and how many."""

    def __init__(self, folder: str, atoms: int) -> None:
        self._path = Path(folder) / f"{os.getpid()}-{time.time_ns()}.json"
        self._components = np.random.default_rng(0).normal(size=(3 * atoms, 4)).astype(np.float32)
        self._first = self._now = self._written = 0.0
        self._begun_with = self._frames = 0

    def project(self, frames: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        out = frames.reshape(len(frames), -1) @ self._components
        now = time.time()
        self._frames += len(frames)
        if not self._first:
            self._first, self._begun_with = now, len(frames)
        self._now = now
        if now - self._written > 0.05:
            self._written = now
            self.write()
        return out

    def write(self) -> None:
        """Write down what was done so far."""
        now = self._now
        text = json.dumps([self._first, self._begun_with, now, self._frames])
        partial = self._path.with_suffix(".new")
        partial.write_text(text)
        partial.rename(self._path)


def _rate(folder: str) -> float:
    parts = [json.loads(path.read_text()) for path in Path(folder).glob("*.json")]
    # Frames after the first piece, by the time since then, as for the engines.
    first, begun_with, _, _ = min(parts)
    seconds = max(last for _, _, last, _ in parts) - first
    return float((sum(frames for _, _, _, frames in parts) - begun_with) / max(seconds, 1e-6))


def _flink(address: str, names: Sequence[str], atoms: int, stop: int, folder: str) -> None:
    os.environ.setdefault("JAVA_HOME", find_java(11, "Flink", bundled=True).home)
    os.environ.setdefault("FLINK_LOG_DIR", tempfile.gettempdir())
    from pyflink.common import Configuration, Types
    from pyflink.datastream import StreamExecutionEnvironment
    from pyflink.datastream.functions import FlatMapFunction, MapFunction, RuntimeContext

    class Read(FlatMapFunction):  # type: ignore[misc]
        def flat_map(self, name: str) -> Iterator[tuple[str, int, Any]]:
            topic, position = f"frames/{name}", 0
            with StagerClient(address) as client:
                while position < stop:
                    most = min(4096, stop - position)
                    with client.fetch({topic: position}, max_frames=most, wait=1.0) as fetched:
                        for batch in fetched.batches:
                            for offset, frame in zip(batch.offsets, batch["x"], strict=True):
                                yield name, int(offset), np.array(frame)
                        position = fetched.positions.get(topic, position)

    class Project(MapFunction):  # type: ignore[misc]
        def open(self, context: RuntimeContext) -> None:
            self.projector = Projector(folder, atoms)

        def map(self, element: tuple[str, int, Any]) -> int:
            self.projector.project(element[2][None])
            return element[1]

        def close(self) -> None:
            self.projector.write()

    settings = Configuration()
    settings.set_string("python.executable", sys.executable)
    settings.set_string("python.client.executable", sys.executable)
    settings.set_string("rest.bind-address", "127.0.0.1")
    settings.set_string("taskmanager.memory.managed.size", "512m")
    environment = StreamExecutionEnvironment.get_execution_environment(settings)
    environment.set_parallelism(PARALLELISM)
    (
        environment.from_collection(list(names), Types.STRING())
        .rebalance()
        .flat_map(Read())
        .key_by(lambda element: element[0])
        .map(Project(), Types.INT())
        .filter(lambda offset: offset < 0)
        .print()
    )
    environment.execute("through the JVM")


def _spark(address: str, names: Sequence[str], atoms: int, stop: int, folder: str) -> None:
    import pandas as pd
    from pyspark.sql import SparkSession

    from bridge.engines.spark import register

    os.environ["PYSPARK_PYTHON"] = sys.executable
    session = (
        SparkSession.builder.master(f"local[{PARALLELISM}]")
        .config("spark.ui.enabled", "false")
        .config("spark.driver.memory", "4g")
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("ERROR")
    register(session)

    def project(parts: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        projector = Projector(folder, atoms)
        for part in parts:
            frames = np.stack(part["x"].to_numpy()).astype(np.float32, copy=False)
            projector.project(frames)
            yield part[["offset"]][:0]
        projector.write()

    rows = (
        session.read.format("headrace")
        .option("stager", address)
        .option("simulations", ",".join(names))
        .option("stop", str(stop))
        .load()
    )
    rows.select("offset", "x").mapInPandas(project, "offset long").write.format("noop").mode(
        "overwrite"
    ).save()
    session.stop()


def through_jvm(engine: str, address: str, names: Sequence[str], atoms: int, stop: int) -> float:
    """Return frames/s from the first projected frame to the last; each stream up to `stop`."""
    with tempfile.TemporaryDirectory() as folder:
        {"flink": _flink, "spark": _spark}[engine](address, names, atoms, stop, folder)
        return _rate(folder)
