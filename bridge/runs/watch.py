"""What goes on in a run, read from staging by a thread of its own: for the view and the report."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import msgspec

from bridge.commands import Acknowledgement, Command, Decision, Event
from bridge.engines.protocol import EngineStatistics, SimulationProgress
from bridge.errors import HeadraceError, StagingError, SteeringError, TransportError
from bridge.staging.client import Fetched, StagerClient
from bridge.staging.messages import TopicStatus
from bridge.steering import Desk, Unreadable, tell_once

__all__ = ["FRAMES", "SimulationState", "Snapshot", "Watcher"]

log = logging.getLogger(__name__)

FRAMES = "frames/"
STATUS = "status/"
ACKNOWLEDGEMENTS = "acks/"
WINDOW = 5.0
"""Seconds over which the rate of frames is taken."""
RETRY = 1.0
"""Seconds before the stager is looked for again once the way to it is cut."""


@dataclass(frozen=True, slots=True)
class SimulationState:
    """One simulation, as the stager sees it."""

    name: str
    """Its name."""
    frames: int = 0
    """Frames stored so far."""
    step: int = -1
    """Step of the newest."""
    time: float = 0.0
    """Simulated time of the newest, in `time_unit`."""
    time_unit: str = ""
    """Unit of the stream's time."""
    epoch: int = 0
    """Continuous pieces of trajectory before the present one: restarts that took effect."""
    rate: float = 0.0
    """Frames a second, lately."""
    lag: int = 0
    """Frames that the engine has not analysed yet."""
    dropped: int = 0
    """Frames dropped by policy."""
    quarantined: int = 0
    """Frames set aside by the engine."""
    incarnation: int = 0
    """Which life of the simulation writes."""
    finished: bool = False
    """No more will come."""
    connected: bool = False
    """Somebody writes at present."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A run at one moment.

    Attributes
    ----------
    simulations
        In the order of their names.
    engine
        What the engine said of itself last; None if it has not yet.
    decisions
        The latest, newest last.
    counts
        Verdict or outcome to number of commands: ``sent``, ``refused``, ``applied``...
    target
        The event that the run waits for, once it has come.
    events
        The latest, newest last.
    unreadable
        Records that could not be read, and were passed over.
    error
        Why nothing can be read at present; empty if it can.
    """

    simulations: tuple[SimulationState, ...] = ()
    engine: EngineStatistics | None = None
    decisions: tuple[Decision, ...] = ()
    outcomes: dict[str, Acknowledgement] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    target: Event | None = None
    events: tuple[Event, ...] = ()
    unreadable: int = 0
    error: str = ""

    @property
    def frames(self) -> int:
        """Frames of all simulations."""
        return sum(s.frames for s in self.simulations)

    @property
    def total_time(self) -> float:
        """Simulated time over all simulations."""
        return sum(max(0.0, s.time) for s in self.simulations)

    @property
    def time_unit(self) -> str:
        """Unit of simulated time."""
        return next((s.time_unit for s in self.simulations if s.time_unit), "")


