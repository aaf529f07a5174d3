"""What workers said of themselves."""

from __future__ import annotations

import time
from collections.abc import Callable

from bridge.commands import Event
from bridge.engines.job import split_partition
from bridge.engines.partials import PartitionReport
from bridge.engines.progress import Progress
from bridge.engines.protocol import SimulationProgress

__all__ = ["Workers"]


class Workers:
    """The newest report on each partition.

    Parameters
    ----------
    tell
        Stores an event when a partition comes to another worker; None where that is usual.
    progress
        Takes over what workers counted; None where everything is counted by the coordinator.
    """

    def __init__(self, tell: Callable[[Event], None] | None, progress: Progress | None) -> None:
        self._tell = tell
        self._progress = progress
        self._reports: dict[str, PartitionReport] = {}
        self._seconds: dict[str, dict[str, float]] = {}

    def last(self, partition: str) -> PartitionReport | None:
        """Return the newest report on a partition."""
        return self._reports.get(partition)

    def seconds(self) -> dict[str, float]:
        """Return the time spent in each operator by all workers together, in seconds."""
        out: dict[str, float] = {}
        for worker in self._seconds.values():
            for name, value in worker.items():
                out[name] = out.get(name, 0.0) + value
        return out

    def states(self) -> dict[str, int]:
        """Return the bytes of each keyed operator's states, of all partitions together."""
        out: dict[str, int] = {}
        for report in list(self._reports.values()):
            for name, size in report.states.items():
                out[name] = out.get(name, 0) + size
        return out

    def hear(self, report: PartitionReport) -> bool:
        """Take note of a report; false if it is no news."""
        before = self._reports.get(report.partition)
        if before is not None and report.stamp < before.stamp:
            return False
        self._reports[report.partition] = report
        self._seconds[report.worker] = report.seconds
        if before is not None and before.worker != report.worker:
            self._tell_changed(before, report)
        if self._progress is not None:
            self._adopt(self._progress, before, report)
        return (
            before is None
            or report.position > before.position
            or report.finished != before.finished
        )

    def _adopt(
        self, progress: Progress, before: PartitionReport | None, report: PartitionReport
    ) -> None:
        is_new = before is None or report.stamp > before.stamp
        latency = report.stamp - report.put if is_new and report.put and report.stamp else None
        progress.adopt(
            split_partition(report.partition)[0],
            SimulationProgress(
                position=report.position,
                step=report.step,
                time=report.time,
                frames=report.frames,
                quarantined=report.quarantined,
                missed=report.missed,
                finished=report.finished,
            ),
            batches=report.batches - (0 if before is None else before.batches),
            replayed=report.replayed - (0 if before is None else before.replayed),
            latency=latency,
        )

    def _tell_changed(self, before: PartitionReport, now: PartitionReport) -> None:
        if self._tell is None:
            return
        rest = max(0.0, time.time() - before.stamp) if before.stamp else 0.0
        self._tell(
            Event(
                "worker_changed",
                f"The partition {now.partition!r} is served by {now.worker}, no more by "
                f"{before.worker}; it rested for {rest:.1f} s.",
                simulation=split_partition(now.partition)[0],
                data={"downtime": round(rest, 3), "position": now.position},
            )
        )
