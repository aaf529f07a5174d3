"""Which plots a report has, and of how much."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from bridge.dashboard.report.figures import Line, draw_map, draw_series, legend
from bridge.dashboard.report.markup import Markup, element
from bridge.dashboard.units import shown_of, unit_of, with_unit
from bridge.errors import HeadraceError

__all__ = ["FeedLike", "draw_all_maps", "draw_all_series"]

PLOTS, LINES, MAPS = 8, 14, 6
"""Columns with a plot, lines in one plot, and maps: the first of each."""
BINS = ((0, 24), (2_000, 36), (10_000, 60), (50_000, 90))
"""Frames from which on so many bins along each axis of a map are worth it."""


class FeedLike(Protocol):
    """What of `bridge.dashboard.feed.Feed` a report needs."""

    def run(self, at: float | None = None) -> dict[str, Any]:
        """Return what the run is."""

    def overview(self, at: float | None = None) -> dict[str, Any]:
        """Return a row for each simulation, and totals."""

    def pipeline(self, at: float | None = None) -> dict[str, Any]:
        """Return the operators as a graph."""

    def events(self, after: int = 0, limit: int = 500, at: float | None = None) -> dict[str, Any]:
        """Return events."""

    def ledger(
        self, after_revision: int = 0, limit: int = 500, at: float | None = None
    ) -> dict[str, Any]:
        """Return lines of the ledger."""

    def series(
        self,
        columns: Sequence[str],
        simulations: Sequence[str] | None = None,
        x: Any = "time",
        limit: int = 2000,
    ) -> Any:
        """Return columns over time."""

    def histogram(
        self,
        x: str,
        y: str | None = None,
        *,
        bins: int = 60,
        range: Any = None,
        kind: Any = "counts",
    ) -> Any:
        """Return a histogram."""  # fmt: skip


def draw_all_series(
    feed: FeedLike, run: Mapping[str, Any], points: int
) -> tuple[list[dict[str, Any]], list[Markup]]:
    """Return the series that are drawn, as plain data, and a figure for each column."""
    names = _numbers(run)
    some = run["simulations"][:LINES]
    x_title = with_unit("simulated time", run["time_unit"])
    data: list[dict[str, Any]] = []
    plots: list[Markup] = []
    for name in names[:PLOTS]:
        try:
            meta, arrays = feed.series([name], some, x="time", limit=points)
        except HeadraceError:
            continue  # A column of which nothing is kept.
        unit, factor = shown_of(name, run)
        lines = [
            Line(entry["simulation"], *_broken(arrays, entry, factor))
            for entry in meta["series"]
            if entry["points"]
        ]
        if not lines:
            continue
        of = sum(int(entry["total"]) for entry in meta["series"])
        shown = sum(len(line.x) for line in lines)
        title = with_unit(name, unit)
        said = [f"{len(lines)} of {len(run['simulations'])} simulations"]
        if of > shown or meta.get("sampled"):
            said.append(f"thinned to {shown:,} points")
        picture = draw_series(lines, x_title=x_title, y_title=title, name=name)
        caption = element("figcaption", {}, "; ".join(said) + ".")
        heading = element("h3", {}, title)
        plots.append(element("figure", {}, heading, picture, legend(lines), caption))
        data += [
            {
                "simulation": line.name,
                "column": name,
                "unit": unit,
                "x": _listed(line.x),
                "y": _listed(line.y),
            }
            for line in lines
        ]
    if not plots:
        plots.append(element("p", {"class": "soft"}, "There are no results."))
    elif len(names) > PLOTS:
        more = f"{len(names) - PLOTS} further numbers of the results are not drawn here."
        plots.append(element("p", {"class": "soft"}, more))
    return data, plots


def _broken(
    arrays: Mapping[str, np.ndarray[Any, Any]], entry: Mapping[str, Any], factor: float
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return a line's points, with a NaN wherever its epoch changes."""
    x, y, epochs = (arrays[f"{name}{entry['index']}"] for name in "xye")
    at = np.flatnonzero(np.diff(epochs)) + 1
    x, y = x.astype(np.float64), y.astype(np.float64) * factor
    return np.insert(x, at, x[at]), np.insert(y, at, np.nan)


def _numbers(run: Mapping[str, Any]) -> list[str]:
    """Return what is drawn over time: single numbers before those of longer columns."""
    kept = [c for c in run["columns"] if c.get("source") == "results" and c.get("kept", True)]
    single = [c["name"] for c in kept if c["size"] == 1]
    names = single + [
        f"{c['name']}[{i}]" for c in kept if c["size"] > 1 for i in range(min(c["size"], 4))
    ]
    # The version of a model says least over time.
    return sorted(names, key=lambda name: name.endswith("_version"))


def draw_all_maps(
    feed: FeedLike, run: Mapping[str, Any]
) -> tuple[list[dict[str, Any]], list[Markup]]:
    """Return the maps of the run's report, as plain data, and a figure for each."""
    data: list[dict[str, Any]] = []
    drawn: list[Markup] = []
    for one in run["maps"][:MAPS]:
        angles = all(unit_of(one[axis], run) == "rad" for axis in "xy")
        # Labels that a map declares say its unit themselves.
        degrees = bool(one.get("degrees")) or (angles and not one.get("labels"))
        span = [[-np.pi, np.pi]] * 2 if degrees else None
        kind = "free_energy" if run["temperature"] else "counts"
        try:
            meta, _ = feed.histogram(one["x"], one["y"], bins=2, range=span)
            bins = max(n for least, n in BINS if meta["total"] >= least)
            meta, arrays = feed.histogram(one["x"], one["y"], bins=bins, range=span, kind=kind)
        except HeadraceError:
            continue  # The results have no such columns.
        if not meta["total"]:
            continue
        scale = 180 / np.pi if degrees else 1.0
        x, y = arrays["x_edges"] * scale, arrays["y_edges"] * scale
        energy = kind == "free_energy"
        name = str(one.get("name") or f"{one['x']}-{one['y']}")
        labels = one.get("labels") or [
            with_unit(one[axis], "°" if degrees else shown_of(one[axis], run)[0]) for axis in "xy"
        ]
        said = f"{meta['total']:,} frames" + (", an even sample" if meta.get("sampled") else "")
        if energy:
            said += f"; −RT ln p at {run['temperature']:g} K, its least value set to 0"
        picture = draw_map(
            arrays["values"], x, y, titles=(str(labels[0]), str(labels[1])), energy=energy,
            unit="free energy / kJ/mol" if energy else "frames in a bin", name=name,
            target={"x": one.get("target_x"), "y": one.get("target_y")},
        )  # fmt: skip
        drawn.append(
            element("figure", {}, element("h3", {}, one.get("title") or name), picture,
                    element("figcaption", {}, said + "."))
        )  # fmt: skip
        data.append(
            {"name": name, "kind": kind, "x_edges": _listed(x), "y_edges": _listed(y),
             "values": [_listed(row) for row in arrays["values"]]}
        )  # fmt: skip
    return data, drawn


def _listed(values: np.ndarray[Any, Any]) -> list[float | None]:
    """Return numbers of as many digits as plots are worth; None for those that are not finite."""
    return [float(f"{v:.6g}") if np.isfinite(v) else None for v in values.tolist()]
