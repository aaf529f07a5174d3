"""The engine: a job on Flink, watched from here until it is over."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import msgspec

from bridge.commands import Event
from bridge.engines.causes import find_error
from bridge.engines.flink.rest import TERMINAL, FlinkRest
from bridge.engines.flink.submission import Submission, find_checkpoint, submit
from bridge.engines.job import Job
from bridge.engines.patience import PatientClient
from bridge.engines.protocol import EngineStatistics, Until
from bridge.engines.statuses import StatusReader
from bridge.errors import EngineError, HeadraceError

__all__ = ["FlinkEngine"]

log = logging.getLogger(__name__)

_TURN = 0.1  # seconds between two looks at the status
_LOOK = 0.5  # seconds between two looks at the cluster
_GONE = 30.0  # seconds without an answer after which a cluster counts as gone
_FATAL = ("OperatorFailed", "PipelineError", "ConfigError", "MissingExtra", "SchemaError")


class FlinkEngine:
    """Runs a job on Flink.

    Parameters
    ----------
    job
        What to run.
    cluster
        Address of a cluster's REST interface, such as ``http://127.0.0.1:8081``; empty for a
        mini-cluster in a JVM that ends with this process.
    checkpoint
        Folder of checkpoints, the same on all workers; the engine goes on from the newest one
        there. Empty for a temporary folder, which is removed when the job has finished.
    parallelism
        Workers that take part.
    on_status
        Called with each status, in the thread that runs the engine.
    settings
        Flink's own settings, under its names.
    savepoint
        Checkpoint or savepoint to go on from, instead of the newest in `checkpoint`; or a folder,
        for the newest one there.
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
        self.job = job
        self.submission: Submission | None = None
        self.savepoint = savepoint
        self._cluster = cluster
        self._checkpoint = checkpoint
        self._parallelism = parallelism
        self._on_status = on_status
        self._settings = dict(settings or {})
        self._halt = threading.Event()
        self._last = EngineStatistics(job.name, engine="flink")
        self._restarts = 0

    def run(self, until: Until = "finished") -> EngineStatistics:
        """Submit the job, wait until it is over, and return what was done.

        Raises
        ------
        OperatorFailed, PipelineError
            If an operator fails.
        EngineError
            If Flink gives the job up, or the cluster goes away.
        ConfigError, MissingExtra
            If something is missing on this machine.
        """
        job = replace(self.job, until=until)
        recovery = self.savepoint
        if not recovery and self._checkpoint:
            recovery = find_checkpoint(self._checkpoint)
        with job.connect(f"engine {job.name}") as client:
            patient = PatientClient(client, job.options.reconnect_timeout, self._halt.is_set)
            statuses = StatusReader(patient, job.name)
            submission = self.submission = submit(
                job,
                cluster=self._cluster,
                parallelism=self._parallelism,
                checkpoint=self._checkpoint,
                savepoint=recovery,
                settings=self._settings,
                cancels=False,
            )
            log.info("Flink runs %s as %s.", submission.name, submission.id)
            try:
                done = self._watch(submission, statuses, patient)
            except BaseException:
                self._cancel(submission)
                raise
            if done.state == "finished" and not self._checkpoint:
                # Nobody goes on from there any more.
                shutil.rmtree(submission.checkpoints, ignore_errors=True)
            return done

    def stop(self) -> None:
        """Ask the job to end soon, with a savepoint to go on from; from any thread."""
        self._halt.set()

    def statistics(self) -> EngineStatistics:
        """Return what was done so far; from any thread."""
        return self._last

    def _watch(
        self, submission: Submission, statuses: StatusReader, client: PatientClient
    ) -> EngineStatistics:
        rest = FlinkRest(submission.rest)
        next_look, answered = 0.0, time.monotonic()
        while True:
            for status in statuses.read(_TURN):
                self._last = status
                if self._on_status is not None:
                    self._on_status(status)
            if self._last.state == "finished":
                # What happened since the last look is told, too; it did no harm.
                with suppress(EngineError, _Over):
                    self._look(rest, submission, client)
                self._cancel(submission)
                return self._last
            now = time.monotonic()
            if self._halt.is_set():
                return self._stop(rest, submission, statuses)
            if now < next_look:
                continue
            next_look = now + _LOOK
            try:
                self._look(rest, submission, client)
                answered = now
            except EngineError as error:
                if now - answered > _GONE:
                    newest = find_checkpoint(submission.checkpoints)
                    hint = f" The job can go on from its checkpoint {newest}." if newest else ""
                    raise EngineError(f"{error}{hint}") from error
            except _Over as over:
                raise over.error from None

    def _look(self, rest: FlinkRest, submission: Submission, client: PatientClient) -> None:
        state = rest.state(submission.id)
        # A restart may be over before anybody looks.
        failures = rest.failures(submission.id)
        trace = failures[0]["stacktrace"] if failures else ""
        error = find_error(trace, "Flink")
        if state in TERMINAL:
            if state == "CANCELED":
                error = EngineError(f"The job {submission.id} was cancelled by somebody else.")
            raise _Over(error)
        if len(failures) > self._restarts:
            self._restarts = len(failures)
            log.warning("Flink restarts the job: %s", error)
            event = Event(
                "engine_restarted",
                f"Flink restarts the job: {error}",
                source=self.job.name,
                level="warning",
                stamp=time.time(),
            )
            client.append("events", [msgspec.msgpack.encode(event)])
        if "ModuleNotFoundError" in str(error):
            raise _Over(
                EngineError(
                    f"{error} The workers have no such module: install it in their environment, "
                    "or ship it (headrace submit --python-files)."
                )
            )
        if failures and type(error).__name__ in _FATAL:
            # It would fail again at the same frames.
            raise _Over(error)

    def _stop(
        self, rest: FlinkRest, submission: Submission, statuses: StatusReader
    ) -> EngineStatistics:
        try:
            self.savepoint = rest.stop(submission.id, f"{submission.checkpoints}/savepoints")
            log.info("The job has stopped; it can go on from %s.", self.savepoint)
        except EngineError as error:
            log.warning("The job is cancelled without a savepoint: %s", error)
            self._cancel(submission)
        for status in statuses.read(0.01):
            self._last = status
        self._last = msgspec.structs.replace(self._last, state="stopped")
        return self._last

    def _cancel(self, submission: Submission) -> None:
        rest = FlinkRest(submission.rest)
        try:
            if rest.state(submission.id) not in TERMINAL:
                rest.cancel(submission.id)
            rest.wait(submission.id, timeout=30.0)
        except HeadraceError as error:
            if self._cluster:
                log.warning("The job %s could not be cancelled: %s", submission.id, error)
            # A mini-cluster ends with its job, and answers no more.


class _Over(Exception):
    """The job has come to an end that nobody wanted."""

    def __init__(self, error: HeadraceError) -> None:
        super().__init__(str(error))
        self.error = error
