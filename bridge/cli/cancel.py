"""``headrace cancel``: end a job, with a savepoint to go on from."""

from __future__ import annotations

import argparse
import json
import os
import signal
import time

from bridge.errors import EngineError
from bridge.jobs.records import JobRecord, JobStore, is_running

__all__ = ["add_arguments", "execute"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("job", help="id, or name of the pipeline")
    parser.add_argument(
        "--savepoint",
        nargs="?",
        const="",
        metavar="DIR",
        help="save first, so that another job can go on from there",
    )
    parser.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS")


def execute(arguments: argparse.Namespace) -> int:
    """End it."""
    store = JobStore()
    record = store.find(arguments.job)
    if record.flink:
        savepoint = _end_flink(record, arguments)
    else:
        savepoint = _end_driver(store, record, arguments.timeout)
    record = store.find(record.id)
    if savepoint:
        record.savepoint = savepoint
        store.write(record)
    if arguments.json:
        print(json.dumps({"id": record.id, "savepoint": savepoint}))
    elif savepoint:
        print(f"Job {record.id} has ended. To go on from here: --savepoint {savepoint}")
    else:
        print(f"Job {record.id} has ended.")
    return 0


def _end_flink(record: JobRecord, arguments: argparse.Namespace) -> str:
    from bridge.engines.flink.rest import TERMINAL, FlinkRest

    rest = FlinkRest(record.rest)
    if rest.state(record.flink) in TERMINAL:
        raise EngineError(f"Job {record.id} is {rest.state(record.flink).lower()} already.")
    if arguments.savepoint is not None:
        folder = arguments.savepoint or f"{record.checkpoint}/savepoints"
        return rest.stop(record.flink, folder, timeout=arguments.timeout)
    rest.cancel(record.flink)
    rest.wait(record.flink, timeout=arguments.timeout)
    return ""


def _end_driver(store: JobStore, record: JobRecord, timeout: float) -> str:
    if not is_running(record.pid, record.started):
        raise EngineError(f"Job {record.id} does not run any more; see headrace jobs {record.id}.")
    os.kill(record.pid, signal.SIGTERM)
    deadline = time.monotonic() + timeout
    while is_running(record.pid, record.started):
        if time.monotonic() > deadline:
            raise EngineError(
                f"Waited {timeout:.0f} s for the process {record.pid} of job {record.id} to end; "
                f"it is still busy. Its log is {record.log}."
            )
        time.sleep(0.1)
    # Flink's is a savepoint; for Spark, the folder of checkpoints is all that is needed.
    return store.find(record.id).savepoint or record.checkpoint
