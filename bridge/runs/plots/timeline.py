"""When was decided what, for whom, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from bridge.commands import Event
from bridge.runs.plots.canvas import COLOURS, GRID, figure, save
from bridge.steering import LedgerLine, state_of

__all__ = ["draw_timeline"]

_MARKERS = {"restart": "|", "stop": "s", "set": "D", "pause": "<", "resume": ">", "interval": "^"}
MAX_ROWS = 40


def _became(line: LedgerLine) -> str:
    if line.verdict not in (None, "sent"):
        return "dry_run" if line.verdict == "dry_run" else "refused"
    return state_of(line, over=True)


def _begin(groups: Mapping[tuple[str, str], Sequence[tuple[float, int]]], end: float) -> float:
    """Return where the axis begins: shortly before the first decision."""
    first = min((time for points in groups.values() for time, _ in points), default=0.0)
    return max(0.0, first - 0.05 * max(0.0, end - first))


def draw_timeline(
    ledger: Sequence[LedgerLine],
    events: Sequence[Event],
    simulations: Sequence[str],
    path: Path,
    *,
    started: float,
    wall_time: float,
    target: str,
) -> Path:
    """Draw the decisions of a run against wall time, a row for each simulation.

    Parameters
    ----------
    ledger, events
        All of both.
    simulations
        Names of the rows; beyond `MAX_ROWS`, the last row is for all that remain.
    path
        The file to write.
    started, wall_time
        Unix time of the start and duration, in seconds.
    target
        Kind of the event that the run waited for.
    """
    rows = {name: min(i, MAX_ROWS - 1) for i, name in enumerate(simulations)}
    count = max(1, len(set(rows.values())))
    with figure(8.0, 1.8 + 0.26 * count) as (made, axes):
        groups: dict[tuple[str, str], list[tuple[float, int]]] = {}
        for line in ledger:
            if line.decided and line.simulation in rows:
                key = (line.kind, _became(line))
                groups.setdefault(key, []).append((line.decided - started, rows[line.simulation]))
        axes.hlines(range(count), 0, max(wall_time, 1e-3), color=GRID, lw=1, zorder=0)
        for (kind, became), points in sorted(groups.items()):
            x, y = zip(*points, strict=True)
            axes.scatter(
                x, y, marker=_MARKERS.get(kind, "o"), s=52 if kind == "restart" else 26, lw=1.2,
                color=COLOURS.get(became, "#333333"),
                label=f"{kind}, {became.replace('_', ' ')} ({len(points)})",
            )  # fmt: skip
        for event in events:
            if event.kind == target and event.stamp:
                axes.axvline(event.stamp - started, color="#2f9e6e", lw=1.4, label="target reached")
                break
        names = list(simulations[:MAX_ROWS])
        if len(simulations) > MAX_ROWS:
            names[-1] = f"{len(simulations) - MAX_ROWS + 1} more"
        axes.set_yticks(range(len(names)), names, fontsize=8)
        axes.set(xlim=(_begin(groups, wall_time), max(wall_time, 1e-3)), ylim=(count - 0.4, -0.6))
        axes.set_xlabel("wall time / s")
        axes.set_title("Decisions, and what became of them", loc="left", fontsize=11)
        if axes.get_legend_handles_labels()[1]:
            # Outside, where the layout makes room for it: two rows leave none below the axes.
            made.legend(loc="outside lower center", ncols=3, fontsize=8, frameon=False)
        return save(made, path)
