"""The stager's process: ``python -m bridge.runs.stager RUN_DIR``."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from pathlib import Path

from bridge.config import parse_bytes
from bridge.runs.child import run_child
from bridge.runs.directory import RunDirectory
from bridge.runs.keyfiles import stager_keys
from bridge.runs.plan import Plan
from bridge.staging.rendezvous import publish, withdraw
from bridge.staging.stager import Stager

__all__ = ["main"]

log = logging.getLogger(__name__)


def _run(path: Path, arguments: list[str], stop: threading.Event) -> None:
    directory = RunDirectory(path)
    plan = Plan.read(directory)
    staging = plan.configuration.staging
    keys, allowed = stager_keys(plan.key_folder)
    stager = Stager(
        # Once the port is known it stays: members come back to it after a restart.
        plan.address or staging.address,
        directory=directory.topics if staging.durable else None,
        durable=staging.durable,
        limit=parse_bytes(staging.limit),
        keys=keys,
        allowed=allowed,
    )
    publish(path, stager.address, public_key=keys.public if keys else "")
    log.info("The stager listens at %s.", stager.address)
    try:
        stager.serve(until=stop.is_set)
    finally:
        with contextlib.suppress(OSError):
            withdraw(path, stager.address)
    log.info("The stager has ended: %s.", stager.statistics())


def main() -> int:
    """Run; returns the exit code."""
    return run_child(_run)


if __name__ == "__main__":
    sys.exit(main())