class _Rate:
    """Frames a second over the last few seconds."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def update(self, now: float, count: int) -> float:
        """Note a count; return its rate of change."""
        self._seen.append((now, count))
        while len(self._seen) > 2 and self._seen[0][0] < now - WINDOW:
            self._seen.popleft()
        (then, before) = self._seen[0]
        return (count - before) / (now - then) if now > then else 0.0


class Watcher:
    """Follows a run.

    Parameters
    ----------
    connect
        Makes a client; called in the watcher's thread, again whenever the way is cut.
    pipeline
        Name of the pipeline.
    event
        Kind of the event that the run waits for.
    every
        Seconds between two looks at the topics.
    desk
        Carries out what people said, and what holds where nobody said anything, at each look; it
        is closed at the end. None where somebody else does.
    """

    def __init__(
        self,
        connect: Callable[[], StagerClient],
        *,
        pipeline: str,
        event: str = "target_reached",
        every: float = 0.5,
        keep: int = 50,
        desk: Desk | None = None,
    ) -> None:
        self._connect = connect
        self._desk = desk
        self._status = f"{STATUS}{pipeline}"
        self._event = event
        self._every = every
        self._positions: dict[str, int] = {"decisions": 0, "events": 0, self._status: 0}
        self._rates: dict[str, _Rate] = {}
        self._units: dict[str, str] = {}
        self._engine: EngineStatistics | None = None
        self._decisions: deque[Decision] = deque(maxlen=keep)
        self._events: deque[Event] = deque(maxlen=keep)
        self._outcomes: dict[str, Acknowledgement] = {}
        self._counts: Counter[str] = Counter()
        self._target: Event | None = None
        self._unreadable = Unreadable()
        self._commands: deque[tuple[str, bytes]] = deque()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watch-run", daemon=True)
        self._snapshot = Snapshot()

    @property
    def snapshot(self) -> Snapshot:
        """The run as it was seen last; any thread."""
        return self._snapshot

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, timeout: float = 15.0) -> None:
        """End; waits for the thread."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(timeout)

    def tell_to_stop(self, simulations: Iterable[str], reason: str, author: str) -> None:
        """Send each simulation the command to stop, soon; any thread."""
        for name in simulations:
            command = Command(
                "stop", name, id=f"run/stop/{name}@{time.time_ns()}", reason=reason, author=author
            )
            self._commands.append((f"commands/{name}", msgspec.msgpack.encode(command)))

    def conclude(self, reason: str, author: str) -> None:
        """Deny whatever still waits for approval; after `stop`, in the caller's thread."""
        if self._desk is None:
            return
        with contextlib.closing(self._desk) as desk:
            try:
                desk.conclude(author, reason)
            except HeadraceError as error:
                # The report is written all the same.
                log.warning("Commands that wait for approval are left alone: %s", error)

    def catch_up(self, client: StagerClient) -> None:
        """Read what came since the last look; after `stop`, in the caller's thread."""
        while True:
            with client.fetch(self._positions, follow=ACKNOWLEDGEMENTS, wait=0.05) as got:
                self._take_all(got)
                if not got.records:
                    break
        self._look(client.topics(FRAMES, schemas=True))

    # ------------------------------------------------------------- thread

    def _watch(self) -> None:
        while not self._stop.is_set():
            try:
                with contextlib.closing(self._connect()) as client:
                    self._follow(client)
            except HeadraceError as error:
                way = isinstance(error, StagingError | TransportError)
                level = logging.INFO if way else logging.WARNING
                log.log(level, "The run cannot be watched at present: %s", error)
                self._snapshot = replace(self._snapshot, error=str(error))
                self._stop.wait(RETRY)

    def _follow(self, client: StagerClient) -> None:
        due = 0.0
        while not self._stop.is_set():
            self._send(client)
            wait = max(0.0, min(self._every, due - time.monotonic()))
            with client.fetch(self._positions, follow=ACKNOWLEDGEMENTS, wait=wait or 0.01) as got:
                self._take_all(got)
            self._tell_unreadable(client)
            if got.records and time.monotonic() < due:
                # Records come in a stream: let some gather instead of asking for each.
                self._stop.wait(min(0.1, max(0.0, due - time.monotonic())))
            if time.monotonic() >= due:
                due = time.monotonic() + self._every
                self._look(client.topics(FRAMES, schemas=True))
                self._tick()

    def _tick(self) -> None:
        if self._desk is None:
            return
        try:
            self._desk.tick()
        except SteeringError as error:
            log.warning("A command that waits for approval is left alone: %s", error)

    def _send(self, client: StagerClient) -> None:
        for _ in range(len(self._commands)):
            topic, data = self._commands[0]
            try:
                client.append(topic, [data])
            except TransportError:
                raise
            except HeadraceError as error:
                # It is tried again with the next look, behind the others.
                log.warning("A command in %s cannot be stored yet: %s", topic, error)
                self._commands.append((topic, data))
            self._commands.popleft()

    def _take_all(self, got: Fetched) -> None:
        for record in got.records:
            with self._unreadable.passed_over(record.topic, record.offset):
                self._take(record.topic, record.data)
        self._positions.update(got.positions)

    def _tell_unreadable(self, client: StagerClient) -> None:
        for name, event in self._unreadable.take_untold().items():
            log.warning("%s", event.message)
            # Under the name that the desk takes, too: whoever sees it first tells it.
            with contextlib.suppress(StagingError):
                tell_once(client, name, event)

    def _count_unreadable(self) -> int:
        theirs = {} if self._desk is None else self._desk.unreadable
        return sum({**theirs, **self._unreadable.counts}.values())

    def _take(self, topic: str, data: memoryview) -> None:
        if topic == "decisions":
            decision = msgspec.msgpack.decode(data, type=Decision)
            self._decisions.append(decision)
            self._counts[f"decided: {decision.verdict}"] += 1
            if decision.by and decision.until:
                # It waited until now, and was counted as such.
                self._counts["decided: awaiting_approval"] -= 1
        elif topic == "events":
            event = msgspec.msgpack.decode(data, type=Event)
            self._events.append(event)
            if event.kind == self._event and self._target is None:
                self._target = event
        elif topic == self._status:
            self._engine = msgspec.msgpack.decode(data, type=EngineStatistics)
        elif topic.startswith(ACKNOWLEDGEMENTS):
            answer = msgspec.msgpack.decode(data, type=Acknowledgement)
            self._counts[answer.outcome] += 1
            self._outcomes[answer.command] = answer
            while len(self._outcomes) > 1000:
                del self._outcomes[next(iter(self._outcomes))]

    def _look(self, topics: list[TopicStatus]) -> None:
        now = time.monotonic()
        known = self._engine.simulations if self._engine else {}
        simulations = []
        for topic in sorted(topics, key=lambda t: t.name):
            name = topic.name.removeprefix(FRAMES)
            if topic.schema is not None:
                self._units[name] = topic.schema.time_unit
            progress = known.get(name)
            rate = self._rates.setdefault(name, _Rate()).update(now, topic.end)
            simulations.append(
                SimulationState(
                    name,
                    frames=topic.end,
                    step=topic.last_step,
                    time=topic.last_time,
                    time_unit=self._units.get(name, ""),
                    epoch=topic.last_epoch,
                    rate=0.0 if topic.finished else rate,
                    lag=_lag(topic, progress),
                    dropped=topic.dropped,
                    quarantined=progress.quarantined if progress else 0,
                    incarnation=topic.incarnation,
                    finished=topic.finished,
                    connected=topic.connected,
                )
            )
        self._snapshot = Snapshot(
            tuple(simulations),
            self._engine,
            tuple(self._decisions),
            dict(self._outcomes),
            dict(+self._counts),
            self._target,
            tuple(self._events),
            self._count_unreadable(),
        )


def _lag(topic: TopicStatus, progress: SimulationProgress | None) -> int:
    """Return the frames that wait, as the engine counted them in its last status.

    Its position is as old as that status, so the topic's present end says nothing about the lag
    while frames still come.
    """
    if progress is None:
        return topic.end
    return topic.end - progress.position if topic.finished else progress.lag
