"""``headrace run``: simulations, their online analysis and the decisions that steer them."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any, Literal

import msgspec
from rich.console import Console

from bridge.cli.summary import print_summary
from bridge.cli.view import LiveView, PlainView
from bridge.errors import ConfigError
from bridge.runs.configuration import RunConfiguration, load_run
from bridge.runs.directory import RunDirectory, free_directory
from bridge.runs.execution import Execution
from bridge.runs.pipelines import apply_control
from bridge.runs.plan import Plan

__all__ = ["add_arguments", "execute"]

DASHBOARD = "HEADRACE_DASHBOARD"
"""Environment variable; where it is ``off``, runs start no dashboard."""

_GOOD = ("finished", "target_reached", "limit_reached")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.description = (
        "Start the stager, the engine and the simulations that a run.toml describes, show what "
        "goes on, and write a report. Ctrl-C once ends the run in good order, twice at once."
    )
    parser.add_argument("configuration", type=Path, metavar="RUN.toml", nargs="?")
    parser.add_argument("--output", type=Path, help="folder of the run")
    parser.add_argument("--seed", type=int, help="seed of all random numbers")
    parser.add_argument("--control", default="", metavar="NAME", help="carry out a control run")
    parser.add_argument(
        "--engine", choices=("local", "flink", "spark"), help="what runs the pipeline"
    )
    parser.add_argument("--cluster", metavar="ADDRESS", help="of a Flink or Spark cluster")
    parser.add_argument("--max-time", metavar='"10 ns"', help="limit on the total simulated time")
    parser.add_argument("--max-wall-time", metavar='"5 min"', help="limit on the duration")
    parser.add_argument(
        "--no-dashboard",
        action="store_true",
        help=f"start no dashboard beside the run; {DASHBOARD}=off does the same",
    )
    parser.add_argument("--no-plots", action="store_true", help="write the figures alone")
    parser.add_argument(
        "--compare",
        type=Path,
        nargs="+",
        default=[],
        metavar="DIR",
        help="finished runs to hold the time to the event against",
    )
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--overwrite", action="store_true", help="remove an earlier run")
    existing.add_argument("--resume", action="store_true", help="go on with the run in --output")


def execute(arguments: argparse.Namespace) -> int:
    """Carry out the run."""
    plan, directory = _resume(arguments) if arguments.resume else _begin(arguments)
    make_plots = None if arguments.no_plots else _plotter(arguments.compare)
    console = Console(stderr=arguments.json)
    title = plan.configuration.run.name + (f" ({plan.control})" if plan.control else "")
    live = console.is_terminal and not arguments.json
    with LiveView(console, title) if live else PlainView(console) as view:
        execution = Execution(plan, directory, view, make_plots=make_plots)
        handlers = {
            number: signal.signal(number, lambda *_: execution.interrupt())
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            supervisor = execution.execute()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
    good = supervisor.outcome in _GOOD and not supervisor.failures
    if arguments.json:
        print(json.dumps({"directory": str(directory.path), **execution.report}))
    else:
        print_summary(console, directory, execution.report, supervisor)
    return 0 if good else 1


def _begin(arguments: argparse.Namespace) -> tuple[Plan, RunDirectory]:
    path: Path | None = arguments.configuration
    if path is None:
        raise ConfigError("Name the configuration: headrace run RUN.toml.")
    if path.is_dir():
        raise ConfigError(_about_folder(path))
    configuration = _override(load_run(path), arguments)
    configuration = apply_control(configuration, arguments.control, str(path))
    plan = Plan(
        configuration=configuration,
        source=str(path.absolute()),
        base=str(path.absolute().parent),
        control=arguments.control,
    )
    plan.check()
    existing: Literal["refuse", "overwrite"] = "overwrite" if arguments.overwrite else "refuse"
    directory = RunDirectory(_output(plan, arguments))
    directory.prepare(existing)
    shutil.copyfile(path, directory.configuration)
    plan.write(directory)
    return plan, directory


def _about_folder(path: Path) -> str:
    if (path / "resolved.json").is_file():
        return (
            f"{path} is the folder of a run, not a run.toml. To go on with that run: headrace run "
            f"--resume --output {path}."
        )
    inside = path / "run.toml"
    hint = f"did you mean {inside}?" if inside.is_file() else "name a run.toml."
    return f"{path} is a folder; {hint}"


def _resume(arguments: argparse.Namespace) -> tuple[Plan, RunDirectory]:
    """Take up a run as it was begun; only limits may change."""
    if arguments.output is None:
        raise ConfigError("Name the folder of the run to resume with --output.")
    if arguments.control or arguments.seed is not None or arguments.engine is not None:
        raise ConfigError("A run that is resumed keeps its seed, its control and its engine.")
    directory = RunDirectory(arguments.output)
    directory.prepare("resume")
    before = Plan.read(directory)
    plan = msgspec.structs.replace(
        before,
        configuration=_override(before.configuration, arguments),
        resume=True,
        address="",
    )
    plan.check()
    plan.write(directory)
    return plan, directory


def _override(configuration: RunConfiguration, arguments: argparse.Namespace) -> RunConfiguration:
    given: dict[str, Any] = {
        name: getattr(arguments, name)
        for name in ("seed", "max_time", "max_wall_time")
        if getattr(arguments, name) is not None
    }
    run = msgspec.structs.replace(configuration.run, **given)
    engine = dict(configuration.engine)
    if arguments.engine is not None:
        engine["kind"] = arguments.engine
    if arguments.cluster is not None:
        engine["cluster"] = arguments.cluster
    dashboard = configuration.dashboard
    if arguments.no_dashboard or os.environ.get(DASHBOARD, "").lower() in ("off", "0", "no"):
        dashboard = msgspec.structs.replace(dashboard, enabled=False)
    return msgspec.structs.replace(configuration, run=run, engine=engine, dashboard=dashboard)


def _output(plan: Plan, arguments: argparse.Namespace) -> Path:
    given: Path | None = arguments.output
    if given is not None:
        return given
    table = plan.configuration.run
    if table.output:
        return Path(table.output)
    name = f"{table.name}-{plan.control}" if plan.control else table.name
    base = Path("runs") / name
    return base if arguments.overwrite else free_directory(base)


def _plotter(compare: list[Path]) -> Any:
    """Return what draws the plots, or None with a word if matplotlib is missing."""
    from bridge.runs.health import PARTS, has_part

    part = next(p for p in PARTS if p.extra == "report")
    if not has_part(part):
        print(
            "There will be no plots: matplotlib is not installed. "
            "Install it with: pip install 'headrace[report]'.",
            file=sys.stderr,
        )
        return None
    from bridge.runs.plots import draw_plots

    return lambda directory: draw_plots(directory, compare=[RunDirectory(p) for p in compare])
