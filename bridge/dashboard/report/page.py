"""The report's page: what of the run goes in, and how much of it."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from bridge.dashboard.report.markup import Markup, data_block, element
from bridge.dashboard.report.plots import FeedLike, draw_all_maps, draw_all_series
from bridge.dashboard.report.tables import (
    list_events,
    list_ledger,
    list_operators,
    list_simulations,
)
from bridge.dashboard.report.words import date, duration, words

__all__ = ["make_static_report"]

MOST_LINES = 2000
"""Lines of the ledger and of the events: the newest."""


def make_static_report(feed: FeedLike, *, points: int = 600) -> bytes:
    """Return the run as one HTML page, in UTF-8, that needs no server and no network.

    Plots are SVG, the numbers behind them a block of JSON, and the page's own policy
    (``Content-Security-Policy``) lets nothing run or be loaded but the styles and the script that
    are in it. What is left out of a long run is said on the page.

    Parameters
    ----------
    feed
        The run, live or over.
    points
        Points of each line at most.

    Raises
    ------
    HeadraceError
        If the run cannot be read.
    """
    run = feed.run()
    overview, pipeline = feed.overview(), feed.pipeline()
    ledger, events = feed.ledger(limit=MOST_LINES), feed.events(limit=MOST_LINES)
    series, plots = draw_all_series(feed, run, points)
    maps, drawn = draw_all_maps(feed, run)
    parts = [
        _head(run),
        _cards(run, overview, ledger, events),
        _section("Observables", *plots),
        _section("Maps", element("div", {"class": "maps"}, *drawn)) if drawn else None,
        _section("Simulations", list_simulations(overview)),
        _section("Decisions", *list_ledger(ledger, run)),
        _section("Events", *list_events(events, run)),
        _section("Operators", list_operators(pipeline)),
        data_block(
            "data",
            {
                "run": run, "overview": overview, "pipeline": pipeline, "series": series,
                "maps": maps, "ledger": ledger["lines"], "events": events["events"],
            },
        ),
    ]  # fmt: skip
    return _document(str(run["title"] or run["name"]), parts).encode()


def _document(title: str, parts: Sequence[Markup | None]) -> str:
    folder = files("bridge.dashboard.report")
    style = folder.joinpath("report.css").read_text(encoding="utf-8")
    script = folder.joinpath("report.js").read_text(encoding="utf-8")
    policy = (
        f"default-src 'none'; style-src {_digest(style)}; script-src {_digest(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    head = (
        '<meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="referrer" content="no-referrer">'
        f"{element('title', {}, title)}<style>{style}</style>"
    )
    body = "".join(part for part in parts if part is not None)
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}</head><body>{body}'
        f"<script>{script}</script></body></html>\n"
    )


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _section(title: str, *children: Markup | None) -> Markup:
    return element("section", {}, element("h2", {}, title), *children)


def _head(run: Mapping[str, Any]) -> Markup:
    state = str(run["state"]) + (f", {words(run['outcome'])}" if run["outcome"] else "")
    said = [f"Run {run['name']}", f"pipeline {run['pipeline']}" if run["pipeline"] else "", state]
    if run["started"]:
        said.append(f"started {date(run['started'])}")
    if run["started"] and run["ended"]:
        said.append(f"lasted {duration(run['ended'] - run['started'])}")
    return element(
        "header", {},
        element("h1", {}, run["title"] or run["name"]),
        element("p", {"class": "soft"}, " · ".join(filter(None, said))),
        element("p", {}, run["reason"]) if run.get("reason") else None,
        element("p", {"class": "soft"}, f"Written {date(time.time())}. ",
                element("button", {"type": "button", "class": "save", "hidden": True},
                        "Save the data as JSON")),
    )  # fmt: skip


def _cards(
    run: Mapping[str, Any],
    overview: Mapping[str, Any],
    ledger: Mapping[str, Any],
    events: Mapping[str, Any],
) -> Markup:
    totals = overview["totals"]
    lines = ledger["lines"]
    applied = sum(line.get("outcome") == "applied" for line in lines)
    unit = f" {totals['time_unit']}" if totals.get("time_unit") else ""
    figures = [
        (totals["simulations"], "simulations"),
        (f"{totals['frames']:,}", "frames"),
        (f"{totals['time']:,.6g}{unit}", "simulated time"),
        (f"{ledger.get('total', len(lines)):,}", f"decisions, {applied:,} applied"),
        (f"{events.get('total', len(events['events'])):,}", "events"),
        (f"{totals['dropped']:,}", "frames dropped"),
        (f"{totals['quarantined']:,}", "frames quarantined"),
        (run["engine"] or "–", "engine"),
    ]
    return element(
        "div", {"class": "cards"},
        *(element("div", {}, element("b", {}, v), element("span", {}, n)) for v, n in figures),
    )  # fmt: skip
