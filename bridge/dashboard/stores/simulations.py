"""How each simulation stands, and stood: steps, rates, drops, and where they happened."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import numpy.typing as npt

from bridge.commands import Capability
from bridge.dashboard.stores.history import History
from bridge.dashboard.stores.results import ResultStore, true_offsets
from bridge.engines.protocol import SimulationProgress
from bridge.schema import StreamSchema
from bridge.staging.messages import TopicStatus

__all__ = ["FIELDS", "STATES", "SimulationStore"]

Array = npt.NDArray[np.float64]

STATES = ("waiting", "running", "paused", "finished", "lost")
FIELDS = (
    "state", "frames", "step", "time", "epoch", "incarnation", "connected", "rate", "ns_per_day",
    "lag", "full", "incomplete", "missed", "unseen", "quarantined", "pressure",
)  # fmt: skip
"""What a sample of the history has of each simulation."""

_AT = {name: i for i, name in enumerate(FIELDS)}

RATE, SPEED = 5.0, 30.0
"""Seconds over which the rate of frames and the speed are taken."""
SPARK = 32

# Nanoseconds in one of each.
_NANOSECONDS = {"fs": 1e-6, "ps": 1e-3, "ns": 1.0, "us": 1e3, "µs": 1e3, "ms": 1e6}

_UNKNOWN = StreamSchema(())


class _One:
    """A simulation."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.status: TopicStatus | None = None
        self.schema: StreamSchema | None = None
        self.capabilities: list[Capability] = []
        self.unseen = 0
        self.advance = 0.0  # simulated time, jumps at restarts left out
        self.marks: deque[tuple[float, int, float]] = deque()
        self.rate = 0.0
        self.speed = 0.0
        self.spark: deque[float] = deque([0.0] * SPARK, SPARK)


