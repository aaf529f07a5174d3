"""The pipeline as a graph: who hands what to whom, how fast, and who waits."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

import msgspec

from bridge.dashboard.about import About
from bridge.dashboard.scopes import find_scope, find_target
from bridge.dashboard.stores.memory import Memory
from bridge.dashboard.stores.plain import fields, plain
from bridge.engines.protocol import EngineStatistics

__all__ = ["make_graph"]

WINDOW = 6
"""Samples of the status over which shares of time are taken."""

POLICIES = (".policies.", "policy", "steer")
"""What the module or the name of an operator that decides on commands has in it."""

MODEL_EVENTS = (
    "model_ready", "first_model", "candidate", "promoted", "refused", "rolled_back",
    "version_changed", "drift",
)  # fmt: skip
SERVED = ("first_model", "promoted", "rolled_back", "version_changed")
"""Those that say which version is used from then on."""


def make_graph(
    memory: Memory, about: About, pipeline: str, at: float | None, *, over: bool = False
) -> dict[str, Any]:
    """Return nodes, edges, engine, checkpoints and models; see `Feed.pipeline`.

    Of a run that is `over`, rates and shares are means of all of it: there is no present.
    """
    rows = memory.simulations.rows(at, mean=over)
    engine = _status(memory, pipeline, at)
    shares = _shares(memory, pipeline, at)
    if over and engine is not None:
        engine, shares = _mean(memory, pipeline, engine)
    states = _states(memory, pipeline, at)
    nodes = [_simulations_node(rows, about), _stager_node(memory)]
    operators = _operators(about, engine)
    models = _models(memory, at)
    versions = _versions(memory, at)
    for model in models:
        if model["version"] is None:
            # What is learned within an operator tells of its first model alone.
            model["version"] = versions.get(model["operator"])
    for table in operators:
        nodes.append(
            _operator_node(
                table,
                engine,
                shares,
                states,
                models,
                versions,
                str(about.resolved.get("base", "")),
            )
        )
    nodes.append({"id": "guard", "kind": "guard", "name": "guard", "use": "guard"})
    beside = _beside(about, memory, pipeline, at, models, over=over)
    nodes += beside
    made = {
        "nodes": [_whole(n) for n in nodes],
        "edges": _edges(rows, operators, engine, beside, memory),
        "engine": None if engine is None else {**fields(engine), "lag": _lag(rows)},
        "checkpoints": _checkpoints(about, engine, at),
        "models": models,
        "mean": over,
    }
    return dict(plain(made, items=10_000))


def _checkpoints(about: About, engine: EngineStatistics | None, at: float | None) -> dict[str, Any]:
    """Return how many were written, and the size of a local engine's newest."""
    out: dict[str, Any] = {"written": engine.checkpoints if engine is not None else 0}
    if about.directory is not None and at is None:
        with contextlib.suppress(OSError):
            out["bytes"] = about.directory.checkpoint.stat().st_size
    return out


def _status(memory: Memory, pipeline: str, at: float | None) -> EngineStatistics | None:
    history = memory.statuses.get(pipeline)
    if history is None:
        return None
    if at is None:
        return memory.latest.get(pipeline)
    return history.at(at)


def _mean(
    memory: Memory, pipeline: str, last: EngineStatistics
) -> tuple[EngineStatistics, dict[str, float]]:
    """Return an engine's last status with its mean rate, and the shares of time of all of it.

    Of the time in which frames came: it may have waited long for the first, or after the last.
    """
    begin, end = 0.0, last.uptime
    for _, status in memory.statuses[pipeline]:
        if not status.frames:
            begin = status.uptime
        elif status.frames == last.frames:
            end = status.uptime
            break
    lasted = end - begin
    if lasted <= 0:
        return last, _all_shares(last)
    rate = round(last.frames / lasted, 1)
    shares = {name: min(1.0, seconds / lasted) for name, seconds in last.seconds.items()}
    return msgspec.structs.replace(last, rate=rate), shares


def _all_shares(status: EngineStatistics) -> dict[str, float]:
    """Return which part of the time each operator took, since the engine began."""
    if status.uptime <= 0:
        return {}
    return {name: seconds / status.uptime for name, seconds in status.seconds.items()}


