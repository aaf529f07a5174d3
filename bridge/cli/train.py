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
from bridge.config import parse_duration, read_toml, to_struct
from bridge.errors import ConfigError
from bridge.priority import give_way
from bridge.runs.configuration import TrainingTable
from bridge.runs.keyfiles import client_keys
from bridge.runs.placement import take_processors
from bridge.runs.team import TeamPlan, run_team
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
    team = parser.add_argument_group("several workers")
    team.add_argument("--workers", type=int, metavar="N", help="processes, over all machines")
    team.add_argument(
        "--groups", type=int, metavar="G",
        help="groups of them: synchronous inside, averaging without waiting between them",
    )  # fmt: skip
    team.add_argument("--nodes", type=int, default=1, metavar="M", help="machines")
    team.add_argument("--node-rank", type=int, default=0, metavar="R", help="of this one, from 0")
    team.add_argument("--rendezvous", default="", metavar="HOST:PORT", help="where worker 0 is met")
    team.add_argument(
        "--patience", default="2 min", help="limit for a worker to come (%(default)s)"
    )


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
    plan = _team(training, address, arguments)
    report: TrainingReport | None
    with take_processors(table.processors):
        if plan.size > 1:
            with stopped_by_signal() as told_to_end:
                report = run_team(
                    plan, output, nodes=arguments.nodes, node_rank=arguments.node_rank,
                    stop=told_to_end, nice=table.nice,
                )  # fmt: skip
        else:
            report = _train(training, address, output, arguments)
    if report is not None:
        _show(report, arguments)
    return 0


def _train(
    training: Training, address: str, output: Path, arguments: argparse.Namespace
) -> TrainingReport:
    """Train in this process."""
    give_way(training.table.nice)
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
            checkpoint=output / f"{training.name}.checkpoint",
            on_status=lambda report: live.update(_table(report), refresh=console.is_terminal),
        )
        return run.run(arguments.until, stop=told_to_end, drain=arguments.drain)


def _team(training: Training, stager: str, arguments: argparse.Namespace) -> TeamPlan:
    """Return who learns together."""
    changes = {
        name: value
        for name in ("workers", "groups")
        if (value := getattr(arguments, name)) is not None
    }
    table = to_struct(
        TrainingTable, {**msgspec.to_builtins(training.table), **changes}, training.where
    )
    host, _, port = arguments.rendezvous.rpartition(":")
    if arguments.rendezvous and not (host and port.isdecimal()):
        raise ConfigError(f"--rendezvous is {arguments.rendezvous!r}; write it as HOST:PORT.")
    return TeamPlan(
        training=msgspec.structs.replace(training, table=table),
        stager=stager,
        keys=str(Path(arguments.keys).absolute()) if arguments.keys else "",
        size=table.workers,
        groups=table.groups,
        host=host or "127.0.0.1",
        port=int(port or 0),
        until=arguments.until,
        timeout=parse_duration(arguments.patience),
    )


def _show(report: TrainingReport, arguments: argparse.Namespace) -> None:
    if arguments.json:
        print(json.dumps(_plain(report)))
    else:
        Console().print(_table(report))


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
