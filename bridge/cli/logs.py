"""``headrace logs``: what a job wrote into its logs."""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

from bridge.errors import EngineError
from bridge.jobs.records import JobRecord, JobStore, is_running

__all__ = ["add_arguments", "execute"]

_FRAME = re.compile(r"^\s+at [\w.$/]+\(|^\s*\.\.\. \d+ more")
_REST = 0.2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("job", help="id, or name of the pipeline")
    parser.add_argument("--follow", action="store_true", help="go on while the job runs")
    parser.add_argument("--lines", type=int, default=200, metavar="N", help="(%(default)s)")
    parser.add_argument("--verbose", action="store_true", help="stack traces of the JVM, too")


def execute(arguments: argparse.Namespace) -> int:
    """Show them."""
    record = JobStore().find(arguments.job)
    if record.flink:
        texts = _ask_flink(record)
    else:
        texts = {record.log: Path(record.log).read_text(encoding="utf-8", errors="replace")}
    shown = {
        name: [line for line in text.splitlines() if arguments.verbose or not _FRAME.match(line)]
        for name, text in texts.items()
    }
    if arguments.json:
        print(json.dumps({name: lines[-arguments.lines :] for name, lines in shown.items()}))
        return 0
    for name, lines in shown.items():
        if len(shown) > 1:
            print(f"== {name}")
        for line in lines[-arguments.lines :]:
            print(line)
    if arguments.follow and not record.flink:
        for line in _follow(record):
            if arguments.verbose or not _FRAME.match(line):
                print(line, flush=True)
    return 0


def _ask_flink(record: JobRecord) -> dict[str, str]:
    from bridge.engines.flink.rest import FlinkRest

    rest = FlinkRest(record.rest)
    out = {}
    cause = rest.cause(record.flink)
    if cause:
        out["why it failed last"] = cause
    places = {"job manager": "/jobmanager"}
    for manager in rest.task_managers():
        places[f"task manager {manager['id']}"] = f"/taskmanagers/{manager['id']}"
    for name, path in places.items():
        try:
            out[name] = rest.text(f"{path}/log") or rest.text(f"{path}/stdout")
        except EngineError as error:
            out[name] = f"{error} Look into the folder of the cluster's logs."
    return out


def _follow(record: JobRecord) -> Iterator[str]:
    with Path(record.log).open(encoding="utf-8", errors="replace") as file:
        file.seek(0, 2)
        while True:
            line = file.readline()
            if line:
                yield line.rstrip("\n")
            elif is_running(record.pid, record.started):
                time.sleep(_REST)
            else:
                return