def _states(memory: Memory, pipeline: str, at: float | None) -> dict[str, int]:
    """Return the bytes of each operator's state when it was last saved.

    An engine that ends lets go of the states of simulations that have ended; what they were just
    before says more.
    """
    history = memory.statuses.get(pipeline)
    out: dict[str, int] = {}
    for _, past in history.before(at, WINDOW) if history is not None else ():
        if past.state == "running":
            out = {**out, **past.states}
    status = _status(memory, pipeline, at)
    return out if status is None else {**out, **status.states}


def _shares(memory: Memory, pipeline: str, at: float | None) -> dict[str, float]:
    """Return which part of the time each operator took lately."""
    history = memory.statuses.get(pipeline)
    some = history.before(at, WINDOW) if history is not None else []
    if not some:
        return {}
    (_, first), (_, last) = some[0], some[-1]
    lasted = last.stamp - first.stamp
    if lasted <= 0 or last.uptime < first.uptime:
        return _all_shares(last)
    return {
        name: max(0.0, seconds - first.seconds.get(name, 0.0)) / lasted
        for name, seconds in last.seconds.items()
    }


def _whole(node: dict[str, Any]) -> dict[str, Any]:
    empty = dict.fromkeys(
        ("use", "scope", "seconds", "share", "rate", "state_bytes", "version", "drift")
    )
    return {**empty, **node}


def _simulations_node(rows: list[dict[str, Any]], about: About) -> dict[str, Any]:
    return {
        "id": "simulations",
        "kind": "simulation-group",
        "name": f"{len(rows)} simulations" if len(rows) != 1 else rows[0]["name"],
        "use": about.adapter,
        "count": len(rows),
        "rate": _sum_of(r["rate"] for r in rows),
    }


def _stager_node(memory: Memory) -> dict[str, Any]:
    held = sum(t.allocated for t in memory.topics.values())
    return {"id": "stager", "kind": "stager", "name": "stager", "use": "", "state_bytes": held}


def _operators(about: About, engine: EngineStatistics | None) -> list[dict[str, Any]]:
    """Return name and use of each operator, as configured; else as the engine names them."""
    tables = about.table("pipeline").get("operators")
    out = []
    for table in tables if isinstance(tables, list) else []:
        use = str(table.get("use", ""))
        name = str(table.get("name") or use.rpartition(":")[2])
        out.append({"name": name, "use": use, "output": str(table.get("output") or name)})
    if not out and engine is not None:
        out = [{"name": name, "use": "", "output": name} for name in engine.seconds]
    return out


def _operator_node(
    table: dict[str, Any],
    engine: EngineStatistics | None,
    shares: dict[str, float],
    states: dict[str, int],
    models: list[dict[str, Any]],
    versions: dict[str, int],
    folder: str,
) -> dict[str, Any]:
    name, use = table["name"], table["use"]
    target = find_target(use).lower()
    policy = any(word in target or word in name.lower() for word in POLICIES)
    model = next((m for m in models if m["name"] == name or m["operator"] == name), None)
    return {
        "id": f"operator/{name}",
        "kind": "policy" if policy else "operator",
        "name": name,
        "use": use,
        "scope": find_scope(use, folder) or None,
        "seconds": engine.seconds.get(name) if engine is not None else None,
        "share": shares.get(name),
        "state_bytes": states.get(name),
        "rate": engine.rate if engine is not None else None,
        # That of the newest results, where they say so: the last that was made may not be used yet.
        "version": versions.get(table["output"], model["version"] if model else None),
        "drift": model["drift"] if model else None,
    }


def _beside(
    about: About,
    memory: Memory,
    pipeline: str,
    at: float | None,
    models: list[dict[str, Any]],
    *,
    over: bool,
) -> list[dict[str, Any]]:
    """Return the trainers and services."""
    names = {str(n) for n in about.table("training")} | (memory.statuses.keys() - {pipeline})
    out = []
    for name in sorted(names):
        status = _status(memory, name, at)
        shares = _shares(memory, name, at)
        if over and status is not None:
            status, shares = _mean(memory, name, status)
        mine = next((m for m in models if m["pipeline"] == name), None)
        out.append(
            {
                "id": f"trainer/{name}",
                "kind": "trainer",
                "name": name,
                "use": "training",
                "seconds": sum(status.seconds.values()) if status is not None else None,
                "share": sum(shares.values()) or None,
                "state_bytes": sum(_states(memory, name, at).values()) or None,
                "rate": status.rate if status is not None else None,
                "version": mine["version"] if mine else None,
                "drift": mine["drift"] if mine else None,
            }
        )
    services = {str(n): str(t.get("use", "")) for n, t in about.table("service").items()}
    for topic in memory.topics:
        if topic.startswith("requests/"):
            services.setdefault(topic.partition("/")[2].partition("@")[0], "")
    for name, use in sorted(services.items()):
        topic_now = memory.topics.get(f"requests/{name}")
        out.append(
            {
                "id": f"service/{name}",
                "kind": "service",
                "name": name,
                "use": use,
                "answers": topic_now.end if topic_now is not None else 0,
            }
        )
    return out


