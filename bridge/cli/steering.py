"""What the verbs share by which people steer: who speaks, to which run, and what became of it."""

from __future__ import annotations

import argparse
import contextlib
import getpass
import json
import socket
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from bridge.errors import ConfigError, NobodyListening, TransportError
from bridge.runs.directory import RunDirectory
from bridge.runs.keyfiles import client_keys
from bridge.runs.plan import Plan
from bridge.runs.records import load_ledger
from bridge.staging.client_like import ClientLike
from bridge.staging.rendezvous import find
from bridge.staging.spread import connect
from bridge.steering import Desk, LedgerLine, LedgerReader

__all__ = [
    "add_author_arguments",
    "add_run_arguments",
    "find_lines",
    "open_client",
    "open_desk",
    "report",
]


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare which run is meant."""
    parser.add_argument("run", metavar="RUN_DIR|ADDRESS", help="folder of a run, or its stager")
    parser.add_argument("--keys", default="", help="folder of keys, for an ADDRESS with keys")


def add_author_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare who speaks, why, and how long the answer is waited for."""
    parser.add_argument("--by", default="", metavar="NAME", help="who says so (default: the user)")
    parser.add_argument("--reason", default="", help="why, for the ledger")
    parser.add_argument("--key", default="", help="the same key again has no second effect")
    parser.add_argument(
        "--wait", type=float, default=5.0, metavar="SECONDS",
        help="time limit for the simulation's answer (%(default)g; 0: do not wait)",
    )  # fmt: skip


def who(arguments: argparse.Namespace) -> str:
    """Return who speaks."""
    if arguments.by:
        return str(arguments.by)
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (KeyError, OSError):
        return socket.gethostname()


def open_client(arguments: argparse.Namespace, name: str) -> ClientLike:
    """Connect to the stager of a run.

    Raises
    ------
    ConfigError
        If there is no such run.
    NobodyListening
        If it does not run.
    """
    if "://" in arguments.run:
        return connect(arguments.run, name=name, keys=client_keys(arguments.keys))
    directory = RunDirectory(Path(arguments.run))
    if not directory.path.is_dir():
        raise ConfigError(f"{directory.path} is not the folder of a run: there is no such folder.")
    folder = arguments.keys
    if not folder and directory.resolved.is_file():
        folder = Plan.read(directory).key_folder
    try:
        address = find(None, directory.path, timeout=0.0, environment={}).address
    except NobodyListening as error:
        if directory.report.is_file():
            raise NobodyListening(
                f"The run in {directory.path} is over: nobody listens any more. headrace inspect "
                f"shows what was decided, and headrace dashboard the run."
            ) from error
        raise
    return connect(address, name=name, keys=client_keys(folder))


@contextlib.contextmanager
def open_desk(arguments: argparse.Namespace) -> Iterator[Desk]:
    """Give the desk of a run; its rules are those of the run."""
    rules = None
    if "://" not in arguments.run:
        directory = RunDirectory(Path(arguments.run))
        if directory.resolved.is_file():
            rules = Plan.read(directory).rules
    with contextlib.closing(Desk(lambda: open_client(arguments, "desk"), rules)) as desk:
        yield desk


def find_lines(
    arguments: argparse.Namespace, commands: Collection[str], wait: float
) -> dict[str, LedgerLine]:
    """Return the ledger's lines of commands, waiting for the answers for so many seconds."""
    wanted = set(commands)
    with contextlib.closing(open_client(arguments, "ledger")) as client:
        reader = LedgerReader(client)
        deadline = time.monotonic() + wait
        while True:
            lines = {line.id: line for line in reader.update() if line.id in wanted}
            open_ones = [n for n in wanted if n not in lines or lines[n].outcome is None]
            if not open_ones or time.monotonic() >= deadline:
                return lines
            time.sleep(0.05)


def report(arguments: argparse.Namespace, told: Sequence[Mapping[str, Any]]) -> int:
    """Tell what became of commands that were sent; returns the exit code."""
    sent = [one["id"] for one in told if one["verdict"] == "sent"]
    lines: dict[str, LedgerLine] = {}
    if sent:
        try:
            lines = find_lines(arguments, sent, arguments.wait)
        except TransportError:
            # Such as after a stop, which ends the run; what was sent is told all the same.
            lines = _find_recorded(arguments)
    shown = [{**one, **_outcome(lines.get(one["id"]))} for one in told]
    if arguments.json:
        print(json.dumps(shown))
    else:
        console = Console(highlight=False, soft_wrap=True)
        for one in shown:
            console.print(_sentence(one))
    return 0 if all(_is_good(one) for one in shown) else 1


def _find_recorded(arguments: argparse.Namespace) -> dict[str, LedgerLine]:
    """Return the lines of the ledger that a run left behind."""
    path = RunDirectory(Path(arguments.run)).ledger
    if "://" in arguments.run or not path.is_file():
        return {}
    return {line.id: line for line in load_ledger(path)}


def _outcome(line: LedgerLine | None) -> dict[str, Any]:
    if line is None:
        return {"outcome": None, "step": None, "outcome_reason": ""}
    return {"outcome": line.outcome, "step": line.step, "outcome_reason": line.outcome_reason}


def _is_good(one: Mapping[str, Any]) -> bool:
    wanted = one.get("wanted", "sent")
    if one.get("problem"):
        return False
    return one["verdict"] in (wanted, "dry_run") and one["outcome"] in (None, "applied")


def _sentence(one: Mapping[str, Any]) -> str:
    became = str(one["verdict"] or one.get("state") or "left alone").replace("_", " ")
    if one["outcome"]:
        became = f"{one['outcome']} at step {one['step']}"
    elif one["verdict"] == "sent":
        became = "sent, no answer yet"
    good = "green" if one["outcome"] == "applied" else "yellow"
    reasons = " ".join(filter(None, (one.get("reason", ""), one["outcome_reason"])))
    return f"{escape(one['id'])}  [{good}]{escape(became)}[/]  {escape(reasons)}".rstrip()
