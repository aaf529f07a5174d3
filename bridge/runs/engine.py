"""The engine's process: ``python -m bridge.runs.engine RUN_DIR``."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from bridge.engines import load_engine
from bridge.engines.job import Job
from bridge.engines.local import LocalEngine
from bridge.engines.protocol import Engine
from bridge.errors import HeadraceError
from bridge.runs.child import run_child
from bridge.runs.directory import RunDirectory
from bridge.runs.keyfiles import client_keys
from bridge.runs.plan import Plan
from bridge.staging.client import StagerClient
from bridge.steering import GuardMaker

__all__ = ["main"]

log = logging.getLogger(__name__)

PATIENCE = 10.0
"""Seconds without progress after which what is left unread is given up."""


def _run(path: Path, arguments: list[str], stop: threading.Event) -> None:
    directory = RunDirectory(path)
    plan = Plan.read(directory)
    with contextlib.chdir(plan.base), _make_engine(plan, directory) as engine:
        over = threading.Event()
        watch = threading.Thread(
            target=_stop_when_read,
            args=(engine, stop, over, lambda: _connect(plan, "engine-end")),
            name="stop-engine",
            daemon=True,
        )
        watch.start()
        log.info("The engine runs %r.", plan.pipeline())
        try:
            statistics = engine.run("finished")
        finally:
            over.set()
        log.info("The engine has ended after %d frames: %s.", statistics.frames, statistics)


def _connect(plan: Plan, name: str) -> StagerClient:
    return StagerClient(plan.address, name=name, keys=client_keys(plan.key_folder), timeout=30.0)


@contextlib.contextmanager
def _make_engine(plan: Plan, directory: RunDirectory) -> Iterator[Engine]:
    table = plan.engine
    expected = [s for streams in plan.streams().values() for s in streams]
    # The run itself carries out what people say.
    guard = GuardMaker(plan.rules, kept=True)
    if table.kind == "local":
        with _connect(plan, "engine") as client, _connect(plan, "guard") as second:
            yield LocalEngine(
                plan.pipeline(directory),
                client,
                guard=guard(lambda name: second),
                checkpoint=directory.checkpoint,
                simulations=expected,
                options=table,
            )
        return
    keys = partial(client_keys, plan.key_folder) if plan.key_folder else None
    job = Job(
        plan.pipeline(directory),
        plan.address,
        options=table,
        guard=guard,
        keys=keys,
        expected=tuple(expected),
    )
    yield load_engine(table.kind)(
        job,
        cluster=table.cluster,
        checkpoint=directory.cluster_checkpoints,
        parallelism=table.parallelism,
        settings=table.settings,
    )


def _stop_when_read(
    engine: Engine,
    stop: threading.Event,
    over: threading.Event,
    connect: Callable[[], StagerClient],
) -> None:
    """Once told to stop: stop the engine when it has read everything, or gets no further."""
    stop.wait()
    try:
        with connect() as client:
            ends = {t.name.removeprefix("frames/"): t.end for t in client.topics("frames/")}
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
