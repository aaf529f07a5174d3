"""``headrace approvals``: what waits for somebody to say yes or no."""

from __future__ import annotations

import argparse
import json
import time

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bridge.cli.steering import add_run_arguments, open_desk
from bridge.commands import Decision
from bridge.steering import describe_command

__all__ = ["add_arguments", "execute"]

_WIDTH = 160
"""Columns of the table in a file or a pipe, which have no width of their own."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.description = (
        "Show the commands that wait for approval: what they do, why, until when, and what becomes "
        "of them if nobody says anything. Say yes or no with headrace approve and headrace deny."
    )
    add_run_arguments(parser)
    parser.add_argument(
        "--keep", action="store_true",
        help="stay, and carry out what is said and what is due, until Ctrl-C; for jobs that rest",
    )  # fmt: skip


def execute(arguments: argparse.Namespace) -> int:
    """Show them."""
    with open_desk(arguments) as desk:
        desk.tick()
        waiting = desk.waiting()
        if arguments.json:
            print(json.dumps([_as_data(decision) for decision in waiting]))
        else:
            _show(waiting)
        while arguments.keep:
            time.sleep(1.0)
            desk.tick()
    return 0


def _as_data(decision: Decision) -> dict[str, object]:
    command = decision.command
    return {
        "id": command.id,
        "kind": command.kind,
        "simulation": command.simulation,
        "what": describe_command(command),
        "why": command.reason,
        "evidence": command.evidence,
        "author": command.author,
        "since": decision.stamp,
        "until": decision.until,
        "default": decision.default,
    }


def _show(waiting: list[Decision]) -> None:
    console = Console()
    if not console.is_terminal:
        console = Console(width=max(console.width, _WIDTH))
    if not waiting:
        console.print("Nothing waits for approval.")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    # An id is copied into headrace approve: it stays in one piece, however narrow the terminal.
    table.add_column("id", no_wrap=True, min_width=max(len(one.command.id) for one in waiting))
    table.add_column("for", no_wrap=True)
    table.add_column("command")
    table.add_column("left", no_wrap=True, justify="right")
    table.add_column("then", no_wrap=True)
    table.add_column("reason", ratio=1)
    now = time.time()
    for decision in waiting:
        command = decision.command
        table.add_row(
            escape(command.id),
            escape(command.simulation),
            escape(describe_command(command)),
            f"{max(0.0, decision.until - now):.0f} s",
            decision.default,
            escape(command.reason),
        )
    console.print(table)