class SimulationStore:
    """All simulations of a run, as their stager and the engine see them.

    Parameters
    ----------
    limit
        Samples of the history at most.

    Attributes
    ----------
    declared
        Grows with each declaration.
    """

    def __init__(self, limit: int = 720) -> None:
        self.declared = 0
        self.history: History[Array] = History(limit, 0.9)
        self.names: list[str] = []
        self._all: dict[str, _One] = {}
        self._sparked = self._looked = 0.0
        self._means: tuple[bytes, Array] = (b"", np.zeros((0, 2)))

    def expect(self, simulation: str) -> None:
        """Note that there will be a simulation."""
        self._one(simulation)

    def _one(self, simulation: str) -> _One:
        found = self._all.get(simulation)
        if found is None:
            found = self._all[simulation] = _One(simulation)
            self.names.append(simulation)
        return found

    def schema(self, simulation: str) -> StreamSchema | None:
        """Return what a simulation declared; None if that is not known."""
        found = self._all.get(simulation)
        return None if found is None else found.schema

    def schemas(self) -> dict[str, StreamSchema]:
        """Return what simulations declared."""
        return {one.name: one.schema for one in self._all.values() if one.schema is not None}

    def capabilities(self, simulation: str) -> list[Capability]:
        """Return what a simulation lets others do."""
        return self._all[simulation].capabilities

    def status(self, simulation: str) -> TopicStatus | None:
        """Return what the stager said of a stream last."""
        found = self._all.get(simulation)
        return None if found is None else found.status

    def declare(
        self,
        simulation: str,
        schema: StreamSchema,
        capabilities: list[Capability] | None = None,
    ) -> None:
        """Take in what a simulation declared."""
        one = self._one(simulation)
        one.schema = schema
        self.declared += 1
        if capabilities is not None:
            one.capabilities = capabilities

    def undeclared(self, topics: list[TopicStatus]) -> list[str]:
        """Return the simulations whose declaration is not known, or is of an earlier life."""
        out = []
        for topic in topics:
            one = self._all.get(topic.name.removeprefix("frames/"))
            known = one.status.incarnation if one is not None and one.status is not None else -1
            if one is None or one.schema is None or known != topic.incarnation:
                out.append(topic.name.removeprefix("frames/"))
        return out

    def miss(self, simulation: str, count: int) -> None:
        """Count results that were gone before they were read here."""
        self._one(simulation).unseen += count

    # ------------------------------------------------------------------- looking

    def look(
        self,
        topics: list[TopicStatus],
        progress: dict[str, SimulationProgress],
        paused: set[str],
        now: float,
    ) -> None:
        """Take in the state of the streams, about once a second.

        Parameters
        ----------
        topics
            Of frames.
        progress
            What the engine said last.
        paused
            Simulations that rest on command.
        now
            Unix time in seconds.
        """
        spark = now - self._sparked >= 1.0
        if spark:
            self._sparked = now
        for topic in topics:
            one = self._one(topic.name.removeprefix("frames/"))
            self._advance(one, topic, now)
            if spark:
                one.spark.append(one.rate)
        rows = np.zeros((len(self.names), len(FIELDS)))
        for i, one in enumerate(self._all.values()):
            rows[i] = self._row(one, progress.get(one.name), one.name in paused)
        self.latest, self._looked = rows, now
        self.history.add(now, rows)

    latest: Array = np.zeros((0, len(FIELDS)))

    def _advance(self, one: _One, topic: TopicStatus, now: float) -> None:
        before = one.status
        if before is not None and topic.end < before.end:
            # The stager was started anew without what it held.
            one.marks.clear()
        if before is not None and before.end and topic.last_epoch == before.last_epoch:
            one.advance += max(0.0, topic.last_time - before.last_time)
        one.status = topic
        if topic.finished:
            one.rate = 0.0
            return
        one.marks.append((now, topic.end, one.advance))
        while len(one.marks) > 2 and one.marks[1][0] < now - SPEED:
            one.marks.popleft()
        then, _, advance = one.marks[0]
        if now > then:
            one.speed = (one.advance - advance) / (now - then)
        recent = next((m for m in one.marks if m[0] >= now - RATE), one.marks[0])
        if recent[0] == now and len(one.marks) > 1:
            recent = one.marks[-2]
        one.rate = (topic.end - recent[1]) / (now - recent[0]) if now > recent[0] else 0.0

    def _row(self, one: _One, progress: SimulationProgress | None, paused: bool) -> list[float]:
        topic = one.status
        if topic is None:
            return [np.nan if name == "ns_per_day" else 0.0 for name in FIELDS]
        if topic.finished:
            state = "finished"
        elif not topic.connected:
            state = "lost"
        elif paused:
            state = "paused"
        else:
            state = "running" if topic.end else "waiting"
        unit = one.schema.time_unit if one.schema is not None else ""
        per_day = one.speed * 86400.0 * _NANOSECONDS.get(unit, np.nan)
        lag = topic.end if progress is None else progress.lag
        if topic.finished and progress is not None:
            lag = max(0, topic.end - progress.position)
        return [
            STATES.index(state), topic.end, topic.last_step, topic.last_time, topic.last_epoch,
            topic.incarnation, topic.connected, one.rate, per_day, lag,
            max(0, topic.dropped - topic.incomplete), topic.incomplete,
            progress.missed if progress else 0, one.unseen,
            progress.quarantined if progress else 0, _pressure(topic),
        ]  # fmt: skip

    # ------------------------------------------------------------------- showing

    def rows(self, at: float | None = None, *, mean: bool = False) -> list[dict[str, Any]]:
        """Return a row for each simulation, as plain data, in the order of their names.

        With `mean`, rates are those of the whole run.
        """
        table = self.latest if at is None else self.history.at(at)
        if table is None:
            table = np.zeros((0, len(FIELDS)))
        if mean and len(table):
            table = self._with_means(table)
        names = self.names[: len(table)]
        return [
            self._show(names[i], table[i]) for i in sorted(range(len(names)), key=names.__getitem__)
        ]

    def _with_means(self, table: Array) -> Array:
        """Return the rows with the mean of rate and speed; NaN where too little was seen."""
        key = table[:, _AT["frames"]].tobytes()
        if key != self._means[0]:
            self._means = (key, self._take_means(table))
        table = table.copy()
        table[:, [_AT["rate"], _AT["ns_per_day"]]] = self._means[1]
        return table

    def _take_means(self, table: Array) -> Array:
        """Return the mean rate and speed of each simulation."""
        samples = [(stamp, rows) for stamp, rows in self.history if len(rows)]
        if self._looked and (not samples or samples[-1][0] < self._looked):
            # The history may have no room yet for the end.
            samples.append((self._looked, table))
        stamps = np.array([stamp for stamp, _ in samples])
        out = np.full((len(table), 2), np.nan)
        for i in range(len(table)):
            known = [(k, rows[i]) for k, (_, rows) in enumerate(samples) if i < len(rows)]
            at = stamps[[k for k, _ in known]]
            past = np.array([row for _, row in known]).reshape(-1, len(FIELDS))
            frames, moments, epochs = (past[:, _AT[k]] for k in ("frames", "time", "epoch"))
            # From the first sample with a frame to the one that first had them all.
            moved = np.flatnonzero((frames > 0) & (frames < table[i, _AT["frames"]]))
            first, last = (int(moved[0]), int(moved[-1]) + 1) if len(moved) else (0, 0)
            lasted = at[last] - at[first] if last < len(at) else 0.0
            if lasted > 0:
                steps = np.diff(moments[first : last + 1])
                same = np.diff(epochs[first : last + 1]) == 0
                unit = (self._all[self.names[i]].schema or _UNKNOWN).time_unit
                per_day = 86400.0 * _NANOSECONDS.get(unit, np.nan)
                advance = float(np.maximum(steps, 0.0)[same].sum())
                out[i] = (frames[last] - frames[first]) / lasted, advance / lasted * per_day
        return out

    def rows_from(self, results: ResultStore, at: float) -> list[dict[str, Any]]:
        """Return rows of a time before anybody looked, as far as results tell of it."""
        table = results.sample
        known = np.flatnonzero(table.key("stamp") <= at)
        out = []
        for name in sorted(self.names):
            mine = known[table.key("simulation")[known] == results.number(name)]
            if not len(mine):
                continue
            last = mine[-1]
            row = np.zeros(len(FIELDS))
            row[_AT["state"]] = STATES.index("running")
            row[_AT["connected"]] = 1.0
            row[_AT["ns_per_day"]] = np.nan
            row[_AT["frames"]] = true_offsets(table.key("offset")[last]) + 1
            for key in ("step", "time", "epoch"):
                row[_AT[key]] = table.key(key)[last]
            out.append(self._show(name, row))
        return out

    def _show(self, name: str, row: Array) -> dict[str, Any]:
        values = dict(zip(FIELDS, row.tolist(), strict=True))
        schema = self._all[name].schema
        per_day = values["ns_per_day"]
        where = {
            "full": int(values["full"]),
            "incomplete": int(values["incomplete"]),
            "missed by the engine": int(values["missed"]),
            "missed by the dashboard": int(values["unseen"]),
        }
        return {
            "name": name,
            "engine": _engine_of(schema),
            "state": STATES[int(values["state"])],
            "frames": int(values["frames"]),
            "step": int(values["step"]),
            "time": _finite(values["time"]),
            "time_unit": "" if schema is None else schema.time_unit,
            "epoch": int(values["epoch"]),
            "incarnation": int(values["incarnation"]),
            "connected": bool(values["connected"]),
            "rate": _finite(values["rate"]),
            "ns_per_day": _finite(per_day),
            "lag": int(values["lag"]),
            "dropped": int(values["full"] + values["incomplete"]),
            "dropped_by": {k: n for k, n in where.items() if n},
            "quarantined": int(values["quarantined"]),
            "pressure": _finite(values["pressure"]),
        }

    def spark(
        self, simulation: str, at: float | None = None, *, whole: bool = False
    ) -> list[float]:
        """Return how the rate of frames went lately, or in the `whole` run; frames a second."""
        if whole and len(self.history) > 1:
            return self._course(self.names.index(simulation))
        if at is None and self._sparked:
            return [round(v, 3) for v in self._all[simulation].spark]
        index = self.names.index(simulation)
        column = _AT["rate"]
        past = [
            float(t[index, column]) for _, t in self.history.before(at, SPARK) if index < len(t)
        ]
        return [0.0] * (SPARK - len(past)) + past

    def _course(self, index: int) -> list[float]:
        """Return the rate of one simulation from its first frame to its last."""
        samples = [(t, rows[index]) for t, rows in self.history if index < len(rows)]
        at = np.array([t for t, _ in samples])
        frames = np.array([row[_AT["frames"]] for _, row in samples])
        moved = np.flatnonzero(np.diff(frames) > 0)
        if not len(moved):
            return [0.0] * SPARK
        edges = np.linspace(at[moved[0]], at[moved[-1] + 1], SPARK + 1)
        counts = np.diff(np.interp(edges, at, frames)) / np.diff(edges)
        return [round(float(v), 3) for v in counts]


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _pressure(topic: TopicStatus) -> float:
    """Return how full a stream is of frames that somebody still needs, from 0 to 1."""
    if not topic.groups or not topic.end or topic.finished:
        return 0.0
    waiting = topic.end - min(topic.groups.values())
    size = topic.bytes / topic.end
    return min(1.0, max(0.0, waiting * size / max(1, topic.options.capacity)))


def _engine_of(schema: StreamSchema | None) -> str:
    """Return what simulates, where the stream says so."""
    if schema is None:
        return ""
    return schema.attributes.get("engine") or schema.attributes.get("adapter", "")
