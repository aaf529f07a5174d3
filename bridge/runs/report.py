"""The figures of a run: what ``report.json`` holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from bridge.commands import Event
from bridge.runs.plan import Plan, describe_machine, list_versions
from bridge.runs.watch import Snapshot
from bridge.steering import LedgerLine, state_of

__all__ = ["Ending", "make_report", "summarise"]


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """How a run ended, as its supervisor saw it.

    Attributes
    ----------
    outcome, reason
        ``finished``, ``target_reached``, ``limit_reached``, ``interrupted`` or ``failed``; why.
    failures
        What went wrong, in the order in which it did.
    started
        Unix time in seconds.
    wall_time
        Seconds from the start to the end of the last member and of the engine.
    restarts
        Process to how often it was started again.
    """

    outcome: str
    reason: str
    failures: tuple[str, ...] = ()
    started: float
    wall_time: float
    restarts: dict[str, int] = {}


def summarise(values: Sequence[float]) -> dict[str, float] | None:
    """Return number, median, 99th percentile and greatest of some durations; None without any."""
    if not len(values):
        return None
    array = np.asarray(values, np.float64)
    return {
        "count": len(array),
        "median_s": float(np.median(array)),
        "p99_s": float(np.percentile(array, 99)),
        "max_s": float(array.max()),
    }


def make_report(
    plan: Plan,
    ending: Ending,
    snapshot: Snapshot,
    ledger: Sequence[LedgerLine],
    events: Sequence[Event],
    *,
    streams: Mapping[str, Sequence[str]],
    put: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Return the report as plain data.

    Its ``decisions`` hold three times of those commands that were sent, each as `summarise` has
    it: ``put_to_decision``, from the frame that caused it; ``decision_to_applied``; and
    ``put_to_applied``, of both together. Those that begin with the frame are of the commands in
    `put` alone: ``count`` says how many.

    Parameters
    ----------
    plan
        What was to be done.
    ending
        How it ended.
    snapshot
        The state of the streams at the end.
    ledger, events
        All of both.
    streams
        Member to the simulations that it ran.
    put
        When the frames were put that caused commands, as `bridge.runs.latency.read_put_times` has
        them.
    """
    table = plan.configuration.report
    target = next((e for e in events if e.kind == table.event), snapshot.target)
    unit = snapshot.time_unit
    data: dict[str, Any] = dict(target.data) if target else {}
    engine = snapshot.engine
    return {
        "name": plan.configuration.run.name,
        "control": plan.control or None,
        "seed": plan.configuration.run.seed,
        "outcome": ending.outcome,
        "reason": ending.reason,
        "failures": list(ending.failures),
        "started": ending.started,
        "wall_time_s": ending.wall_time,
        "simulated_time": {
            "unit": unit,
            "total": snapshot.total_time,
            "to_event": data.get("total_time"),
        },
        "event": None if target is None else msgspec.to_builtins(target),
        "frames": snapshot.frames,
        "frames_per_second": snapshot.frames / ending.wall_time if ending.wall_time else 0.0,
        "dropped": sum(s.dropped for s in snapshot.simulations),
        "quarantined": sum(s.quarantined for s in snapshot.simulations),
        "simulations": _simulations(snapshot, ledger, streams, ending),
        "process_restarts": {name: n for name, n in ending.restarts.items() if n},
        "decisions": _decisions(ledger, put or {}),
        "events": dict(Counter(e.kind for e in events)),
        "engine": None if engine is None else msgspec.to_builtins(engine),
        "versions": list_versions(),
        "machine": describe_machine(),
        "configuration": msgspec.to_builtins(plan.configuration),
        "source": plan.source,
    }


def _simulations(
    snapshot: Snapshot,
    ledger: Sequence[LedgerLine],
    streams: Mapping[str, Sequence[str]],
    ending: Ending,
) -> list[dict[str, Any]]:
    member_of = {s: member for member, simulations in streams.items() for s in simulations}
    applied = Counter(
        line.simulation for line in ledger if line.kind == "restart" and line.outcome == "applied"
    )
    return [
        {
            "name": s.name,
            "member": member_of.get(s.name, ""),
            "frames": s.frames,
            "step": s.step,
            "simulated_time": s.time,
            "restarts": applied[s.name],
            "lives": s.incarnation,
            "process_restarts": ending.restarts.get(member_of.get(s.name, ""), 0),
            "dropped": s.dropped,
            "quarantined": s.quarantined,
            "unanalysed": s.lag,
        }
        for s in snapshot.simulations
    ]


def _decisions(ledger: Sequence[LedgerLine], put: Mapping[str, float]) -> dict[str, Any]:
    sent = [line for line in ledger if line.verdict in ("sent", None)]
    applied = [line for line in sent if line.outcome == "applied"]
    return {
        "total": len(ledger),
        "kinds": dict(Counter(line.kind for line in ledger)),
        "verdicts": dict(Counter(line.verdict or "unguarded" for line in ledger)),
        "outcomes": dict(Counter(state_of(line, over=True) for line in sent)),
        "answered_twice": sum(line.answers > 1 for line in ledger),
        "put_to_decision": summarise(
            [line.decided - put[line.id] for line in sent if line.id in put and line.decided]
        ),
        "decision_to_applied": summarise(
            [line.latency for line in applied if line.latency is not None]
        ),
        "put_to_applied": summarise(
            # What a person thought about says nothing of how quick the machinery is.
            [
                line.answered - put[line.id]
                for line in applied
                if line.id in put and line.approval is None
            ]
        ),
    }
