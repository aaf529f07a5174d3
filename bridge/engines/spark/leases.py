"""What a Spark task of a job does: serve some partitions for a while.

A micro-batch is a *lease*: each task serves the partitions that it was given for a second or two.
It runs their operators on frames as they come, waiting for them in staging; results
and what the coordinator is to gather go to staging at once. So a frame does not wait for the next
micro-batch, and Spark's planning costs the same for one frame and for a million.

A worker saves its partitions' states in staging, once a second and at the end of a lease. A lease
that is given to another worker, or again to the same, goes on from what was saved last; what was
done since is done once more, to no effect.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import xxhash

from bridge.engines.job import Job
from bridge.engines.partials import PartitionReport
from bridge.engines.partition import PartitionStage
from bridge.engines.patience import PatientClient
from bridge.engines.spark.news import News, TakenOver, tell_news
from bridge.engines.spark.states import StagedStates
from bridge.engines.threads import limit_threads
from bridge.errors import HeadraceError, TransportError
from bridge.staging.client_like import ClientLike

__all__ = ["Lease", "Run", "serve"]

_POLL = 0.25  # seconds that a fetch waits at most
_TELL = 0.1  # seconds between news


@dataclass(frozen=True)
class Run:
    """One run of a job.

    Parameters
    ----------
    job
        What to run.
    pipeline
        Name of its pipeline, which need not be built to be named.
    name
        Of the run: workers keep what they know of it between leases.
    checkpoint
        Which states belong to it.
    stop_file
        A file whose coming ends the leases of workers on the driver's machine.
    """

    job: Job
    pipeline: str
    name: str
    checkpoint: str
    stop_file: str = ""

    def is_stopping(self) -> bool:
        """Whether no further lease is to begin."""
        return bool(self.stop_file) and os.path.exists(self.stop_file)


@dataclass(frozen=True)
class Lease:
    """Partitions that one task serves.

    Parameters
    ----------
    number
        Of the micro-batch.
    task, tasks
        Which of its tasks, of how many: new streams go to one of them by their names.
    seconds
        How long.
    partitions
        Which, with the priority that the planner gave them.
    known
        Names that all tasks of the micro-batch serve together, hashed.
    planned
        Unix time at which it was dealt.
    """

    number: int
    task: int
    tasks: int
    seconds: float
    partitions: tuple[str, ...]
    known: frozenset[str]
    planned: float = 0.0


_workers: dict[str, _Worker] = {}


def serve(run: Run, lease: Lease, attempt: int = 0) -> list[PartitionReport]:
    """Serve a lease to its end, and return the reports on the partitions that got further.

    The lease was tried `attempt` times before, and whoever did is lost. Failures that another
    worker would have in the same way are told to the coordinator, not raised: Spark would only try
    again.
    """
    worker = _workers.get(run.name)
    if worker is None:
        for other in _workers.values():
            other.close()
        _workers.clear()
        worker = _workers[run.name] = _Worker(run)
    try:
        return worker.serve(lease, attempt)
    except TransportError:
        raise
    except Exception as error:
        _workers.pop(run.name, None)
        worker.tell_failure(error)
        worker.close()
        return []


class _Worker:
    """What a worker process keeps between leases."""

    def __init__(self, run: Run) -> None:
        self.run = run
        job = run.job
        self._client: ClientLike = job.connect(f"worker {os.getpid()}")
        self._patient = PatientClient(self._client, job.options.reconnect_timeout, run.is_stopping)
        self._stage: PartitionStage | None = None
        self._states: StagedStates | None = None
        self._saved: dict[str, int] = {}
        self._saved_at: dict[str, float] = {}
        self._told = 0.0
        self._news: dict[str, PartitionReport] = {}

    def close(self) -> None:
        self._client.close()

    def tell_failure(self, error: Exception) -> None:
        kind = type(error).__name__ if isinstance(error, HeadraceError) else "EngineError"
        said = str(error) if isinstance(error, HeadraceError) else (
            f"A worker failed: {type(error).__name__}: {str(error).rstrip('.')}."
        )  # fmt: skip
        tell_news(self._patient, self.run.pipeline, News(self.run.name, [], kind, said))

    # ------------------------------------------------------------------ lease

    def serve(self, lease: Lease, attempt: int) -> list[PartitionReport]:
        job = self.run.job
        if self._stage is None:
            limit_threads(job.options.threads)
            self._stage = PartitionStage(job, self._client, given_up=self.run.is_stopping)
            self._states = StagedStates(self._patient, job.name, self.run.checkpoint)
        stage = self._stage
        stage.discover()
        mine = dict.fromkeys(lease.partitions)
        self._take_up(mine)
        # From here on: where to take up takes longer than a lease, none would get any further.
        deadline = time.monotonic() + lease.seconds
        if attempt and mine:
            again = TakenOver(
                lease.number, lease.task, attempt, lease.planned, time.time(), lease.partitions
            )
            tell_news(self._patient, job.name, News(self.run.name, taken_over=again))
        out: dict[str, PartitionReport] = {}
        look = 0.0
        while True:
            left = deadline - time.monotonic()
            if left <= 0 or self.run.is_stopping():
                break
            reports = stage.pump(mine, wait=min(_POLL, left), budget=min(_POLL, left))
            for report in reports:
                out[report.partition] = self._news[report.partition] = report
            self._tell()
            self._save(mine, due=True)
            if time.monotonic() >= look:
                look = time.monotonic() + _POLL
                new = dict.fromkeys(self._new_ones(lease, mine))
                self._take_up(new)
                mine |= new
                if mine and not reports and self._are_finished(mine):
                    break
            if not mine:
                time.sleep(min(0.05, max(0.0, left)))
        self._save(mine, due=False)
        # Lets staging know what was saved.
        stage.pump((), wait=0.0, budget=0.0)
        self._tell(now=True)
        return list(out.values())

    def _new_ones(self, lease: Lease, mine: dict[str, None]) -> list[str]:
        assert self._stage is not None
        return [
            name
            for name in self._stage.discover()
            if name not in mine
            and name not in lease.known
            and xxhash.xxh3_64_intdigest(name.encode()) % lease.tasks == lease.task
        ]

    def _are_finished(self, names: Iterable[str]) -> bool:
        reports = self._reports()
        return all(name in reports and reports[name].finished for name in names)

    def _reports(self) -> dict[str, PartitionReport]:
        assert self._stage is not None
        return {report.partition: report for report in self._stage.reports()}

    def _tell(self, *, now: bool = False) -> None:
        """Tell the coordinator; at once where a stream has ended, else now and then."""
        due = time.monotonic() - self._told >= _TELL
        if self._news and (now or due or any(r.finished for r in self._news.values())):
            reports = list(self._news.values())
            tell_news(self._patient, self.run.job.name, News(self.run.name, reports))
            self._news.clear()
            self._told = time.monotonic()

    # ------------------------------------------------------------------ state

    def _take_up(self, partitions: Iterable[str]) -> None:
        """Open partitions, unless this worker was the last to save them."""
        assert self._stage is not None
        assert self._states is not None
        names = list(partitions)
        if not names:
            return
        ends = self._states.ends(names)
        stale = {
            name: ends.get(name, 0)
            for name in names
            if not self._stage.is_open(name) or self._saved.get(name, 0) != ends.get(name, 0)
        }
        states = self._states.load({name: end for name, end in stale.items() if end})
        for name, end in stale.items():
            found = states.get(name)
            self._stage.open(name, None if found is None else found.state)
            self._saved[name] = end
            self._saved_at[name] = time.monotonic()

    def _save(self, partitions: Iterable[str], *, due: bool) -> None:
        """Save partitions: those whose time has come, or all with news."""
        assert self._stage is not None
        assert self._states is not None
        options = self.run.job.options
        now = time.monotonic()
        for name in partitions:
            dirty = self._stage.dirty(name)
            if not dirty or (
                due
                and dirty < options.save_bytes
                and now - self._saved_at.get(name, 0.0) < options.save_every
            ):
                continue
            state = self._stage.save(name)
            if state is None:
                continue
            # With the bytes of what was saved, which are told though no frame came.
            report = self._news[name] = self._stage.report(name)
            end = self._states.store(name, state, report=report)
            self._saved[name] = end
            self._saved_at[name] = now
            if end:
                self._stage.commit({name: report.position})


def rows(reports: Sequence[PartitionReport]) -> dict[str, list[Any]]:
    """Return reports as columns, for Spark."""
    return {
        "partition": [report.partition for report in reports],
        "position": [report.position for report in reports],
    }
