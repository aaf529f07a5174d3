"""What is remembered of submitted jobs: one file each, in a folder of the user's."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import msgspec

from bridge.errors import ConfigError
from bridge.staging.files import replace_file

__all__ = ["JobRecord", "JobStore", "is_running", "started_at"]


def started_at(pid: int) -> str:
    """Return when a process of this machine started, in the kernel's ticks; empty if it is gone.

    A number alone does not tell a process from a later one that was given the same number.
    """
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]


def is_running(pid: int, started: str) -> bool:
    """Tell whether a process that was noted still runs."""
    return pid > 0 and bool(started) and started_at(pid) == started


class JobRecord(msgspec.Struct, kw_only=True, forbid_unknown_fields=False):
    """A job that was submitted.

    Attributes
    ----------
    id
        By which it is called here.
    pipeline
        Name of the pipeline.
    engine
        ``flink`` or ``spark``.
    stagers
        Addresses of the stagers.
    cluster
        Address of the cluster; empty for one that ends with the job.
    checkpoint
        Folder of checkpoints.
    flink, rest
        Flink's id of the job, and the address of the cluster's REST interface, where Flink itself
        looks after the job.
    pid, started
        The process that looks after it, where that is one of ours, and when it started.
    log
        Its log file.
    keys
        Folder of key files; empty without.
    submitted
        Unix time in seconds.
    savepoint
        Where it was stopped.
    """

    id: str
    pipeline: str
    engine: Literal["flink", "spark"]
    stagers: str
    cluster: str = ""
    checkpoint: str = ""
    flink: str = ""
    rest: str = ""
    pid: int = 0
    started: str = ""
    log: str = ""
    keys: str = ""
    submitted: float = 0.0
    savepoint: str = ""


class JobStore:
    """The folder of records: ``HEADRACE_STATE``, or ``headrace`` in the user's state folder.

    Parameters
    ----------
    folder
        Instead of that.
    """

    def __init__(self, folder: Path | None = None) -> None:
        base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
        given = os.environ.get("HEADRACE_STATE")
        self.folder = folder or (Path(given) if given else Path(base) / "headrace")

    def _path(self, job: str) -> Path:
        return self.folder / "jobs" / f"{job}.json"

    def log(self, job: str) -> Path:
        """Return where the log of a job's process goes."""
        path = self.folder / "logs" / f"{job}.log"
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return path

    def write(self, record: JobRecord) -> None:
        """Write a record, in one piece.

        Raises
        ------
        ConfigError
            If the folder cannot be written to.
        """
        path = self._path(record.id)
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            replace_file(path, msgspec.json.format(msgspec.json.encode(record)) + b"\n")
        except OSError as error:
            raise ConfigError(
                f"Cannot write {path}: {error.strerror}. Name another folder in HEADRACE_STATE."
            ) from error

    def all(self) -> list[JobRecord]:
        """Return all records, the newest first; files that cannot be read are passed over."""
        out = []
        for path in (self.folder / "jobs").glob("*.json"):
            try:
                out.append(msgspec.json.decode(path.read_bytes(), type=JobRecord))
            except (OSError, msgspec.MsgspecError):
                continue
        return sorted(out, key=lambda record: record.submitted, reverse=True)

    def find(self, job: str) -> JobRecord:
        """Return the record of an id, or of the beginning of one; or the newest of a pipeline.

        Raises
        ------
        ConfigError
            If there is none, or more than one id begins so.
        """
        records = self.all()
        found = [r for r in records if r.id.startswith(job)]
        found = found or [r for r in records if r.flink and r.flink.startswith(job)]
        found = found or [r for r in records if r.pipeline == job][:1]
        if len(found) == 1:
            return found[0]
        if found:
            raise ConfigError(f"{len(found)} jobs begin with {job!r}; write more of the id.")
        known = ", ".join(f"{r.id} ({r.pipeline})" for r in records[:8]) or "none"
        raise ConfigError(f"There is no job {job!r}; known are: {known}.")

    def forget(self, record: JobRecord) -> None:
        """Remove a record."""
        self._path(record.id).unlink(missing_ok=True)
