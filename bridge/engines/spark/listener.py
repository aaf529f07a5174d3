"""What Spark tells of a query's progress, for the events topic."""

from __future__ import annotations

import queue
import time
from typing import Any

from pyspark.sql.streaming.listener import StreamingQueryListener

from bridge.commands import Event

__all__ = ["ProgressListener"]

_EVERY = 5.0


class ProgressListener(StreamingQueryListener):  # type: ignore[misc]
    """Collects events of one query; Spark calls it in a thread of its own.

    Parameters
    ----------
    pipeline
        Name of the pipeline.
    name
        Of the query.
    """

    def __init__(self, pipeline: str, name: str) -> None:
        self._pipeline = pipeline
        self._name = name
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._next = 0.0
        self._runs: set[str] = set()

    def take(self) -> list[Event]:
        """Return what was collected."""
        out = []
        while not self._events.empty():
            out.append(self._events.get())
        return out

    def onQueryStarted(self, event: Any) -> None:  # noqa: N802 - Spark's name
        """Note which runs of queries are ours."""
        if event.name == self._name:
            self._runs.add(str(event.runId))

    def onQueryProgress(self, event: Any) -> None:  # noqa: N802 - Spark's name
        """Tell how long a micro-batch took, and its parts, now and then."""
        progress = event.progress
        if progress.name != self._name or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _EVERY
        spent = {key: int(value) for key, value in dict(progress.durationMs).items()}
        self._events.put(
            Event(
                "spark_progress",
                f"Micro-batch {progress.batchId} took {spent.get('triggerExecution', 0)} ms.",
                source=self._pipeline,
                data={
                    "batch": int(progress.batchId),
                    "partitions": int(progress.numInputRows),
                    "milliseconds": spent,
                },
            )
        )

    def onQueryIdle(self, event: Any) -> None:  # noqa: N802 - Spark's name
        """Nothing is to be told."""

    def onQueryTerminated(self, event: Any) -> None:  # noqa: N802 - Spark's name
        """Tell of a failure of ours."""
        if str(event.runId) in self._runs and event.exception:
            self._events.put(
                Event(
                    "spark_failed",
                    f"Spark ended the query of {self._pipeline!r}.",
                    source=self._pipeline,
                    level="error",
                )
            )
