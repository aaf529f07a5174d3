"""``headrace train``: models that learn from streams that are there."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.live import Live
from rich.table import Table

from bridge.cli.stager_options import add_stager_arguments
from bridge.cli.stopping import stopped_by_signal
from bridge.config import read_toml
from bridge.runs.keyfiles import client_keys
from bridge.runs.training import Training, TrainingReport, TrainingRun, choose_training
from bridge.staging.rendezvous import resolve
from bridge.staging.spread import connect

__all__ = ["add_arguments", "execute"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.description = (
        "Run a pipeline that learns, such as one that ends with the operator train, over the "
        "streams of a stager, until they have finished or Ctrl-C. It reads along: nobody waits "
        "for it. Started again with the same --output, it goes on."
    )
    parser.add_argument("configuration", type=Path, metavar="TRAIN.toml")
    parser.add_argument("--name", default="", help="which [training.NAME] table, if several")
    add_stager_arguments(parser)
    parser.add_argument(
        "--output", type=Path, default=Path("training"), help="folder of its state (%(default)s)"
    )
    parser.add_argument(
        "--registry", type=Path, help="folder of the models, where the file names none "
        "(default: models in --output)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="where the file has none")
    parser.add_argument("--until", choices=("finished", "stopped"), default="finished")
    parser.add_argument(
        "--drain", type=float, default=10.0, metavar="S",
        help="seconds to read what is left once told to end (%(default)s)",
    )  # fmt: skip


def execute(arguments: argparse.Namespace) -> int:
    """Train until there is nothing left to learn from."""
    path: Path = arguments.configuration
    name, table = choose_training(read_toml(path), arguments.name, str(path))
    output: Path = arguments.output.absolute()
    registry = arguments.registry or output / "models"
    training = Training(
        name=name,
        table=table,
        base=str(path.absolute().parent),
        where=f"{path}, [training.{name}]",
        seed=arguments.seed,
        registry=str(registry.absolute()),
    )
    output.mkdir(parents=True, exist_ok=True)
    address = resolve(arguments.stager, arguments.run_directory)
    console = Console(stderr=True)
    live = Live(console=console, transient=True, auto_refresh=False)
    with (
        connect(address, name="train", keys=client_keys(arguments.keys)) as client,
        live,
        stopped_by_signal() as told_to_end,
    ):
        run = TrainingRun(
            training,
            client,
            checkpoint=output / f"{name}.checkpoint",
            on_status=lambda report: live.update(_table(report), refresh=console.is_terminal),
        )
        report = run.run(arguments.until, stop=told_to_end, drain=arguments.drain)
    if arguments.json:
        print(json.dumps(_plain(report)))
    else:
        Console().print(_table(report))
    return 0


def _plain(report: TrainingReport) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(report)
    return {**plain, "frames_per_second": report.frames_per_second}


def _table(report: TrainingReport) -> Table:
    table = Table(title=f"Training {report.name}", box=None, show_header=False, pad_edge=False)
    rows: list[tuple[str, float]] = [
        ("frames", report.frames),
        ("frames passed over", report.missed),
        ("frames/s", report.frames_per_second),
    ]
    for operator, figures in report.figures.items():
        head = "" if len(report.figures) == 1 else f"{operator}: "
        rows += [(head + key.replace("_", " "), value) for key, value in figures.items()]
    for key, value in rows:
        table.add_row(key, f"{value:,.6g}" if value % 1 else f"{value:,.0f}")
    return table
