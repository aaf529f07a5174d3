"""The data source of a job: plans leases, and serves them on the executors.

It is made anew for each run, by `job_source`, and carries the job; Spark ships it as it ships all
code. Frames and results do not pass through Spark; what a task yields are the positions that it
came to.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
from pyspark import TaskContext
from pyspark.sql.datasource import DataSource, DataSourceStreamReader, InputPartition
from pyspark.sql.streaming.datasource import ReadLimit

from bridge.engines.partials import PartitionReport
from bridge.engines.patience import PatientClient
from bridge.engines.spark.columns import arrow_schema
from bridge.engines.spark.leases import Lease, Run, rows, serve
from bridge.engines.spark.news import NewsReader
from bridge.engines.spark.planning import deal
from bridge.engines.spark.states import StagedStates
from bridge.staging.messages import TopicStatus

__all__ = ["JobReader", "job_source"]

FRAMES = "frames/"
_REST = 0.05  # seconds between two looks for new streams while there is nothing to do
_FRAME = 4096  # bytes that a frame costs besides its own


def job_source(run: Run, tasks: int, seconds: float) -> type[DataSource]:
    """Return a data source for one run of a job.

    Parameters
    ----------
    run
        What to run.
    tasks
        Tasks in a micro-batch.
    seconds
        How long a task serves its partitions.
    """
    name = f"headrace-{run.name}"

    class JobSource(DataSource):  # type: ignore[misc]
        @classmethod
        def name(cls) -> str:
            return name

        def schema(self) -> str:
            return "partition string, position bigint"

        def streamReader(self, schema: Any) -> JobReader:  # noqa: N802 - Spark's name
            return JobReader(run, schema, tasks, seconds)

    return JobSource


class LeasePartition(InputPartition):  # type: ignore[misc]
    """What one task serves."""

    def __init__(self, lease: Lease) -> None:
        super().__init__(None)
        self.lease = lease


class JobReader(DataSourceStreamReader):  # type: ignore[misc]
    """Plans leases in the driver, and serves them on the executors.

    The offset of the query is the number of the lease, and how far the streams were when it was
    planned.
    """

    def __init__(self, run: Run, schema: Any, tasks: int, seconds: float) -> None:
        self._run = run
        self._schema = schema
        self._tasks = tasks
        self._seconds = seconds
        self._planner: _Planner | None = None

    def __getstate__(self) -> dict[str, Any]:
        # Workers do not plan.
        return {**self.__dict__, "_planner": None}

    def _plan(self) -> _Planner:
        if self._planner is None:
            self._planner = _Planner(self._run)
        return self._planner

    def initialOffset(self) -> dict[str, Any]:  # noqa: N802 - Spark's name
        """Return the offset of a new query."""
        return {"lease": 0, "streams": {}}

    def latestOffset(self, start: dict[str, Any], limit: ReadLimit) -> dict[str, Any]:  # noqa: N802
        """Begin a lease as long as there is a stream to be served."""
        if self._run.is_stopping():
            time.sleep(_REST)
            return start
        streams = self._plan().look()
        if not streams:
            time.sleep(_REST)
            return start
        ends = {name: stream.end for name, stream in streams.items()}
        return {"lease": start["lease"] + 1, "streams": ends}

    def partitions(self, start: dict[str, Any], end: dict[str, Any]) -> Sequence[LeasePartition]:
        """Deal the partitions out to tasks."""
        weights = self._plan().weights(end["streams"])
        names = sorted(weights)
        dealt = deal({i: weights[name] for i, name in enumerate(names)}, self._tasks)
        known = frozenset(names)
        return [
            LeasePartition(
                Lease(
                    end["lease"],
                    task,
                    self._tasks,
                    self._seconds,
                    tuple(names[i] for i in chosen),
                    known,
                    time.time(),
                )
            )
            for task, chosen in enumerate(dealt)
        ]

    def read(self, partition: LeasePartition) -> Iterator[pa.RecordBatch]:
        """Serve one lease."""
        context = TaskContext.get()
        attempt = 0 if context is None else context.attemptNumber()
        reports = serve(self._run, partition.lease, attempt)
        if reports:
            yield pa.RecordBatch.from_pydict(rows(reports), schema=arrow_schema(self._schema))

    def stop(self) -> None:
        """Let go of the connection."""
        if self._planner is not None:
            self._planner.close()


class _Planner:
    """What the planner knows of streams."""

    def __init__(self, run: Run) -> None:
        self._job = run.job
        self._raw = run.job.connect("planner")
        options = run.job.options
        self._client = PatientClient(self._raw, options.reconnect_timeout, run.is_stopping)
        try:
            self._news = NewsReader(self._client, run.job.name, run.name)
            self._reports: dict[str, PartitionReport] = {}
            states = StagedStates(self._client, run.job.name, run.checkpoint)
            for name, saved in states.load_all().items():
                if saved.report:
                    self._reports[name] = PartitionReport.decode(saved.report)
        except BaseException:
            self._raw.close()
            raise
        self._streams: dict[str, TopicStatus] = {}
        self._before: dict[str, int] = {}

    def look(self) -> dict[str, TopicStatus]:
        """Return the streams that are not done with."""
        for news in self._news.read():
            for report in news.reports:
                self._reports[report.partition] = report
        self._before = {name: stream.end for name, stream in self._streams.items()}
        self._streams = {
            t.name.removeprefix(FRAMES): t for t in self._client.topics(FRAMES, schemas=False)
        }
        return {name: s for name, s in self._streams.items() if not self._is_done(name, s)}

    def _is_done(self, name: str, stream: TopicStatus) -> bool:
        if not stream.finished:
            return False
        reports = [self._reports.get(partition) for partition in self._job.partitions(name)]
        return all(r is not None and r.finished and r.position >= stream.end for r in reports)

    def weights(self, ends: dict[str, int]) -> dict[str, int]:
        """Return, for each partition, about how many bytes are to be done: waiting and to come."""
        out = {}
        for name, end in ends.items():
            stream = self._streams.get(name)
            size = _FRAME
            if stream is not None and stream.end:
                size += stream.bytes // stream.end
            for partition in self._job.partitions(name):
                report = self._reports.get(partition)
                behind = max(0, end - (0 if report is None else report.position))
                came = max(0, end - self._before.get(name, end))
                out[partition] = (1 + behind + came) * size
        return out

    def close(self) -> None:
        """Close the connection."""
        self._raw.close()