def _edges(
    rows: list[dict[str, Any]],
    operators: list[dict[str, Any]],
    engine: EngineStatistics | None,
    beside: list[dict[str, Any]],
    memory: Memory,
) -> list[dict[str, Any]]:
    pressure = max((r["pressure"] or 0.0 for r in rows), default=0.0)
    rate = _sum_of(r["rate"] for r in rows)
    done = engine.rate if engine is not None else None
    latency = engine.latency if engine is not None else None
    edges = [_edge("simulations", "stager", rate=rate, pressure=pressure)]
    before = "stager"
    for table in operators:
        here = f"operator/{table['name']}"
        first = before == "stager"
        edges.append(
            _edge(
                before, here, rate=done, latency=latency if first else None,
                lag=_lag(rows) if first else None, pressure=pressure if first else None,
            )
        )  # fmt: skip
        before = here
    decided = engine.decisions if engine is not None else None
    edges.append(_edge(before, "guard", total=decided))
    edges.append(_edge("guard", "simulations", total=engine.sent if engine is not None else None))
    for node in beside:
        if node["kind"] == "trainer":
            late = memory.latest.get(node["name"])
            lag = late.lag if late is not None else None
            edges.append(_edge("stager", node["id"], rate=node.get("rate"), lag=lag))
        else:
            edges.append(_edge("simulations", node["id"], total=node.get("answers")))
    return edges


def _edge(begin: str, end: str, **more: Any) -> dict[str, Any]:
    empty = dict.fromkeys(("rate", "latency", "lag", "pressure", "total"))
    return {"from": begin, "to": end, **empty, **more}


def _sum_of(rates: Iterable[float | None]) -> float | None:
    """Return the sum of what is known; None where nothing is, which is not the same as 0."""
    known = [rate for rate in rates if rate is not None]
    return sum(known) if known else None


def _lag(rows: list[dict[str, Any]]) -> int:
    return sum(r["lag"] for r in rows)


def _versions(memory: Memory, at: float | None) -> dict[str, int]:
    """Return the newest version of each model in the results, by the name of its output."""
    out = {}
    for column in memory.results.columns:
        stem, found, rest = column.rpartition("_version")
        if not stem or not found or rest:
            continue
        known = [
            one["version"]
            for one in memory.results.versions(column)
            if at is None or one["stamp"] <= at
        ]
        if known:
            out[stem] = int(known[-1])
    return out


def _models(memory: Memory, at: float | None) -> list[dict[str, Any]]:
    """Return each model of which events tell: its version, and how far its frames have drifted."""
    found: dict[str, dict[str, Any]] = {}
    for event in memory.events.all():
        if event.kind not in MODEL_EVENTS or (at is not None and event.stamp > at):
            continue
        source, _, operator = event.source.partition("/")
        data = event.data
        name = str(data.get("model") or data.get("name") or operator or source)
        model = found.setdefault(
            name,
            {"name": name, "pipeline": source, "operator": operator, "version": None,
             "drift": None, "events": []},
        )  # fmt: skip
        if event.kind in SERVED:
            version = data.get("number", data.get("version"))
            model["version"] = version if version is not None else model["version"]
        if event.kind == "drift":
            model["drift"] = event.message
        elif event.kind in ("promoted", "rolled_back"):
            model["drift"] = None
        model["events"] = [
            *model["events"][-19:],
            {"kind": event.kind, "message": event.message, "stamp": event.stamp},
        ]
    return sorted(found.values(), key=lambda m: str(m["name"]))
