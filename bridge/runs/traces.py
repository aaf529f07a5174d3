"""What plots are made of: some columns of the results of each simulation, thinned out evenly."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bridge.codec import decode_batch
from bridge.errors import ConfigError
from bridge.frames import FrameBatch
from bridge.staging.client import StagerClient

__all__ = ["Thinner", "Trace", "load_traces", "read_traces", "save_traces"]

Array = npt.NDArray[Any]
RESULTS = "results/"


class Trace:
    """Rows of one simulation.

    Attributes
    ----------
    simulation
        Its name.
    rows
        ``offset``, ``step``, ``time``, ``epoch``, ``marked`` (bool: kept because somebody asked
        for it), and the columns of the results, each with the frames on its first axis.
    stride
        One frame in so many was kept, besides the marked ones.
    """

    def __init__(self, simulation: str, rows: Mapping[str, Array], stride: int = 1) -> None:
        self.simulation = simulation
        self.rows = dict(rows)
        self.stride = stride

    def __len__(self) -> int:
        return len(self.rows["offset"])

    def __repr__(self) -> str:
        return f"<Trace {self.simulation} n={len(self)} stride={self.stride}>"


class Thinner:
    """Gathers rows of one simulation, and keeps at most `limit` of them, evenly spaced.

    Every `stride`-th offset is kept; when there are too many, the stride is doubled. So what is
    kept depends on the offsets alone, not on the batches they came in. Marked offsets are kept
    whatever the stride.
    """

    def __init__(
        self, simulation: str, limit: int, columns: Collection[str], marks: Collection[int] = ()
    ) -> None:
        self.simulation = simulation
        self.stride = 1
        self._limit = max(1, limit)
        self._columns = set(columns)
        self._marks = np.fromiter(marks, np.int64)
        self._parts: list[dict[str, Array]] = []
        self._count = 0

    def add(self, batch: FrameBatch) -> None:
        """Take in a batch; what is kept is copied."""
        marked = np.isin(batch.offsets, self._marks)
        keep = np.flatnonzero(marked | (batch.offsets % self.stride == 0))
        if not len(keep):
            return
        rows: dict[str, Array] = {
            "offset": batch.offsets,
            "step": batch.steps,
            "time": batch.times,
            "epoch": batch.epochs,
            "marked": marked,
            **{k: v for k, v in batch.columns.items() if k in self._columns},
        }
        self._parts.append({k: np.array(v[keep]) for k, v in rows.items()})
        self._count += len(keep)
        while self._count > self._limit + len(self._marks):
            self.stride *= 2
            self._thin()

    def trace(self) -> Trace:
        """Return what was kept."""
        self._join()
        return Trace(self.simulation, self._parts[0] if self._parts else _nothing(), self.stride)

    def _join(self) -> None:
        if len(self._parts) > 1:
            # A column that some rows lack, since an operator came to it late, is left out.
            names = set.intersection(*(set(p) for p in self._parts))
            self._parts = [{k: np.concatenate([p[k] for p in self._parts]) for k in names}]

    def _thin(self) -> None:
        self._join()
        part = self._parts[0]
        keep = (part["offset"] % self.stride == 0) | part["marked"]
        self._parts = [{k: v[keep] for k, v in part.items()}]
        self._count = int(keep.sum())


def _nothing() -> dict[str, Array]:
    dtypes = {"offset": "<i8", "step": "<i8", "time": "<f8", "epoch": "<i4", "marked": "?"}
    return {name: np.zeros(0, dtype) for name, dtype in dtypes.items()}


def read_traces(
    client: StagerClient,
    pipeline: str,
    *,
    columns: Collection[str],
    max_points: int,
    marks: Mapping[str, Collection[int]] | None = None,
) -> list[Trace]:
    """Read the results of a pipeline from staging, from the oldest that is kept to the end.

    Parameters
    ----------
    client
        To the stager.
    pipeline
        Its name.
    columns
        Columns to keep; those that are not there are left out.
    max_points
        Rows to keep at most, over all simulations, besides the marked ones.
    marks
        Simulation to offsets to keep in any case.
    """
    prefix = f"{RESULTS}{pipeline}/"
    topics = sorted(client.topics(prefix, schemas=False), key=lambda t: t.name)
    traces = []
    for topic in topics:
        name = topic.name.removeprefix(prefix)
        thinner = Thinner(name, max_points // len(topics), columns, (marks or {}).get(name, ()))
        for batch in _batches(client, topic.name, topic.low, topic.end):
            thinner.add(batch)
        traces.append(thinner.trace())
    return traces


def _batches(client: StagerClient, topic: str, low: int, end: int) -> Iterator[FrameBatch]:
    position = low
    while position < end:
        with client.fetch({topic: position}, wait=1.0) as fetched:
            for record in fetched.records:
                yield decode_batch(record.data)[0]
            if not fetched.records:
                return
            position = fetched.positions[topic]


def save_traces(path: Path, traces: Sequence[Trace]) -> None:
    """Write traces into one compressed file of arrays."""
    arrays: dict[str, Array] = {"simulations": np.array([t.simulation for t in traces], "S128")}
    arrays["strides"] = np.array([t.stride for t in traces], np.int64)
    for number, trace in enumerate(traces):
        for name, rows in trace.rows.items():
            arrays[f"{number}/{name}"] = rows
    with path.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def load_traces(path: Path) -> list[Trace]:
    """Read what `save_traces` wrote.

    Raises
    ------
    ConfigError
        If there is no such file, or it is something else.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        names = [name.decode() for name in arrays["simulations"]]
        return [
            Trace(
                name,
                {
                    key.partition("/")[2]: value
                    for key, value in arrays.items()
                    if key.startswith(f"{number}/")
                },
                int(arrays["strides"][number]),
            )
            for number, name in enumerate(names)
        ]
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"Cannot read the recorded results in {path}: {error}.") from error
