"""Draws every picture of a run that its configuration asks for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bridge.runs.comparison import compare_runs, reference_arm
from bridge.runs.directory import RunDirectory
from bridge.runs.plan import Plan
from bridge.runs.plots.maps import draw_map
from bridge.runs.plots.timeline import draw_timeline
from bridge.runs.plots.waiting import draw_waiting
from bridge.runs.quantities import pick_time_unit
from bridge.runs.records import load_events, load_ledger
from bridge.runs.traces import load_traces
from bridge.runs.wishes import applied_restarts

__all__ = ["draw_comparison", "draw_plots"]


def draw_plots(directory: RunDirectory, *, compare: Sequence[RunDirectory] = ()) -> list[Path]:
    """Draw the maps, the timeline of decisions and the time to the event.

    Parameters
    ----------
    directory
        Of a finished run.
    compare
        Further runs to hold the time to the event against.

    Returns
    -------
    list of paths
        What was written.

    Raises
    ------
    ConfigError
        If a file is missing or damaged, or the configuration names columns that the results do
        not have.
    MissingExtra
        If matplotlib is not installed.
    """
    report = directory.read_json(directory.report)
    table = Plan.read(directory).configuration.report
    ledger = load_ledger(directory.ledger)
    paths = []
    if table.maps:
        traces, restarts = load_traces(directory.results), applied_restarts(ledger)
        for entry in table.maps:
            path = directory.plots / f"{entry.name}.png"
            unit = report["simulated_time"]["unit"]
            paths.append(draw_map(entry, traces, restarts, path, time_unit=unit))
    if ledger:
        paths.append(
            draw_timeline(
                ledger,
                load_events(directory.events),
                [s["name"] for s in report["simulations"]],
                directory.plots / "decisions.png",
                started=report["started"],
                wall_time=report["wall_time_s"],
                target=table.event,
            )
        )
    if report["event"] is not None or compare or table.references:
        runs = [directory, *compare]
        paths.append(draw_comparison(runs, directory.plots / "time_to_event.png"))
    return paths


def draw_comparison(directories: Sequence[RunDirectory], path: Path) -> Path:
    """Draw the time to the event of several runs, and the references that the first one names."""
    reports = [d.read_json(d.report) for d in directories]
    arms = compare_runs(reports)
    longest = max((time for arm in arms for time in arm.times), default=0.0)
    unit = pick_time_unit(longest, arms[0].unit)
    references = Plan.read(directories[0]).configuration.report.references
    arms = [*compare_runs(reports, unit), *(reference_arm(r, unit) for r in references)]
    return draw_waiting(arms, path, unit=unit)
