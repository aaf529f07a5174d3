"""``headrace inspect``: who decided what, on which frames, and what became of it."""

from __future__ import annotations

import argparse
import contextlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from bridge.errors import ConfigError
from bridge.runs.directory import RunDirectory
from bridge.runs.keyfiles import client_keys
from bridge.runs.recorded import open_run
from bridge.runs.records import load_ledger
from bridge.staging.client import StagerClient
from bridge.staging.messages import TopicStatus
from bridge.steering import LedgerLine, read_ledger, state_of

__all__ = ["add_arguments", "execute"]

NARROW = 120
"""Columns below which reasons stand below their lines, instead of beside them."""

_STYLES = {"applied": "green", "refused": "red", "expired": "yellow"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.description = (
        "Show the ledger of a run and the state of its topics, while it runs and afterwards."
    )
    parser.add_argument("run", metavar="RUN_DIR|ADDRESS", help="folder of a run, or its stager")
    parser.add_argument("--keys", default="", help="folder of keys, for an ADDRESS with keys")
    parser.add_argument("--simulation", help="only what concerns this simulation")
    parser.add_argument("--kind", help="only commands of this kind")
    parser.add_argument("--last", type=int, default=20, help="lines to show (%(default)s; 0: all)")
    parser.add_argument("--topics", action="store_true", help="show the topics alone")
    parser.add_argument("--why", action="store_true", help="show the evidence of each decision")


def execute(arguments: argparse.Namespace) -> int:
    """Read and show."""
    ledger, topics = _read(arguments)
    chosen = [
        line
        for line in ledger
        if arguments.simulation in (None, line.simulation) and arguments.kind in (None, line.kind)
    ]
    if arguments.json:
        print(json.dumps(_as_data([] if arguments.topics else chosen, topics)))
        return 0
    console = Console()
    if topics is not None:
        console.print(_topics_table(topics))
    elif arguments.topics:
        console.print("The run has ended and kept its topics in memory; they ended with it.")
    if not arguments.topics:
        shown = chosen[-arguments.last :] if arguments.last > 0 else chosen
        if console.width < NARROW:
            _print_ledger(console, shown, why=arguments.why, over=topics is None)
        else:
            console.print(_ledger_table(shown, why=arguments.why, over=topics is None))
        console.print(f"{len(shown)} of {len(ledger)} decisions", style="dim")
    return 0


def _read(arguments: argparse.Namespace) -> tuple[list[LedgerLine], list[TopicStatus] | None]:
    if "://" in arguments.run:
        keys = client_keys(arguments.keys)
        with contextlib.closing(StagerClient(arguments.run, name="inspect", keys=keys)) as client:
            return read_ledger(client).lines(), client.topics(schemas=False)
    directory = RunDirectory(Path(arguments.run))
    with open_run(directory) as client:
        if client is not None:
            return read_ledger(client).lines(), client.topics(schemas=False)
    if not directory.ledger.is_file():
        raise ConfigError(
            f"{directory.path} has neither a running stager nor a ledger: the run has not begun, "
            "or it was killed and its topics were in memory."
        )
    return load_ledger(directory.ledger), None


def _as_data(ledger: Sequence[LedgerLine], topics: Sequence[TopicStatus] | None) -> dict[str, Any]:
    shown: list[dict[str, Any]] | None = None
    if topics is not None:
        shown = [
            {**_facts(t), "lag": _lag(t)} for t in sorted(topics, key=lambda topic: topic.name)
        ]
    return {"decisions": [_all_fields(line) for line in ledger], "topics": shown}


def _facts(topic: TopicStatus) -> dict[str, Any]:
    hidden = ("schema", "capabilities", "options")
    return {k: v for k, v in _all_fields(topic).items() if k not in hidden}


def _all_fields(value: msgspec.Struct) -> dict[str, Any]:
    """Return plain data with every field, also those at their defaults: machines look for them."""
    return {name: msgspec.to_builtins(getattr(value, name)) for name in value.__struct_fields__}


def _lag(topic: TopicStatus) -> int | None:
    """Return how many items the slowest group has not committed; None without a group."""
    if not topic.groups:
        return None
    return max(0, topic.end - min(topic.groups.values()))


def _topics_table(topics: Sequence[TopicStatus]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("topic")
    for heading in ("from", "to", "lag", "dropped", "bytes"):
        table.add_column(heading, justify="right")
    table.add_column("state")
    for t in sorted(topics, key=lambda topic: topic.name):
        lag = _lag(t)
        state = ""
        if t.kind == "frames":
            state = "finished" if t.finished else "open" if t.connected else "away"
        table.add_row(
            escape(t.name),
            str(t.low),
            str(t.end),
            "" if lag is None else str(lag),
            str(t.dropped or ""),
            f"{t.bytes / 1e6:.2f} MB",
            state,
        )
    return table


def _ledger_table(lines: Sequence[LedgerLine], *, why: bool, over: bool) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("when", no_wrap=True)
    table.add_column("for", no_wrap=True)
    table.add_column("command")
    table.add_column("by")
    table.add_column("became", no_wrap=True)
    table.add_column("reason", ratio=1)
    for line in lines:
        became, style = _became(line, over=over)
        table.add_row(
            _moment(line),
            escape(line.simulation),
            escape(line.what or line.kind),
            escape(line.author),
            f"[{style}]{escape(became)}[/]" if style else escape(became),
            escape(_reason(line, why=why)),
        )
    return table


def _print_ledger(console: Console, lines: Sequence[LedgerLine], *, why: bool, over: bool) -> None:
    for line in lines:
        became, style = _became(line, over=over)
        head = (_moment(line), line.simulation, line.what or line.kind, f"by {line.author}")
        console.print(Text.assemble("  ".join(head), "  ", (became, style)))
        console.print(Padding(Text(_reason(line, why=why), style="dim"), (0, 0, 0, 4)))


def _moment(line: LedgerLine) -> str:
    stamp = line.decided or line.answered
    return time.strftime("%H:%M:%S", time.localtime(stamp)) + f".{int(stamp % 1 * 1000):03d}"


def _reason(line: LedgerLine, *, why: bool) -> str:
    reason = " ".join(filter(None, (line.why, line.verdict_reason, line.outcome_reason)))
    if why and line.evidence:
        told = ", ".join(f"{k} = {_short(v)}" for k, v in line.evidence.items())
        reason += f"\n{told}"
    return reason


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _became(line: LedgerLine, *, over: bool) -> tuple[str, str]:
    if line.outcome:
        at = f" at {line.step}" if line.step is not None and line.step >= 0 else ""
        return f"{line.outcome}{at}", _STYLES.get(line.outcome, "")
    if line.verdict in (None, "sent"):
        return state_of(line, over=over), "dim"
    if line.verdict == "awaiting_approval" and line.approval is not None:
        until = time.strftime("%H:%M:%S", time.localtime(line.approval.until))
        return f"waits until {until}, then {line.approval.default}", "yellow"
    return line.verdict.replace("_", " "), "yellow"
