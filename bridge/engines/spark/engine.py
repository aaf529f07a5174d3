"""The Spark engine: a job as a streaming query, whose coordinator lives in the driver.

The query's micro-batches are leases (`bridge.engines.spark.leases`): the executors' Python workers
serve the simulations, each for a while, and are dealt them anew after that. This process takes what
they hand on as it comes, not when a micro-batch is over.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

from py4j.protocol import Py4JNetworkError

from bridge.commands import Event
from bridge.engines.causes import find_error
from bridge.engines.coordinator import Coordinator
from bridge.engines.job import Job
from bridge.engines.partials import PartitionReport
from bridge.engines.patience import PatientClient
from bridge.engines.protocol import EngineStatistics, Until
from bridge.engines.spark.jobsource import job_source
from bridge.engines.spark.leases import Run
from bridge.engines.spark.listener import ProgressListener
from bridge.engines.spark.news import NewsReader, TakenOver
from bridge.engines.spark.session import Session, master_of
from bridge.engines.spark.states import StagedStates
from bridge.errors import ConfigError, EngineError, HeadraceError, TransportError, error_from_code

__all__ = ["SparkEngine"]

log = logging.getLogger(__name__)

_SECONDS = 2.0
_WATCH = 0.5  # seconds between two looks at the query
_WAIT = 0.1  # seconds that the coordinator waits for something to take
_LATE = "Python worker failed to connect back"
_AGAIN = 3  # times that a query is begun again for that reason


class SparkEngine:
    """Runs a job on Apache Spark.

    Killed at any moment, driver, executors or workers, and started again with the same checkpoint,
    it gives every frame's result and every command exactly once. What is known of a job is kept in
    staging; the checkpoint says which of it belongs to this job, and holds Spark's own offsets.

    Parameters
    ----------
    job
        What to run.
    cluster
        ``spark://host:7077``, ``yarn``, ``k8s://…``; or nothing for this machine alone. A Spark
        session that runs in this process already is used.
    checkpoint
        Folder, or address of one that Spark can write to (``hdfs://…``). Without it, a job that
        was killed begins anew where its group has committed.
    parallelism
        Tasks, and so worker processes, that share the simulations.
    on_status
        Called with the statistics, about once a second, in the thread of `run`.
    settings
        Settings of Spark; and ``headrace.lease``, the seconds that a worker serves the simulations
        which it was dealt (2.0), after which they are dealt anew.
    savepoint
        Folder of another checkpoint to go on from, if `checkpoint` is new.

    Raises
    ------
    ConfigError
        If the pipeline cannot be made, or an argument is out of bounds.
    """

    def __init__(
        self,
        job: Job,
        *,
        cluster: str = "",
        checkpoint: str | Path = "",
        parallelism: int = 2,
        on_status: Callable[[EngineStatistics], None] | None = None,
        settings: Mapping[str, str] | None = None,
        savepoint: str = "",
    ) -> None:
        if parallelism < 1:
            raise ConfigError(f"Spark needs at least one task; 'parallelism' is {parallelism}.")
        self.job = job
        self._name = job.name
        self._master = master_of(cluster, parallelism)
        self._checkpoint = str(checkpoint)
        self._parallelism = parallelism
        self._on_status = on_status
        self._settings = {key: str(value) for key, value in (settings or {}).items()}
        self._seconds = self._lease()
        self._savepoint = savepoint
        self._halt = False
        self._statistics = EngineStatistics(self._name, "spark")

    def _lease(self) -> float:
        text = self._settings.get("headrace.lease", str(_SECONDS))
        try:
            seconds = float(text)
        except ValueError as error:
            raise ConfigError(f"The setting headrace.lease is a number, not {text!r}.") from error
        if not 0.05 <= seconds <= 60.0:
            raise ConfigError(f"The setting headrace.lease is 0.05 to 60 seconds, not {text}.")
        return seconds

    # ------------------------------------------------------------------ public

    def stop(self) -> None:
        """Ask the engine to end after the leases at hand, and to save; from any thread."""
        self._halt = True

    def statistics(self) -> EngineStatistics:
        """Return what was done so far; from any thread."""
        return self._statistics

    def run(self, until: Until = "finished") -> EngineStatistics:
        """Run, and return what was done; blocks.

        Parameters
        ----------
        until
            See `bridge.engines.protocol.Engine.run`.

        Raises
        ------
        EngineError
            If Java is missing or too old, or Spark or its cluster failed.
        OperatorFailed
            If an operator fails; no frame is lost.
        ConnectionLost
            If the stager went away and did not come back in time.
        NobodyListening
            If no frame came for `idle_timeout` seconds, though streams have not finished.
        """
        job = replace(self.job, until=until)
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-")))
            location, identity, log_file = self._place(folder)
            client = stack.enter_context(job.connect(f"coordinator of {self._name}"))
            run = Run(job, self._name, uuid4().hex[:12], identity, str(folder / "stop"))
            with self._translated(log_file):
                session = Session(self._name, self._master, self._settings, log_file)
            stack.callback(session.stop)
            course = _Course(self, run, client)
            stack.callback(course.end)
            statistics = course.run(session, location)
        if not self._checkpoint:
            log_file.unlink(missing_ok=True)
        return statistics

    def _place(self, folder: Path) -> tuple[str, str, Path]:
        """Return where Spark writes, what the checkpoint is called, and a file for Java's words."""
        log_file = Path(tempfile.gettempdir()) / f"headrace-spark-{os.getpid()}.log"
        if not self._checkpoint:
            return str(folder / "spark"), uuid4().hex, log_file
        if "://" in self._checkpoint:
            identity = hashlib.sha256(self._checkpoint.encode()).hexdigest()[:32]
            return f"{self._checkpoint.rstrip('/')}/spark", identity, log_file
        place = Path(self._checkpoint).resolve()
        mark = place / "id"
        try:
            if self._savepoint and not mark.exists():
                shutil.copytree(self._savepoint, place, dirs_exist_ok=True)
            place.mkdir(parents=True, exist_ok=True)
            if not mark.exists():
                mark.write_text(uuid4().hex)
            return str(place / "spark"), mark.read_text().strip(), place / "spark.log"
        except OSError as error:
            raise ConfigError(f"The checkpoint cannot be kept in {place}: {error}.") from error

    @contextlib.contextmanager
    def _translated(self, log_file: Path) -> Iterator[None]:
        try:
            yield
        except (HeadraceError, KeyboardInterrupt, SystemExit):
            raise
        except (ConnectionError, EOFError, Py4JNetworkError) as error:
            raise EngineError(
                "Spark's Java process ended, and did not say why: it was killed, or had no memory "
                f"left. What it said before is in {log_file}."
            ) from error
        except Exception as error:
            raise find_error(str(error), "Spark") from error

    def _publish(self, statistics: EngineStatistics) -> None:
        self._statistics = statistics
        if self._on_status is not None:
            self._on_status(statistics)


class _Course:
    """One run of the engine."""

    def __init__(self, engine: SparkEngine, run: Run, client: Any) -> None:
        self._engine = engine
        self._run = run
        self._options = run.job.options
        self._patient = PatientClient(client, self._options.reconnect_timeout, lambda: engine._halt)
        self._news = NewsReader(self._patient, run.pipeline, run.name)
        self._states = StagedStates(self._patient, run.pipeline, run.checkpoint)
        saved = self._states.load_coordinator()
        self._coordinator = Coordinator(
            run.job,
            engine="spark",
            saved=None if saved is None else saved.state,
            client=client,
            moving=True,
            given_up=lambda: engine._halt,
        )
        for one in self._states.load_all().values():
            if one.report:
                self._coordinator.hear(PartitionReport.decode(one.report))
        self._listener = ProgressListener(run.pipeline, self._query_name)
        # Partition to the last sign of life of whoever serves it.
        self._signs: dict[str, float] = {}
        self._query: Any = None
        self._begin: Callable[[], Any]
        self._begun_again = 0
        self._next_save = 0.0
        self._next_watch = 0.0
        self._next_status = 0.0

    @property
    def _query_name(self) -> str:
        return f"headrace {self._run.pipeline} {self._run.name}"

    def end(self) -> None:
        """Let go of the guard's connections."""
        self._coordinator.end()

    # --------------------------------------------------------------------- run

    def run(self, session: Session, location: str) -> EngineStatistics:
        """Run to the end."""
        coordinator = self._coordinator
        try:
            with self._engine._translated(session.log):
                self._start(session, location)
                while not self._engine._halt and not coordinator.over:
                    self._turn()
                self._rest()
                if not self._engine._halt:
                    statistics = coordinator.finish()
                    self._states.store("", coordinator.save())
                else:
                    self._save()
                    statistics = coordinator.stop()
        except BaseException as error:
            self._fail(error)
            raise
        finally:
            self._close(session)
        self._engine._publish(statistics)
        return statistics

    def _start(self, session: Session, location: str) -> None:
        spark = session.spark
        source = job_source(self._run, self._engine._parallelism, self._engine._seconds)
        spark.dataSource.register(source)
        spark.streams.addListener(self._listener)
        self._begin = partial(self._begin_query, spark, source.name(), location)
        # The page of the driver: the master's address says nothing of it. None where it is off.
        self._coordinator.page = str(spark.sparkContext.uiWebUrl or "")
        self._query = self._begin()

    def _begin_query(self, spark: Any, source: str, location: str) -> Any:
        return (
            spark.readStream.format(source)
            .load()
            # What tasks yield is for Spark's own statistics; everything else is in staging.
            .writeStream.format("noop")
            .queryName(self._query_name)
            .option("checkpointLocation", location)
            .trigger(processingTime="0 seconds")
            .start()
        )

    def _turn(self) -> None:
        """Do what is due."""
        coordinator = self._coordinator
        coordinator.pump(wait=_WAIT, budget=0.25)
        self._hear()
        now = time.monotonic()
        if now >= self._next_save:
            self._next_save = now + self._options.checkpoint_every
            self._save()
        if now >= self._next_status:
            self._next_status = now + self._options.status_every
            self._engine._publish(coordinator.statistics())
        if now >= self._next_watch:
            self._next_watch = now + _WATCH
            self._watch()

    def _hear(self) -> None:
        for news in self._news.read():
            for report in news.reports:
                self._coordinator.hear(report)
                self._signs[report.partition] = report.stamp
            if news.taken_over is not None:
                self._tell_lost(news.taken_over)
            if news.failure:
                raise error_from_code(news.failure, news.message)

    def _tell_lost(self, again: TakenOver) -> None:
        """Tell of a worker that was lost, and for how long what it served has rested."""
        signs = [self._signs.get(partition, 0.0) for partition in again.partitions]
        rest = max(0.0, again.stamp - max(again.planned, *signs))
        self._signs |= dict.fromkeys(again.partitions, again.stamp)
        names = ", ".join(map(repr, again.partitions[:4]))
        more = len(again.partitions) - 4
        self._coordinator.tell(
            Event(
                "worker_lost",
                f"A worker of Spark was lost; another one serves {names}"
                f"{f' and {more} more' if more > 0 else ''} after {rest:.1f} s.",
                level="warning",
                data={
                    "downtime": round(rest, 3),
                    "partitions": list(again.partitions[:32]),
                    "lease": again.lease,
                    "attempt": again.attempt,
                },
            )
        )

    def _save(self) -> None:
        positions = self._coordinator.positions()
        self._states.store("", self._coordinator.save(), positions=positions)
        self._coordinator.commit(positions)

    def _tell_progress(self) -> None:
        for event in self._listener.take():
            lag = {n: s.lag for n, s in self._coordinator.statistics().simulations.items() if s.lag}
            event.data["lag"] = dict(sorted(lag.items(), key=lambda item: -item[1])[:32])
            self._coordinator.tell(event)

    def _watch(self) -> None:
        self._tell_progress()
        if self._query.isActive:
            return
        error = self._query.exception()
        if error is None:
            raise EngineError("Spark ended the job's query, and did not say why.")
        # Spark gives a Python that plans ten seconds to start, and asks once.
        if _LATE not in str(error) or self._begun_again >= _AGAIN:
            raise find_error(str(error), "Spark")
        self._begun_again += 1
        self._coordinator.tell(
            Event(
                "engine_restarted",
                "A Python process of Spark did not start within the time that Spark allows; the "
                f"query begins again from its checkpoint ({self._begun_again} of {_AGAIN} times).",
                level="warning",
                data={"restarts": self._begun_again},
            )
        )
        self._query = self._begin()

    def _rest(self) -> None:
        """Let the leases at hand end, and take what still came of them."""
        Path(self._run.stop_file).touch()
        deadline = time.monotonic() + self._engine._seconds + 10.0
        while time.monotonic() < deadline and self._query.isActive:
            if not self._query.status["isDataAvailable"]:
                break
            self._hear()
            self._coordinator.pump(wait=0.02, budget=0.1)
        self._hear()
        self._coordinator.pump(wait=0.0, budget=0.25)
        self._tell_progress()

    # --------------------------------------------------------------------- end

    def _fail(self, error: BaseException) -> None:
        if isinstance(error, TransportError):
            return
        with contextlib.suppress(HeadraceError):
            said = str(error) if isinstance(error, HeadraceError) else type(error).__name__
            self._coordinator.fail(said)
        self._engine._statistics = self._coordinator.statistics()

    def _close(self, session: Session) -> None:
        Path(self._run.stop_file).touch()
        # Whatever Spark says now, the reason is known already.
        with contextlib.suppress(Exception):
            if self._query is not None and self._query.isActive:
                self._query.stop()
        with contextlib.suppress(Exception):
            session.spark.streams.removeListener(self._listener)
