"""A trainer's process: ``python -m bridge.runs.trainer RUN_DIR NAME``."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
from pathlib import Path

from bridge.config import parse_duration
from bridge.runs.child import run_child
from bridge.runs.directory import RunDirectory
from bridge.runs.keyfiles import client_keys
from bridge.runs.plan import Plan
from bridge.runs.team import TeamPlan, run_team
from bridge.runs.training import TrainingRun
from bridge.staging.client import StagerClient

__all__ = ["main"]

log = logging.getLogger(__name__)

PATIENCE = 10.0
"""Seconds that a trainer takes at most to read what is left when the run ends."""


class _Later:
    """Whether somebody was told to stop a while ago."""

    def __init__(self, stop: threading.Event, seconds: float) -> None:
        self._stop, self._seconds = stop, seconds
        self._at = float("inf")

    def __call__(self) -> bool:
        if self._stop.is_set():
            self._at = min(self._at, time.monotonic() + self._seconds)
        return time.monotonic() >= self._at


def _run(path: Path, arguments: list[str], stop: threading.Event) -> None:
    directory, name = RunDirectory(path), arguments[0]
    plan = Plan.read(directory)
    training = plan.training(name, directory)
    os.nice(training.table.nice)
    ready = directory.ready(f"trainer-{name}")
    drain = min(PATIENCE, 0.5 * parse_duration(plan.configuration.run.drain))
    if training.table.workers > 1:
        team = TeamPlan(
            training=training,
            stager=plan.address,
            keys=str(plan.key_folder),
            size=training.table.workers,
            groups=training.table.groups,
        )
        report = run_team(
            team,
            directory.checkpoint.with_name(name),
            stop=_Later(stop, drain),
            on_ready=ready.touch,
        )
        log.info("The team has ended: %s.", report)
        return
    client = StagerClient(
        plan.address, name=f"trainer {name}", keys=client_keys(plan.key_folder), timeout=30.0
    )
    with contextlib.chdir(plan.base), client:
        run = TrainingRun(
            training,
            client,
            checkpoint=directory.checkpoint.with_name(f"{name}.checkpoint"),
            simulations=[s for streams in plan.streams().values() for s in streams],
            on_status=lambda report: ready.touch(),
        )
        log.info("The trainer runs %r.", run.engine.pipeline)
        report = run.run(stop=stop.is_set, drain=drain)
        log.info("The trainer has ended: %s.", report)


def main() -> int:
    """Run; returns the exit code."""
    return run_child(_run)


if __name__ == "__main__":
    sys.exit(main())
