"""Time series and maps of a run as SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from bridge.dashboard.report.markup import Markup, element
from bridge.dashboard.report.scales import LINES, VIRIDIS, decades, label, ticks

__all__ = ["Line", "draw_map", "draw_series", "legend"]

Array = npt.NDArray[Any]
Span = tuple[float, float]

DASHES = (None, "7 4", "2 3", "9 3 2 3")


class Line(msgspec.Struct, frozen=True):
    """One line of a plot: its name, and its points in their order; a NaN breaks it."""

    name: str
    x: Array
    y: Array


class _Frame(msgspec.Struct, frozen=True):
    """The place of a plot within its picture, and what its axes span."""

    left: float
    top: float
    width: float
    height: float
    x: Span
    y: Span

    def across(self, value: Any) -> Any:
        return self.left + (value - self.x[0]) / (self.x[1] - self.x[0]) * self.width

    def up(self, value: Any) -> Any:
        return self.top + (1 - (value - self.y[0]) / (self.y[1] - self.y[0])) * self.height


def draw_series(lines: Sequence[Line], *, x_title: str, y_title: str, name: str) -> Markup:
    """Draw lines over each other, as wide as the page."""
    shown = [line for line in lines if len(line.x)]
    frame = _Frame(
        76, 10, 800, 230, _span([line.x for line in shown]), _span([line.y for line in shown], 0.04)
    )
    drawn = [
        element(
            "polyline",
            {
                "points": part, "fill": "none", "stroke": LINES[k % len(LINES)], "class": "line",
                "stroke-dasharray": DASHES[k // len(LINES) % len(DASHES)], "data-line": k,
                "vector-effect": "non-scaling-stroke",
            },
        )
        for k, line in enumerate(shown)
        for part in _parts(line, frame)
    ]  # fmt: skip
    axes = _axes(frame, x_title, y_title, ticks(*frame.x, 9), ticks(*frame.y, 5))
    return element(
        "svg",
        {
            "viewBox": "0 0 890 300", "role": "img", "class": "wide", "data-testid": f"plot-{name}",
            "aria-label": f"{y_title} against {x_title}, {len(shown)} lines",
            "data-x0": repr(frame.x[0]), "data-x1": repr(frame.x[1]),
        },
        axes,
        *drawn,
    )  # fmt: skip


def legend(lines: Sequence[Line]) -> Markup:
    """Return buttons that show and hide the lines of the plot before them."""
    buttons = []
    for k, line in enumerate(line for line in lines if len(line.x)):
        mark = element(
            "svg", {"viewBox": "0 0 24 6", "class": "mark", "aria-hidden": "true"},
            element("line", {
                "x1": 0, "y1": 3, "x2": 24, "y2": 3, "stroke": LINES[k % len(LINES)],
                "stroke-width": 2.5, "stroke-dasharray": DASHES[k // len(LINES) % len(DASHES)],
            }),
        )  # fmt: skip
        buttons.append(
            element(
                "button",
                {"type": "button", "aria-pressed": "true", "data-line": k},
                mark,
                line.name,
            )
        )
    return element("div", {"class": "legend"}, *buttons)


def _parts(line: Line, frame: _Frame) -> list[str]:
    good = np.isfinite(line.x) & np.isfinite(line.y)
    edges = np.flatnonzero(np.diff(good.astype(np.int8)))
    parts = []
    for rows in np.split(np.arange(len(good)), edges + 1):
        if len(rows) and good[rows[0]]:
            places = np.stack([frame.across(line.x[rows]), frame.up(line.y[rows])], axis=1)
            parts.append(" ".join(f"{x:.1f},{y:.1f}" for x, y in places.tolist()))
    return parts


def _span(arrays: Sequence[Array], margin: float = 0.0) -> Span:
    values = np.concatenate([a[np.isfinite(a)] for a in arrays]) if arrays else np.zeros(0)
    if not len(values):
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    if low == high:
        return low - 0.5, high + 0.5
    more = margin * (high - low)
    return low - more, high + more


def draw_map(
    values: Array,
    x_edges: Array,
    y_edges: Array,
    *,
    titles: tuple[str, str],
    unit: str,
    energy: bool,
    target: Mapping[str, Any],
    name: str,
) -> Markup:
    """Draw a two-dimensional histogram with its bar of colours.

    Parameters
    ----------
    values
        Shape (nx, ny); bins with NaN, or with a count of 0, stay empty.
    x_edges, y_edges
        Of the bins, in the unit of the axes.
    titles
        Of the axes.
    unit
        Title of the bar.
    energy
        The values are energies on a linear scale, low ones bright; else counts on a logarithmic
        one, high ones bright.
    target
        ``x`` and ``y``: bounds of the target, or None.
    name
        Part of the test id.
    """
    seen = np.isfinite(values) & (energy | (values > 0))
    frame = _Frame(
        76, 12, 400, 400, (float(x_edges[0]), float(x_edges[-1])),
        (float(y_edges[0]), float(y_edges[-1])),
    )  # fmt: skip
    low, high = (float(values[seen].min()), float(values[seen].max())) if seen.any() else (0.0, 1.0)
    log = not energy and high > 20
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.log(values / low) / max(math.log(high / low), 1e-9) if log else (
            (values - low) / max(high - low, 1e-12)
        )  # fmt: skip
    share = np.where(seen, 1 - share if energy else share, 0.0)
    level = np.where(seen, np.clip((share * len(VIRIDIS)).astype(int), 0, len(VIRIDIS) - 1), -1)
    scale = f"translate({frame.left} {frame.top}) scale({400 / level.shape[0]:.5f} " + (
        f"{400 / level.shape[1]:.5f})"
    )
    bins = element(
        "g", {"transform": scale, "shape-rendering": "crispEdges"},
        *(
            element("path", {"fill": colour, "d": path})
            for k, colour in enumerate(VIRIDIS)
            if (path := _runs(level == k))
        ),
    )  # fmt: skip
    return element(
        "svg",
        {
            "viewBox": "0 0 600 470", "role": "img", "class": "map", "data-testid": f"plot-{name}",
            "aria-label": f"{titles[1]} against {titles[0]}, {unit}",
        },
        bins,
        _target(frame, target.get("x"), target.get("y")),
        _axes(frame, *titles, _angles(frame.x), _angles(frame.y)),
        _bar(frame, (low, high), log, energy, unit),
    )  # fmt: skip


def _angles(span: Span) -> list[float]:
    if abs(span[0] + 180) < 1e-6 and abs(span[1] - 180) < 1e-6:
        return [-180.0, -120.0, -60.0, 0.0, 60.0, 120.0, 180.0]
    return ticks(*span, 6)


def _runs(mask: npt.NDArray[np.bool_]) -> str:
    """Return the bins of a mask as rectangles as long as they go, in units of bins."""
    ny = mask.shape[1]
    path = []
    for row in range(ny):
        line = np.concatenate([[False], mask[:, ny - 1 - row], [False]])
        edges = np.flatnonzero(np.diff(line.astype(np.int8)))
        path += [f"M{a} {row}h{b - a}v1h{a - b}z" for a, b in edges.reshape(-1, 2).tolist()]
    return "".join(path)


def _target(frame: _Frame, x: Sequence[float] | None, y: Sequence[float] | None) -> Markup | None:
    if x is None and y is None:
        return None
    x0, x1 = np.clip(x, *frame.x).tolist() if x is not None else frame.x
    y0, y1 = np.clip(y, *frame.y).tolist() if y is not None else frame.y
    left, right, top, bottom = frame.across(x0), frame.across(x1), frame.up(y1), frame.up(y0)
    return element(
        "g", {"class": "target"},
        element("rect", {"x": left, "y": top, "width": right - left, "height": bottom - top}),
        element("text", {"x": left + 6, "y": top + 16}, "target"),
    )  # fmt: skip


def _axes(
    frame: _Frame, x_title: str, y_title: str, x: Sequence[float], y: Sequence[float]
) -> Markup:
    bottom, right = frame.top + frame.height, frame.left + frame.width
    parts = []
    for value in x:
        at = float(frame.across(value))
        parts.append(element("line", {"x1": at, "y1": frame.top, "x2": at, "y2": bottom}))
        parts.append(
            element("text", {"x": at, "y": bottom + 18, "text-anchor": "middle"}, label(value))
        )
    for value in y:
        at = float(frame.up(value))
        parts.append(element("line", {"x1": frame.left, "y1": at, "x2": right, "y2": at}))
        parts.append(
            element("text", {"x": frame.left - 8, "y": at + 4, "text-anchor": "end"}, label(value))
        )
    middle = frame.top + frame.height / 2
    parts.append(
        element(
            "text",
            {"x": frame.left + frame.width / 2, "y": bottom + 42, "class": "title",
             "text-anchor": "middle"},
            x_title,
        )
    )  # fmt: skip
    parts.append(_sideways(16, middle, y_title))
    return element("g", {"class": "axes"}, *parts)


def _sideways(x: float, y: float, text: str) -> Markup:
    text = text if len(text) <= 40 else f"{text[:39]}…"
    turn = f"translate({x:.1f} {y:.1f}) rotate(-90)"
    return element("text", {"transform": turn, "class": "title", "text-anchor": "middle"}, text)


def _bar(frame: _Frame, span: Span, log: bool, energy: bool, title: str) -> Markup:
    left, (low, high) = frame.left + frame.width + 20, span
    step = frame.height / len(VIRIDIS)
    colours = VIRIDIS if energy else tuple(reversed(VIRIDIS))
    parts = [
        element("rect", {"x": left, "y": frame.top + k * step, "width": 14, "height": step + 0.5,
                         "fill": colour})
        for k, colour in enumerate(colours)
    ]  # fmt: skip
    for value in decades(low, high) if log else ticks(low, high, 6):
        share = (
            math.log(value / low) / max(math.log(high / low), 1e-9)
            if log
            else (value - low) / max(high - low, 1e-12)
        )
        at = frame.top + (1 - share) * frame.height
        parts.append(element("text", {"x": left + 20, "y": at + 4}, label(value)))
    parts.append(_sideways(left + 70, frame.top + frame.height / 2, title))
    return element("g", {"class": "axes"}, *parts)
