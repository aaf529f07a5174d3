"""The folder of a run: what lies where in it, and when it may be written into."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any, Literal

from bridge.errors import ConfigError

__all__ = ["RunDirectory", "free_directory", "write_json"]

_MARK = "resolved.json"


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole or not at all: readers never see half of it."""
    beside = path.with_name(path.name + ".part")
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    beside.write_text(text + "\n", encoding="utf-8")
    os.replace(beside, path)


def free_directory(base: Path) -> Path:
    """Return `base`, or where that is taken ``base-2``, ``base-3`` and so on."""
    number, path = 1, base
    while path.exists() and (not path.is_dir() or any(path.iterdir())):
        number += 1
        path = base.with_name(f"{base.name}-{number}")
    return path


class RunDirectory:
    """Names of the files of a run.

    Parameters
    ----------
    path
        The folder; made by `prepare`.

    Attributes
    ----------
    path
        Absolute.
    configuration
        Copy of the run.toml.
    resolved
        The configuration as it was run, with everything that the command line changed.
    report, ledger, events, results
        What is written at the end: figures, decisions and events one JSON object a line, and what
        plots are made of.
    processes
        Process to process id, while the run lasts.
    logs, plots, topics, checkpoint, cluster_checkpoints, ahead, models
        Folders; `topics` is there only if the topics are durable. In `ahead` lies what operators
        wrote ahead, in `models` the registry of what was trained, unless it is elsewhere.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.configuration = self.path / "run.toml"
        self.resolved = self.path / _MARK
        self.report = self.path / "report.json"
        self.ledger = self.path / "ledger.jsonl"
        self.events = self.path / "events.jsonl"
        self.results = self.path / "results.npz"
        self.processes = self.path / "processes.json"
        self.logs = self.path / "logs"
        self.plots = self.path / "plots"
        self.topics = self.path / "topics"
        self.checkpoint = self.path / "checkpoint" / "engine.checkpoint"
        self.cluster_checkpoints = self.path / "checkpoint" / "cluster"
        self.ahead = self.path / "checkpoint" / "ahead"
        self.models = self.path / "models"

    def __repr__(self) -> str:
        return f"<RunDirectory {self.path}>"

    def log(self, process: str) -> Path:
        """Return the log file of a process."""
        return self.logs / f"{process}.log"

    def ready(self, process: str) -> Path:
        """Return the file with which a process beside the engine says that it listens."""
        return self.logs / f"{process}.ready"

    def prepare(self, existing: Literal["refuse", "overwrite", "resume"] = "refuse") -> None:
        """Make the folder, or take up the one that is there.

        Raises
        ------
        ConfigError
            If it is not empty and `existing` does not say what to do; if it is to be overwritten
            and is not the folder of a run; if it is to be resumed and cannot be; if its run goes
            on.
        """
        full = self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir()))
        if existing == "resume":
            if not self.resolved.is_file():
                raise ConfigError(f"{self.path} has no {_MARK}: there is no run to resume in it.")
            if not self.topics.is_dir():
                raise ConfigError(
                    f"The run in {self.path} kept its topics in memory, so they ended with it. "
                    "Only a run with durable = true in [staging] can be resumed."
                )
            self._refuse_running()
        elif full and existing == "refuse":
            raise ConfigError(
                f"{self.path} exists and is not empty. Name another folder with --output, or say "
                "--overwrite to begin anew, or --resume to go on."
            )
        elif full:
            self._clear()
        try:
            for folder in (self.logs, self.checkpoint.parent):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"Cannot make the folder {self.path}: {error.strerror}.") from error

    def read_resolved(self) -> dict[str, Any]:
        """Return what was run.

        Raises
        ------
        ConfigError
            If this is not the folder of a run.
        """
        return self.read_json(self.resolved)

    def read_json(self, path: Path) -> dict[str, Any]:
        """Return one of the run's JSON files.

        Raises
        ------
        ConfigError
            If it is not there or cannot be read.
        """
        try:
            value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ConfigError(self.why_missing(path)) from error
        except OSError as error:
            raise ConfigError(f"Cannot read {path}: {error.strerror}.") from error
        except ValueError as error:
            raise ConfigError(f"{path} is damaged: {error}.") from error
        return value

    def why_missing(self, path: Path) -> str:
        """Return why one of the run's files is not there, in one or two sentences."""
        if self.resolved.is_file() and path != self.resolved:
            return (
                f"The run in {self.path} has no {path.name}: it goes on still, or was ended before "
                "that could be written."
            )
        if not self.path.exists():
            said = "there is no such folder."
        elif not self.path.is_dir():
            said = f"it is a file. A run has a folder, with {_MARK} in it."
        else:
            said = f"it has no {_MARK}, which headrace run writes as it begins."
        return f"{self.path} is not the folder of a run: {said}"

    def _clear(self) -> None:
        """Remove what a run left. Anything that no run writes is a reason to remove nothing."""
        if not self.resolved.is_file():
            raise ConfigError(
                f"{self.path} is not the folder of a run (it has no {_MARK}); it is left as it is. "
                "Name another folder with --output."
            )
        self._refuse_running()
        shutil.rmtree(self.path)

    def _refuse_running(self) -> None:
        """Raise if a process of the run that is here goes on."""
        try:
            numbers = json.loads(self.processes.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return
        for name, number in numbers.items():
            try:
                command = Path(f"/proc/{number}/cmdline").read_bytes()
            except OSError:
                continue
            if os.fsencode(self.path) in command.split(b"\0"):
                raise ConfigError(
                    f"The run in {self.path} still goes on ({name} is process {number}). End it "
                    "first, with Ctrl-C, or name another folder with --output."
                )
