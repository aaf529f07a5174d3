"""A member's process: ``python -m bridge.runs.member RUN_DIR NAME``."""

from __future__ import annotations

import logging
import os
import sys
import threading
from pathlib import Path

from bridge.runs.child import run_child
from bridge.runs.directory import RunDirectory
from bridge.runs.keyfiles import client_keys
from bridge.runs.plan import Plan
from bridge.staging.connection import Connection

__all__ = ["main"]

log = logging.getLogger(__name__)


def _run(path: Path, arguments: list[str], stop: threading.Event) -> None:
    name, again = arguments[0], "--again" in arguments
    plan = Plan.read(RunDirectory(path))
    connection = Connection(
        address=plan.address,
        keys=client_keys(plan.key_folder),
        key_folder=str(plan.key_folder),
        timeout=30.0,
        options=plan.options,
    )
    os.nice(plan.configuration.run.nice)
    log.info("Member %s begins, with stager %s.", name, plan.address)
    plan.adapter().run(
        name, connection, seed=plan.configuration.run.seed, resume=again or plan.resume
    )
    log.info("Member %s has ended.", name)


def main() -> int:
    """Run; returns the exit code."""
    return run_child(_run)


if __name__ == "__main__":
    sys.exit(main())
