"""A process that answers simulations: ``python -m bridge.runs.service RUN_DIR NAME``."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from pathlib import Path

from bridge.config import build, find_entry_point
from bridge.runs.child import run_child
from bridge.runs.directory import RunDirectory
from bridge.runs.keyfiles import client_keys
from bridge.runs.plan import Plan
from bridge.staging.inference import InferenceService
from bridge.staging.spread import connect
from bridge.surrogate import SURROGATES

__all__ = ["main"]

log = logging.getLogger(__name__)


def _run(path: Path, arguments: list[str], stop: threading.Event) -> None:
    directory, name = RunDirectory(path), arguments[0]
    plan = Plan.read(directory)
    table = plan.configuration.service[name]
    where = f"{plan.source}, [service.{name}]"
    options = {"registry": str(directory.path / "models"), **table.options}
    if plan.base not in sys.path:
        sys.path.append(plan.base)
    with contextlib.chdir(plan.base):
        factory = find_entry_point(SURROGATES, table.use, where)
        surrogate = build(factory, {"name": table.model or name, **options}, where)
        keys = client_keys(plan.key_folder)
        with connect(plan.address, name=f"service {name}", keys=keys, timeout=30.0) as client:
            service = InferenceService(client, name, surrogate, max_rows=table.max_rows)
            log.info("The service %r answers.", name)
            directory.ready(f"service-{name}").touch()
            done = service.run(stop.is_set)
            log.info("The service %r has ended: %s.", name, done)


def main() -> int:
    """Run; returns the exit code."""
    return run_child(_run)


if __name__ == "__main__":
    sys.exit(main())
