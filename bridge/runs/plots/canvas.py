"""Figures that look alike; matplotlib is imported when the first is made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bridge.errors import MissingExtra

__all__ = ["COLOURS", "GRID", "figure", "save"]

COLOURS = {
    "applied": "#2a78b5",
    "refused": "#c8442e",
    "expired": "#e39a2d",
    "unanswered": "#9a9a9a",
    "dry_run": "#7b5fb0",
}
"""Colours of what became of a command; told apart with the common kinds of colour blindness."""

GRID = "#e4e4e4"


@contextmanager
def figure(width: float, height: float) -> Iterator[tuple[Any, Any]]:
    """Give a figure and its axes, without any window system.

    Parameters
    ----------
    width, height
        In inches, at 150 points each.

    Raises
    ------
    MissingExtra
        If matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra("matplotlib", "report", "the plots of a report") from error
    made = Figure(figsize=(width, height), dpi=150, layout="constrained")
    FigureCanvasAgg(made)
    axes = made.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    yield made, axes


def save(made: Any, path: Path) -> Path:
    """Write a figure as PNG, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".part")
    made.savefig(beside, format="png")
    beside.replace(path)
    return path
