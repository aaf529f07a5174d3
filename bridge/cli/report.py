"""``headrace report``: the plots of finished runs again, and several runs against each other."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from bridge.cli.view import format_time
from bridge.errors import ConfigError
from bridge.runs.comparison import Arm, compare_runs
from bridge.runs.directory import RunDirectory
from bridge.runs.locating import require_run

__all__ = ["add_arguments", "execute"]

READING = 60.0
"""Seconds for reading what staging holds of a run that lasts."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.description = (
        "Draw the plots of the first run again, and hold the time to the event of all runs "
        "against each other: steered runs against each of their controls. With --html, write the "
        "first run as one HTML file instead, which opens without a server and without a network."
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN_DIR")
    parser.add_argument("--no-plots", action="store_true", help="print the comparison alone")
    parser.add_argument(
        "--html", type=Path, metavar="FILE",
        help="write the first run as one page that needs no server",
    )  # fmt: skip


def execute(arguments: argparse.Namespace) -> int:
    """Compare, draw and show."""
    directories = [RunDirectory(path) for path in arguments.runs]
    if arguments.html is not None:
        require_run(directories[0])
        return _write_page(directories[0], arguments.html, arguments.json)
    for directory in directories:
        require_run(directory, over=True)
    arms = compare_runs([d.read_json(d.report) for d in directories])
    paths: list[Path] = []
    if not arguments.no_plots:
        from bridge.runs.plots import draw_plots

        paths = draw_plots(directories[0], compare=directories[1:])
    if arguments.json:
        print(
            json.dumps(
                {
                    "arms": [{**msgspec.to_builtins(arm), "events": arm.events} for arm in arms],
                    "plots": [str(path) for path in paths],
                }
            )
        )
        return 0
    console = Console()
    console.print(_table(arms))
    for path in paths:
        console.print(f"Plot: {path}", markup=False, highlight=False, soft_wrap=True)
    return 0


def _write_page(directory: RunDirectory, path: Path, as_json: bool) -> int:
    from bridge.dashboard.feed import open_feed
    from bridge.dashboard.static_report import make_static_report

    with open_feed(directory) as feed:
        # A run that is over has been read from its files by now; one that lasts, from staging.
        end = time.monotonic() + READING
        while feed.run()["state"] != "ended" and time.monotonic() < end:
            if feed.wait_until_read(0.2):
                break
        page = make_static_report(feed)
    beside = path.with_name(path.name + ".part")
    try:
        beside.write_bytes(page)
        beside.replace(path)
    except OSError as error:
        raise ConfigError(f"Cannot write {path}: {error.strerror}.") from error
    if as_json:
        print(json.dumps({"html": str(path), "bytes": len(page)}))
    else:
        Console().print(f"Report: {path}", markup=False, highlight=False, soft_wrap=True)
    return 0


def _table(arms: list[Arm]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("runs")
    for heading in ("number", "reached", "mean time to event", "95 % interval"):
        table.add_column(heading, justify="right")
    for arm in arms:
        low = "" if arm.low is None else format_time(arm.low, arm.unit)
        high = "no bound" if arm.high is None else format_time(arm.high, arm.unit)
        table.add_row(
            arm.name,
            str(len(arm.times)),
            str(arm.events),
            "" if arm.mean is None else format_time(arm.mean, arm.unit),
            f"{low} to {high}",
        )
    return table
