"""The engine's process: ``python -m bridge.runs.engine RUN_DIR``."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from bridge.commands import Capability
from bridge.engines.local import LocalEngine
from bridge.errors import HeadraceError
from bridge.runs.child import run_child
from bridge.runs.directory import RunDirectory
from bridge.runs.keyfiles import client_keys
from bridge.runs.plan import Plan
from bridge.staging.client import StagerClient
from bridge.steering import CapabilityBook, Guard

__all__ = ["main"]

log = logging.getLogger(__name__)

FRAMES = "frames/"
PATIENCE = 10.0
"""Seconds without progress after which what is left unread is given up."""


def _run(path: Path, arguments: list[str], stop: threading.Event) -> None:
    directory = RunDirectory(path)
    plan = Plan.read(directory)
    keys = client_keys(plan.key_folder)

    def connect(name: str) -> StagerClient:
        return StagerClient(plan.address, name=name, keys=keys, timeout=30.0)

    with contextlib.chdir(plan.base), connect("engine") as client, connect("guard") as second:
        engine = LocalEngine(
            plan.pipeline(),
            client,
            guard=Guard(CapabilityBook(lambda: _ask(second)), plan.rules),
            checkpoint=directory.checkpoint,
            simulations=[s for streams in plan.streams().values() for s in streams],
            options=plan.engine,
        )
        over = threading.Event()
        watch = threading.Thread(
            target=_stop_when_read,
            args=(engine, stop, over, lambda: connect("engine-end")),
            name="stop-engine",
            daemon=True,
        )
        watch.start()
        log.info("The engine runs %r.", engine.pipeline)
        try:
            statistics = engine.run("finished")
        finally:
            over.set()
        log.info("The engine has ended after %d frames: %s.", statistics.frames, statistics)


def _ask(client: StagerClient) -> dict[str, Sequence[Capability]]:
    """Return what every simulation declares."""
    return {
        topic.name.removeprefix(FRAMES): topic.capabilities
        for topic in client.topics(FRAMES, schemas=True)
    }


def _stop_when_read(
    engine: LocalEngine,
    stop: threading.Event,
    over: threading.Event,
    connect: Callable[[], StagerClient],
) -> None:
    """Once told to stop: stop the engine when it has read everything, or gets no further."""
    stop.wait()
    try:
        with connect() as client:
            ends = {t.name.removeprefix(FRAMES): t.end for t in client.topics(FRAMES)}
        read, waited = -1, 0.0
        while not over.wait(0.05) and waited < PATIENCE:
            progress = engine.statistics().simulations
            left = sum(
                max(0, end - (progress[name].position if name in progress else 0))
                for name, end in ends.items()
            )
            if not left:
                break
            waited = 0.0 if left != read else waited + 0.05
            read = left
        else:
            if not over.is_set():
                log.warning("%d frames are left unread: the engine gets no further.", read)
    except HeadraceError as error:
        log.warning("What is left to read cannot be known: %s", error)
    engine.stop()


def main() -> int:
    """Run; returns the exit code."""
    return run_child(_run)


if __name__ == "__main__":
    sys.exit(main())
