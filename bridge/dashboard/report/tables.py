"""The tables of a report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bridge.dashboard.report.markup import Markup, element, table
from bridge.dashboard.report.words import count, number, since, words
from bridge.dashboard.units import with_unit
from bridge.steering.ledger import word_of

__all__ = ["list_events", "list_ledger", "list_operators", "list_simulations"]


def list_simulations(overview: Mapping[str, Any]) -> Markup:
    """Return one simulation a row."""
    time = with_unit("Time", overview["totals"].get("time_unit") or "")
    return table(
        ["Simulation", "State", "Frames", "Step", time, "Restarts", "Dropped", "Quarantined"],
        [
            [
                s["name"], words(s["state"]), count(s.get("frames")), count(s["step"]),
                "" if s["time"] is None else f"{s['time']:.6g}", count(s.get("epoch")),
                count(s["dropped"]), count(s["quarantined"]),
            ]
            for s in overview["simulations"]
        ],
        name="report-simulations",
        numbers=range(2, 8),
    )  # fmt: skip


def list_ledger(ledger: Mapping[str, Any], run: Mapping[str, Any]) -> list[Markup]:
    """Return the newest decisions, with a filter."""
    rows = [
        [
            since(line.get("decided"), run), line.get("simulation", ""),
            line.get("what") or line.get("kind", ""), line.get("why", ""), line.get("author", ""),
            words(word_of(line.get("outcome"), line.get("verdict"), over=run["state"] == "ended")),
            count(line.get("step")), _evidence(line.get("evidence")),
        ]
        for line in reversed(ledger["lines"])
    ]  # fmt: skip
    head = ["At / s", "Simulation", "What", "Why", "Who", "Became", "At step", "Evidence"]
    listed = table(head, rows, name="report-ledger", numbers=(0, 6))
    return [
        _left_out(ledger.get("total", 0), len(rows), "decisions"),
        _filter("report-ledger", "Filter the decisions"), listed,
    ]  # fmt: skip


def list_events(events: Mapping[str, Any], run: Mapping[str, Any]) -> list[Markup]:
    """Return the newest events, with a filter."""
    rows = [
        [since(e.get("stamp"), run), words(e["kind"]), e["level"], e["simulation"], e["message"]]
        for e in reversed(events["events"])
    ]
    listed = table(
        ["At / s", "Kind", "Level", "Simulation", "Message"], rows, name="report-events",
        numbers=(0,),
    )  # fmt: skip
    return [
        _left_out(events.get("total", 0), len(rows), "events"),
        _filter("report-events", "Filter the events"), listed,
    ]  # fmt: skip


def list_operators(pipeline: Mapping[str, Any]) -> Markup:
    """Return the nodes of the pipeline."""
    rows = [
        [
            node["name"], words(node["kind"]), node.get("use") or "",
            "" if node.get("seconds") is None else f"{node['seconds']:.3g}",
            "" if node.get("version") is None else node["version"],
        ]
        for node in pipeline["nodes"]
    ]  # fmt: skip
    return table(
        ["Name", "Kind", "Use", "Seconds", "Version"], rows, name="report-operators",
        numbers=(3, 4),
    )  # fmt: skip


def _left_out(total: int, shown: int, what: str) -> Markup:
    more = f" Of {total:,} {what}, the newest {shown:,}." if total > shown else ""
    return element("p", {"class": "soft"}, f"Newest first.{more}" if shown else f"No {what}.")


def _filter(name: str, label: str) -> Markup:
    return element(
        "input", {"type": "search", "data-filter": name, "aria-label": label, "placeholder": label,
                  "hidden": True},
    )  # fmt: skip


def _evidence(values: Mapping[str, Any] | None) -> str:
    shown = [f"{k} = {number(v)}" for k, v in (values or {}).items()]
    return ", ".join(shown[:8]) + (" …" if len(shown) > 8 else "")
