"""The last words of a run."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from bridge.cli.view import format_time
from bridge.runs.directory import RunDirectory
from bridge.runs.supervision import Supervisor

__all__ = ["print_summary"]


def print_summary(
    console: Console, directory: RunDirectory, report: dict[str, Any], supervisor: Supervisor
) -> None:
    """Print how a run went, in a few lines."""
    style = "green" if not supervisor.failures else "bold red"
    console.print(f"[{style}]{supervisor.outcome.replace('_', ' ')}[/]: ", end="")
    console.print(supervisor.reason or "All members have finished.", markup=False, highlight=False)
    if not report:
        console.print(f"There is no report. Logs: {directory.logs}", markup=False)
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    for what, value in _lines(report):
        table.add_row(what, value)
    console.print(table)
    console.print(f"Report: {directory.report}", markup=False, highlight=False, soft_wrap=True)
    if (directory.path / "recording").is_dir():
        again = f"headrace dashboard {directory.path}"
        console.print(f"Again:  {again}", markup=False, highlight=False, soft_wrap=True)
    for plot in sorted(directory.plots.glob("*.png")):
        console.print(f"Plot:   {plot}", markup=False, highlight=False, soft_wrap=True)


def _lines(report: dict[str, Any]) -> list[tuple[str, str]]:
    time = report["simulated_time"]
    decisions = report["decisions"]
    lines = [
        ("simulated time", format_time(time["total"], time["unit"])),
        ("frames", f"{report['frames']} ({report['frames_per_second']:.0f}/s)"),
        ("dropped, quarantined", f"{report['dropped']}, {report['quarantined']}"),
        ("decisions", _counts(decisions["verdicts"])),
        ("became of them", _counts(decisions["outcomes"])),
        ("wall time", f"{report['wall_time_s']:.1f} s"),
    ]
    if time["to_event"] is not None:
        lines.insert(0, ("simulated time to event", format_time(time["to_event"], time["unit"])))
    for name in ("put_to_decision", "decision_to_applied", "put_to_applied"):
        # Reports of older versions have but one of them.
        latency = decisions.get(name)
        if latency:
            lines.append(
                (
                    name.replace("_", " "),
                    f"median {1e3 * latency['median_s']:.1f} ms, "
                    f"99 % within {1e3 * latency['p99_s']:.1f} ms",
                )
            )
    return lines


def _counts(counts: dict[str, int]) -> str:
    # What nobody judged: mostly the stop with which the run itself ended its members.
    words = {"unguarded": "without a verdict"}
    told = (f"{n} {words.get(name, name).replace('_', ' ')}" for name, n in counts.items())
    return ", ".join(told) or "none"
