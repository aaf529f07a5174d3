"""``headrace cluster``: a cluster of Flink or Spark on this machine."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec

from bridge.errors import EngineError
from bridge.jobs.clusters import FILE, ClusterFile, LocalCluster, read_cluster
from bridge.jobs.records import JobStore, is_running

__all__ = ["add_arguments", "execute"]

_REST = 0.5
_PATIENCE = 90.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.description = (
        "Start, look at or end a cluster made of the processes that Flink or Spark have on real "
        "clusters, on loopback addresses of this machine. A worker that ends is started again."
    )
    parser.add_argument("action", choices=("up", "down", "status"))
    parser.add_argument("--engine", choices=("flink", "spark"), default="flink")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="(%(default)s)")
    parser.add_argument("--slots", type=int, default=2, metavar="N", help="of each (%(default)s)")
    parser.add_argument("--port", type=int, default=0, help="where it listens (default: any)")
    parser.add_argument(
        "--directory", type=Path, help="for its files (default: in the state folder)"
    )
    parser.add_argument("--detach", action="store_true", help="go on in the background")


def execute(arguments: argparse.Namespace) -> int:
    """Do it."""
    directory: Path = arguments.directory or JobStore().folder / f"cluster-{arguments.engine}"
    if arguments.action == "status":
        return _status(directory, as_json=arguments.json)
    if arguments.action == "down":
        return _down(directory, as_json=arguments.json)
    if arguments.detach:
        return _detach(arguments, directory)
    return _up(arguments, directory)


def _up(arguments: argparse.Namespace, directory: Path) -> int:
    cluster = LocalCluster(
        arguments.engine,
        workers=arguments.workers,
        slots=arguments.slots,
        directory=directory,
        port=arguments.port,
    )
    told = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: told.set())
    with cluster:
        _tell(read_cluster(directory), as_json=arguments.json)
        while not told.wait(_REST):
            for role in cluster.look_after():
                print(f"The {role} ended, and was started again.", file=sys.stderr, flush=True)
    print("The cluster has ended.", file=sys.stderr)
    return 0


def _tell(found: ClusterFile, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(msgspec.to_builtins(found)), flush=True)
        return
    workers = sum(member.role.startswith("worker") for member in found.members)
    print(f"A cluster of {found.engine} with {workers} workers listens at {found.address}.")
    print(f"Its page is {found.page}.", flush=True)


def _detach(arguments: argparse.Namespace, directory: Path) -> int:
    directory.mkdir(parents=True, exist_ok=True)
    before = (directory / FILE).stat().st_mtime_ns if (directory / FILE).exists() else 0
    command = [
        sys.executable, "-m", "bridge.cli", "cluster", "up", "--engine", arguments.engine,
        "--workers", str(arguments.workers), "--slots", str(arguments.slots),
        "--port", str(arguments.port), "--directory", str(directory),
    ]  # fmt: skip
    log = directory / "cluster.log"
    with log.open("ab") as file:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        if child.poll() is not None:
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines() or [""]
            raise EngineError(lines[-1].removeprefix("headrace: ") or f"See {log}.")
        if (directory / FILE).exists() and (directory / FILE).stat().st_mtime_ns > before:
            _tell(read_cluster(directory), as_json=arguments.json)
            return 0
        time.sleep(0.1)
    child.terminate()
    raise EngineError(f"Waited {_PATIENCE:.0f} s for the cluster; see {log}.")


def _status(directory: Path, *, as_json: bool) -> int:
    found = read_cluster(directory)
    alive = [m for m in found.members if is_running(m.pid, m.started)]
    if as_json:
        plain = msgspec.to_builtins(found)
        print(json.dumps({**plain, "alive": [m.role for m in alive]}))
    else:
        _tell(found, as_json=False)
        for member in found.members:
            state = "runs" if member in alive else "has ended"
            print(f"  {member.role:12} process {member.pid} {state}")
    return 0 if len(alive) == len(found.members) else 1


def _down(directory: Path, *, as_json: bool) -> int:
    found = read_cluster(directory)
    me = found.supervisor
    ended = []
    if is_running(me.pid, me.started):
        os.kill(me.pid, signal.SIGTERM)
        _wait_for([me.pid], [me.started])
        ended.append("supervisor")
    for member in found.members:
        # Whoever is left, because the supervisor was killed.
        if is_running(member.pid, member.started):
            os.kill(member.pid, signal.SIGTERM)
            _wait_for([member.pid], [member.started])
            ended.append(member.role)
    (directory / FILE).unlink(missing_ok=True)
    print(json.dumps({"ended": ended}) if as_json else f"The cluster of {found.engine} has ended.")
    return 0


def _wait_for(pids: list[int], started: list[str], timeout: float = 25.0) -> None:
    deadline = time.monotonic() + timeout
    for pid, start in zip(pids, started, strict=True):
        while is_running(pid, start):
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
                deadline += 5.0
            time.sleep(0.05)
