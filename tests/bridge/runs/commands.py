"""The command line as a process, and configurations for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

from bridge.runs.directory import RunDirectory
from bridge.runs.recorded import open_run
from bridge.staging.client import StagerClient
from bridge.staging.rendezvous import resolve

LIMIT = 200.0
"""Seconds that a command may take; below the limit of a test, so that its output is shown."""

_started: list[subprocess.Popen[str]] = []

WALKERS = """
[run]
name = "walkers"
seed = 3
max_wall_time = "10 min"
drain = "60 s"

[staging]
durable = {durable}

[simulation]
adapter = "muller_brown"
members = {members}
per_process = {per_process}
every = 10
kT = 15.0
max_steps = {steps}

[pipeline]
name = "explore"
outputs = ["positions"]

[[pipeline.operators]]
name = "restarts"
use = "restart_rare"
input = "positions"
width = 0.2
interval = 5
min_frames = 40

[[pipeline.operators]]
use = "moments"
input = "positions"

[[pipeline.operators]]
name = "target"
use = "stop_at_target"
column = "positions"
lower = 0.5

[control.random]
set = {{ restarts = {{ mode = "random" }} }}

[control.none]
remove = ["restarts", "target"]

[[report.maps]]
name = "visited"
x = "positions[0]"
y = "positions[1]"
restarts = true
colour = "time"
"""


def write_walkers(
    folder: Path,
    *,
    members: int = 4,
    per_process: int = 4,
    steps: int = 2_000_000,
    durable: bool = False,
) -> Path:
    """Write a run.toml of Müller-Brown walkers, hot enough to cross within a second."""
    path = folder / "run.toml"
    text = WALKERS.format(
        members=members, per_process=per_process, steps=steps, durable=str(durable).lower()
    )
    path.write_text(text, encoding="utf-8")
    return path


def start(*arguments: str | Path, folder: Path | None = None) -> subprocess.Popen[str]:
    """Start ``headrace`` with some arguments; a folder is added to where modules are found."""
    environment = dict(os.environ)
    environment.pop("HEADRACE_STAGER", None)
    if folder is not None:
        paths = [str(folder), environment.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    process = subprocess.Popen(
        [sys.executable, "-m", "bridge.cli", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    _started.append(process)
    return process


def end_all() -> None:
    """Kill whatever a test that failed has left running."""
    while _started:
        process = _started.pop()
        if process.poll() is None:
            process.kill()
            process.communicate()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Wait for the end; return exit code, output, and what went to standard error."""
    try:
        output, errors = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        output, errors = process.communicate()
        raise AssertionError(f"The command did not end.\n{output}\n{errors}") from None
    return process.returncode, output, errors


def headrace(*arguments: str | Path, folder: Path | None = None) -> tuple[int, str, str]:
    """Run ``headrace`` to its end."""
    return finish(start(*arguments, folder=folder))


def headrace_json(*arguments: str | Path) -> dict[str, Any]:
    """Run ``headrace --json``, which must do well, and return what it said."""
    code, output, errors = headrace(*arguments, "--json")
    assert code == 0, errors
    value: dict[str, Any] = msgspec.json.decode(output)
    return value


def connect(run: Path) -> StagerClient:
    """Return a client to the stager of a run, waiting for it to begin."""
    return StagerClient(resolve(None, run, timeout=60.0, environment={}), timeout=30.0)


def wait_for_frames(run: Path, wanted: int) -> None:
    """Wait until every stream of a run holds so many frames."""
    with connect(run) as client:
        while True:
            ends = {t.name: t.end for t in client.topics("frames/", schemas=False)}
            if ends and min(ends.values()) >= wanted:
                return
            # Waits for the next frame of the stream that is furthest behind.
            name = min(ends, key=ends.__getitem__) if ends else "frames/walker-0"
            with client.fetch({name: ends.get(name, 0)}, max_frames=1, wait=1.0):
                pass


def read_offsets(run: Path, pipeline: str) -> dict[str, tuple[int, list[int]]]:
    """Return, of a durable run, frames and the offsets of the results of each simulation."""
    from bridge.engines.results import iterate_results

    with open_run(RunDirectory(run)) as client:
        assert client is not None
        out = {}
        for topic in client.topics("frames/", schemas=False):
            name = topic.name.removeprefix("frames/")
            rows = [
                int(offset)
                for batch, _ in iterate_results(client, pipeline, name)
                for offset in batch.offsets
            ]
            out[name] = (topic.end, rows)
        return out
