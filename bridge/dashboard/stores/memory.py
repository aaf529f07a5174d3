"""Everything that a dashboard remembers of one run; whoever touches it holds its lock."""

from __future__ import annotations

import threading
import time

import msgspec
import numpy as np

from bridge.commands import Event
from bridge.dashboard.stores.events import EventStore
from bridge.dashboard.stores.history import History
from bridge.dashboard.stores.ledger import LedgerStore
from bridge.dashboard.stores.results import ResultStore
from bridge.dashboard.stores.simulations import SimulationStore
from bridge.engines.protocol import EngineStatistics
from bridge.errors import HeadraceError
from bridge.staging.messages import TopicStatus

__all__ = ["Limits", "Memory"]

KINDS = ("results", "ledger", "events", "status", "frames")

_events = msgspec.msgpack.Decoder(Event)
_statuses = msgspec.msgpack.Decoder(EngineStatistics)


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much is remembered.

    Attributes
    ----------
    points
        Rows of results, evenly thinned over the run.
    recent
        Newest rows of results, as they came.
    events, ledger
        Events, and lines of the ledger.
    history
        Samples of the state of all simulations, and of each engine, evenly thinned.
    backlog
        Bytes of results that were stored before the dashboard was opened, to be read.
    recording
        Bytes of the recording on disk.
    """

    points: int = 200_000
    recent: int = 50_000
    events: int = 10_000
    ledger: int = 20_000
    history: int = 720
    backlog: int = 1 << 30
    recording: int = 200_000_000


class Memory:
    """The stores of one run.

    Parameters
    ----------
    limits
        How much they hold.

    Attributes
    ----------
    lock
        Held by whoever reads or changes anything here.
    statuses
        Pipeline to what its engine said over time; without progress by simulation.
    latest
        Pipeline to what its engine said last.
    versions
        Kind of what is known (``results``, ``ledger``, ``events``, ``status``, and ``frames``, the
        state of their streams) to a number that grows with all that comes of it.
    restored
        All this is of a run that is over.
    unreadable
        Records that could not be read, since another version or somebody else wrote them.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.lock = threading.RLock()
        self.versions = dict.fromkeys(KINDS, 0)
        self._topics: dict[str, tuple[str, str]] = {}
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        limits = self.limits
        self.results = ResultStore(limits.points, limits.recent)
        self.simulations = SimulationStore(limits.history)
        self.ledger = LedgerStore(limits.ledger)
        self.events = EventStore(limits.events)
        self.statuses: dict[str, History[EngineStatistics]] = {}
        self.latest: dict[str, EngineStatistics] = {}
        self.topics: dict[str, TopicStatus] = {}
        self.unreadable = 0
        self.started: float | None = None
        self.seen: float | None = None
        self.restored = False
        self._base: float | None = None
        for kind in KINDS:
            self.versions[kind] += 1

    @property
    def version(self) -> int:
        """Grows with all that comes."""
        return sum(self.versions.values())

    def take(self, topic: str, data: memoryview, stamp: float) -> None:
        """Take in a record of the log; one that cannot be read is counted, and passed over."""
        known = self._topics.get(topic)
        if known is None:
            known = self._topics[topic] = _kind_of(topic)
        kind, name = known
        self.versions[kind] += 1
        try:
            self._take(kind, name, data, stamp)
        except (HeadraceError, msgspec.MsgspecError, ValueError, TypeError):
            self.unreadable += 1

    def _take(self, kind: str, name: str, data: memoryview, stamp: float) -> None:
        if kind == "results":
            self.results.add_record(data, stamp, name)
        elif kind == "ledger":
            self.ledger.add_record(name, data, stamp)
        elif kind == "events":
            event = _events.decode(data)
            if not event.stamp:
                event = msgspec.structs.replace(event, stamp=stamp)
            self.events.add(event)
        elif kind == "status":
            self.take_status(_statuses.decode(data))

    def take_status(self, status: EngineStatistics) -> None:
        """Take in what an engine said of itself."""
        name = status.pipeline
        self.latest[name] = status
        history = self.statuses.setdefault(name, History(self.limits.history, 0.9))
        history.add(status.stamp, msgspec.structs.replace(status, simulations={}))

    def settle(self) -> None:
        """Put what was taken in where it is read from."""
        self.results.flush()

    def look(self, topics: list[TopicStatus], pipeline: str, now: float | None = None) -> None:
        """Take in the state of the streams of frames."""
        now = time.time() if now is None else now
        self.versions["frames"] += 1
        self.seen = now
        status = self.latest.get(pipeline)
        progress = {} if status is None else status.simulations
        paused = {n for n in self.simulations.names if self.ledger.paused(n)}
        self.simulations.look(topics, progress, paused, now)

    @property
    def base(self) -> float:
        """Unix time from which stamps are counted; the same for as long as anything is sent."""
        if self._base is None:
            self._base = self.span[0]
        return self._base or 0.0

    @property
    def span(self) -> tuple[float | None, float | None]:
        """Unix times of the first and the last thing that is remembered."""
        starts = [self.simulations.history.start, *(h.start for h in self.statuses.values())]
        stamps = self.results.sample.key("stamp")
        starts += [float(stamps.min())] if len(stamps) else []
        starts += [self.events.first]
        known = [s for s in starts if s]
        ends = [self.seen or 0.0, float(stamps[-1]) if len(stamps) else 0.0]
        end = max(ends)
        start = self.started or (min(known) if known else None)
        return start, (end if end and np.isfinite(end) else None)


def _kind_of(topic: str) -> tuple[str, str]:
    """Return what the records of a topic are, and the simulation or the plain name of the topic."""
    plain = topic.partition("@")[0]
    head = plain.partition("/")[0]
    if head == "results":
        return head, plain.split("/", 2)[-1]
    if head in ("decisions", "approvals", "commands", "acks"):
        return "ledger", plain
    return (head if head in ("events", "status") else "frames"), plain
