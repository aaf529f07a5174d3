"""Figures of a run in the text format of Prometheus (version 0.0.4)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from bridge.dashboard.hub import HubStatistics

__all__ = ["CONTENT_TYPE", "write_metrics"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_OF_SIMULATIONS = (
    ("frames_total", "frames", "counter", "Frames that staging stored."),
    ("rate", "rate", "gauge", "Frames a second, lately."),
    ("lag", "lag", "gauge", "Frames that are not analysed yet."),
    ("quarantined_total", "quarantined", "counter", "Frames set aside by the engine."),
    ("step", "step", "gauge", "Step of the newest frame."),
    ("incarnation", "incarnation", "gauge", "Which life of the simulation writes."),
)
_OF_ENGINE = (
    ("frames_total", "frames", "counter", "Frames analysed since the engine began."),
    ("rate", "rate", "gauge", "Frames analysed a second, lately."),
    ("latency_seconds", "latency", "gauge", "From the put of a frame to its results: median."),
    ("latency_99_seconds", "latency_99", "gauge", "The same: 99th percentile."),
    ("checkpoints_total", "checkpoints", "counter", "Checkpoints written."),
    ("events_total", "events", "counter", "Events told."),
    ("uptime_seconds", "uptime", "gauge", "Seconds since the engine began."),
)
_GAUGES = {"clients", "subscriptions", "in_flight", "slower"}
_OF_PAGE = {
    "clients": "Pages that are connected.",
    "subscriptions": "Of all pages.",
    "in_flight": "Messages that were sent and not acknowledged yet; none queues behind them.",
    "sent": "Messages sent to pages.",
    "sent_bytes": "Bytes sent to pages.",
    "skipped": "Messages not made, as the page had not acknowledged the one before.",
    "made": "Answers made.",
    "shared": "Answers that had been made for somebody else.",
    "refused": "Requests turned away: wrong token, host or origin.",
    "slower": "Times slower than pages ask for, since the run needs all processors.",
}

Sample = tuple[Mapping[str, str], float]


def write_metrics(feed: Any, statistics: HubStatistics) -> str:
    """Return all figures; asks the feed, so it may block."""
    lines: list[str] = []
    overview = feed.overview()
    pipeline = feed.pipeline()
    rows = overview["simulations"]
    for name, key, kind, text in _OF_SIMULATIONS:
        found = [({"simulation": r["name"]}, r.get(key)) for r in rows]
        _write(lines, f"headrace_{name}", kind, text, _numbers(found))
    dropped = [
        ({"simulation": r["name"], "where": where}, count)
        for r in rows
        for where, count in (r.get("dropped_by") or {}).items()
    ]
    _write(
        lines, "headrace_dropped_total", "counter", "Frames dropped, and where.", _numbers(dropped)
    )
    states = [({"simulation": r["name"], "state": str(r.get("state"))}, 1) for r in rows]
    _write(lines, "headrace_simulation_state", "gauge", "1 for the state.", _numbers(states))
    engine = pipeline.get("engine") or {}
    labels = {"pipeline": str(engine.get("pipeline", "")), "engine": str(engine.get("engine", ""))}
    for name, key, kind, text in _OF_ENGINE:
        _write(lines, f"headrace_engine_{name}", kind, text, _numbers([(labels, engine.get(key))]))
    seconds = [
        ({**labels, "operator": name}, spent)
        for name, spent in (engine.get("seconds") or {}).items()
    ]
    _write(
        lines, "headrace_operator_seconds_total", "counter", "Time spent in an operator.",
        _numbers(seconds),
    )  # fmt: skip
    sizes = [
        ({**labels, "operator": str(node["name"])}, node.get("state_bytes"))
        for node in pipeline.get("nodes", [])
        if node.get("kind") in ("operator", "policy")
    ]
    _write(
        lines, "headrace_operator_state_bytes", "gauge",
        "State of an operator, of all simulations, when it was last saved.", _numbers(sizes),
    )  # fmt: skip
    verdicts = [
        ({"verdict": name}, count) for name, count in (engine.get("verdicts") or {}).items()
    ]
    _write(lines, "headrace_decisions_total", "counter", "Decisions.", _numbers(verdicts))
    alarms: dict[tuple[str, str], int] = {}
    for alarm in overview.get("alarms", []):
        key_of = (str(alarm.get("rule", "")), str(alarm.get("level", "")))
        alarms[key_of] = alarms.get(key_of, 0) + 1
    told = [({"rule": rule, "level": level}, count) for (rule, level), count in alarms.items()]
    _write(lines, "headrace_alarms", "gauge", "Alarms that last.", _numbers(told))
    for one in fields(statistics):
        kind = "gauge" if one.name in _GAUGES else "counter"
        ending = "" if one.name in _GAUGES else "_total"
        _write(
            lines, f"headrace_dashboard_{one.name}{ending}", kind, _OF_PAGE[one.name],
            [({}, float(getattr(statistics, one.name)))],
        )  # fmt: skip
    return "\n".join(lines) + "\n"


def _numbers(found: Iterable[tuple[Mapping[str, str], Any]]) -> list[Sample]:
    return [
        (labels, float(value))
        for labels, value in found
        if isinstance(value, int | float) and math.isfinite(value)
    ]


def _write(lines: list[str], name: str, kind: str, text: str, samples: list[Sample]) -> None:
    if not samples:
        return
    lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
    for labels, value in samples:
        told = ",".join(f'{key}="{_escape(label)}"' for key, label in labels.items())
        shown = f"{int(value)}" if value.is_integer() and abs(value) < 2**53 else repr(value)
        lines.append(f"{name}{{{told}}} {shown}" if told else f"{name} {shown}")


def _escape(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
