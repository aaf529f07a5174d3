"""The simulated time to the event: steered runs against controls and figures measured elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bridge.runs.comparison import Arm
from bridge.runs.plots.canvas import GRID, figure, save

__all__ = ["draw_waiting"]


def draw_waiting(arms: Sequence[Arm], path: Path, *, unit: str) -> Path:
    """Draw one row for each arm: its runs as dots, its mean with the 95 % interval.

    Parameters
    ----------
    arms
        With times in one unit.
    path
        The file to write.
    unit
        Unit of the times.
    """
    with figure(7.6, 1.5 + 0.62 * max(1, len(arms))) as (made, axes):
        for row, arm in enumerate(arms):
            _draw(axes, row, arm)
        if any(arm.times or arm.mean for arm in arms):
            axes.set_xscale("log")
        axes.grid(axis="x", which="both", color=GRID, lw=0.6)
        axes.set_axisbelow(True)
        axes.set_yticks(range(len(arms)), [_label(arm) for arm in arms], fontsize=9)
        axes.set_ylim(len(arms) - 0.4, -0.6)
        label = "simulated time over all simulations to the first event"
        axes.set_xlabel(f"{label} / {unit}" if unit else label)
        axes.set_title("Time to first event", loc="left", fontsize=11)
        _explain(axes, arms)
        return save(made, path)


def _label(arm: Arm) -> str:
    if not arm.times:
        return f"{arm.name}\n(measured before)"
    runs = "1 run" if len(arm.times) == 1 else f"{len(arm.times)} runs"
    return f"{arm.name}\n({runs}, {arm.events} reached)"


def _colour(arm: Arm) -> str:
    if not arm.times:
        return "#777777"
    return "#2a78b5" if arm.name == "steered" else "#c8742e"


def _draw(axes: Any, row: int, arm: Arm) -> None:
    colour = _colour(arm)
    # Spread by rank, not by chance: the same picture each time.
    spread = row + 0.16 * (np.arange(len(arm.times)) % 3 - 1) if len(arm.times) > 1 else [row]
    for time, reached, y in zip(arm.times, arm.reached, spread, strict=False):
        axes.scatter(
            time, y, s=30, marker="o" if reached else ">", lw=1.2, zorder=3,
            facecolors=colour if reached else "none", edgecolors=colour, alpha=0.75,
        )  # fmt: skip
    # One run says next to nothing about a mean.
    if arm.mean is not None and len(arm.times) != 1:
        low = arm.low if arm.low is not None else arm.mean
        high = arm.high if arm.high is not None else arm.mean
        axes.hlines(row, low, high, color=colour, lw=2.2, zorder=2)
        axes.vlines(arm.mean, row - 0.2, row + 0.2, color=colour, lw=2.6, zorder=4)


def _explain(axes: Any, arms: Sequence[Arm]) -> None:
    words = ["dots: single runs", "bars: mean and 95 % interval"]
    if any(not all(arm.reached) for arm in arms):
        words.insert(1, "open arrows: ended before the event")
    axes.text(
        1.0, 1.02, " · ".join(words), transform=axes.transAxes, ha="right", va="bottom",
        fontsize=7.5, color="#666666",
    )  # fmt: skip
