"""Two columns of the results against each other: coverage, and embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bridge.runs.columns import pick_column
from bridge.runs.configuration import MapTable
from bridge.runs.plots.canvas import figure, save
from bridge.runs.traces import Trace
from bridge.steering import LedgerLine

__all__ = ["draw_map"]

Array = npt.NDArray[np.float64]
BINS = 120


class _Points:
    """The rows of all simulations, those that do not count yet left out."""

    def __init__(self, table: MapTable, traces: Sequence[Trace]) -> None:
        parts = [_points(table, trace) for trace in traces if len(trace)]
        self.x, self.y, self.time = (
            np.concatenate([p[i] for p in parts]) if parts else np.zeros(0) for i in range(3)
        )
        self._where = {
            (trace.simulation, int(offset)): (x, y)
            for trace, part in zip((t for t in traces if len(t)), parts, strict=True)
            for offset, x, y in zip(part[3], part[0], part[1], strict=True)
        }

    def find(self, lines: Sequence[LedgerLine]) -> Array:
        """Return where the frames of restarts lie, shape (k, 2); unknown ones are left out."""
        found = [
            self._where[line.frame.simulation, line.frame.offset]
            for line in lines
            if line.frame is not None and (line.frame.simulation, line.frame.offset) in self._where
        ]
        return np.array(found, np.float64).reshape(-1, 2)


def _points(table: MapTable, trace: Trace) -> tuple[Array, ...]:
    x, y = pick_column(trace.rows, table.x), pick_column(trace.rows, table.y)
    if table.degrees:
        x, y = np.degrees(x), np.degrees(y)
    counts = np.isfinite(x) & np.isfinite(y)
    if table.version:
        counts &= pick_column(trace.rows, table.version) > 0
    offsets = trace.rows["offset"].astype(np.float64)
    return x[counts], y[counts], trace.rows["time"][counts], offsets[counts]


def draw_map(
    table: MapTable,
    traces: Sequence[Trace],
    restarts: Sequence[LedgerLine],
    path: Path,
    *,
    time_unit: str,
) -> Path:
    """Draw one map.

    Parameters
    ----------
    table
        What to show.
    traces
        Of all simulations.
    restarts
        Restarts that took effect.
    path
        The file to write.
    time_unit
        Unit of the frames' time.

    Raises
    ------
    ConfigError
        If the results have no such columns.
    """
    points = _Points(table, traces)
    with figure(6.4, 5.4) as (made, axes):
        _shade(axes, table)
        if not len(points.x):
            axes.text(0.5, 0.5, "no frames", transform=axes.transAxes, ha="center")
        elif table.colour == "density":
            _density(made, axes, table, points)
        else:
            _times(made, axes, points, time_unit)
        marks = points.find(restarts) if table.restarts else np.zeros((0, 2))
        if len(marks):
            axes.scatter(
                *marks.T, s=26, facecolors="none", edgecolors="#c8442e", linewidths=0.7,
                label=f"restarted from ({len(marks)})", zorder=3,
            )  # fmt: skip
        if table.degrees:
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_ticks(range(-180, 181, 60))
            axes.set(xlim=(-180, 180), ylim=(-180, 180), aspect="equal")
        labels = table.labels or (table.x, table.y)
        axes.set(xlabel=labels[0], ylabel=labels[1])
        axes.set_title(table.title or table.name, loc="left", fontsize=11)
        if axes.get_legend_handles_labels()[1]:
            axes.legend(loc="upper right", fontsize=8, framealpha=0.9)
        return save(made, path)


def _shade(axes: Any, table: MapTable) -> None:
    style = {"color": "#2f9e6e", "alpha": 0.13, "lw": 0, "zorder": 0}
    if table.target_x is not None and table.target_y is not None:
        (x0, x1), (y0, y1) = table.target_x, table.target_y
        axes.fill_between([x0, x1], y0, y1, label="target", **style)
    elif table.target_x is not None:
        axes.axvspan(*table.target_x, label="target", **style)
    elif table.target_y is not None:
        axes.axhspan(*table.target_y, label="target", **style)


def _density(made: Any, axes: Any, table: MapTable, points: _Points) -> None:
    from matplotlib.colors import LogNorm
    from matplotlib.ticker import NullFormatter

    extent = [[-180.0, 180.0], [-180.0, 180.0]] if table.degrees else None
    counts, x, y = np.histogram2d(points.x, points.y, BINS, extent)
    shown = np.ma.masked_equal(counts.T, 0)
    mesh = axes.pcolormesh(
        x, y, shown, cmap="viridis", norm=LogNorm(1, max(2, counts.max())), zorder=1
    )
    bar = made.colorbar(mesh, ax=axes, label="frames in a bin", shrink=0.85, format="%d")
    # Below ten the decades are not enough, and above ten the rest is too much.
    bar.ax.yaxis.set_minor_formatter("{x:.0f}" if counts.max() < 10 else NullFormatter())


def _times(made: Any, axes: Any, points: _Points, unit: str) -> None:
    order = np.argsort(points.time)
    size = float(np.clip(6e4 / max(1, len(order)), 2.0, 14.0))
    dots = axes.scatter(
        points.x[order], points.y[order], c=points.time[order], s=size, cmap="viridis", lw=0,
        zorder=1,
    )  # fmt: skip
    label = f"simulated time / {unit}" if unit else "simulated time"
    made.colorbar(dots, ax=axes, label=label, shrink=0.85)
