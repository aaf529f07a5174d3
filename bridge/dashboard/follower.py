"""The thread that reads a run from staging, like anybody else, and takes nothing away.

It belongs to no consumer group, so nothing is held back for it; it reads results and records, and
never the streams of frames. What is released before it was read is counted.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable, Mapping

from bridge.dashboard.stores.memory import Memory
from bridge.errors import HeadraceError, OffsetOutOfRange, StagingError, TransportError
from bridge.staging.client_like import ClientLike
from bridge.staging.messages import TopicStatus

__all__ = ["Follower"]

log = logging.getLogger(__name__)

FRAMES = "frames/"
ALWAYS = ("decisions", "approvals", "events")
OF_SIMULATIONS = ("acks/", "commands/")
READ = ("status/", *OF_SIMULATIONS)

POLL, LOOK, LIST, RETRY = 0.05, 0.2, 10.0, 1.0
"""Seconds between two readings of records, looks at the streams of frames, listings of all topics,
and attempts to reach the stager; the first two at least."""
POLL_AT_REST, LOOK_AT_REST = 0.25, 1.0
"""The same where nobody looks, or rarely: alarms are looked for each second."""
SELDOM = 1.0
"""The same where the run needs all processors, at most."""
OF_FRAMES = ("overview", "molecule")
"""Channels that change with the streams of frames."""
FEW = 200
"""Topics up to which all are listed each second."""
SHARE = 0.2
"""Of one processor that reading takes at most, once it has caught up; half of one before."""


class Follower:
    """Reads what comes, from a thread of its own, until it is stopped.

    Parameters
    ----------
    connect
        Makes a client; called in the thread, again whenever the way is cut.
    memory
        Where everything goes.
    pipeline
        Whose results; empty for that of the first engine that is heard of.
    """

    def __init__(
        self, connect: Callable[[], ClientLike], memory: Memory, *, pipeline: str = ""
    ) -> None:
        self.pipeline = pipeline
        self.address = ""  # where the stagers listen, once that is known
        self.error = ""
        self.connected = False
        self.caught_up = threading.Event()
        self.on_look: Callable[[], None] = lambda: None
        self.on_news: Callable[[], None] = lambda: None
        self.missed: dict[str, int] = {}
        self.skipped: dict[str, int] = {}
        self._connect = connect
        self._memory = memory
        self._positions: dict[str, int] = {}
        self._last: dict[str, tuple[int, float]] = {}  # topic -> offset and stamp of what was read
        self._instance = ""
        self._poll, self._look_every = POLL, LOOK
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dashboard-feed", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, timeout: float = 15.0) -> None:
        """End; waits for the thread."""
        self._stop.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(timeout)

    def watch(self, paces: Mapping[str, float], slower: float = 1.0) -> None:
        """Read as often as anybody looks, from now on; before, as often as ever. From any thread.

        Parameters
        ----------
        paces
            Channel that is looked at to the fewest seconds between two pictures of it.
        slower
            So many times more seldom, as nobody is shown more than that.
        """
        records = min((v for k, v in paces.items() if k != "run"), default=POLL_AT_REST)
        frames = min((v for k, v in paces.items() if k in OF_FRAMES), default=LOOK_AT_REST)
        self._poll = min(min(max(records, POLL), POLL_AT_REST) * slower, SELDOM)
        self._look_every = min(min(max(frames, LOOK), LOOK_AT_REST) * slower, SELDOM)
        self._wake.set()

    # ------------------------------------------------------------------- thread

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with contextlib.closing(self._connect()) as client:
                    self._follow(client)
            except OffsetOutOfRange as error:
                # The stager was started anew in between; where its topics begin is asked again.
                log.info("%s", error)
                self._instance = ""
            except (StagingError, TransportError) as error:
                self.error = str(error)
            except HeadraceError as error:
                log.warning("The run cannot be read: %s", error)
                self.error = str(error)
            except Exception as error:
                # A page without news that says why is better than one that says nothing.
                log.exception("The run cannot be read.")
                self.error = f"The run cannot be read: {error}."
            self.connected = False
            self.on_look()
            self._stop.wait(RETRY)

    def read_all(self) -> None:
        """Read what there is, in the caller's thread, and end; instead of `start`."""
        with contextlib.closing(self._connect()) as client:
            self._list(client)
            while self.read(client):
                pass
            self._look(client)

    def _follow(self, client: ClientLike) -> None:
        self.address = client.address
        with self._memory.lock:
            if self._memory.restored:
                # The run goes on after all: staging knows more than what it had left.
                self._memory.reset()
        look = listing = 0.0
        told = -1
        while not self._stop.is_set():
            self._wake.clear()
            began = time.monotonic()
            cpu = time.thread_time()
            listed: list[TopicStatus] | None = None
            if began >= listing or client.instance != self._instance:
                listed = self._list(client)
                few = len(self._memory.topics) < FEW
                listing = _beat(began, RETRY if few or not self.pipeline else LIST)
            behind = self.read(client)
            if not began < look <= began + self._look_every:
                # After the records: the engine's word on the lag is among them.
                self._look(client, listed)
                self.on_look()
                look = _beat(began, self._look_every)
            self.connected, self.error = True, ""
            if not behind:
                self.caught_up.set()
            if told != self._memory.version:
                told = self._memory.version
                self.on_news()
            busy = time.thread_time() - cpu
            now = time.monotonic()
            # On the beat that pages have, so that each of their pictures has news.
            until = now + busy if behind else max(_beat(now, self._poll), began + busy / SHARE)
            self._wake.wait(until - now)

    def read(self, client: ClientLike) -> bool:
        """Read what there is, one portion; returns whether there is more."""
        follow = f"results/{self.pipeline}/" if self.pipeline else ""
        with client.fetch(
            self._positions, follow=follow, max_frames=20_000, max_bytes=8 << 20, wait=0.001
        ) as got:
            memory = self._memory
            with memory.lock:
                for gap in got.gaps:
                    self._miss(gap.topic, gap.stop - gap.first)
                for record in got.records:
                    memory.take(record.topic, record.data, record.stamp)
                    self._last[record.topic] = record.offset, record.stamp
                memory.settle()
            for topic in got.positions:
                if topic not in self._positions and topic.startswith("results/"):
                    # Followed of itself, from its oldest record on.
                    self._positions[topic] = 0
            self._positions.update(got.positions)
            return any(got.positions.get(t, end) < end for t, end in got.ends.items())

    def _miss(self, topic: str, count: int) -> None:
        self.missed[topic] = self.missed.get(topic, 0) + count
        if topic.startswith("results/"):
            self._memory.simulations.miss(topic.split("/", 2)[2].partition("@")[0], count)

    # ------------------------------------------------------------------- listing

    def _list(self, client: ClientLike) -> list[TopicStatus]:
        """Return which topics there are; after a change of stagers, look where they begin."""
        topics = client.topics("", schemas=False)
        if not self.pipeline:
            self.pipeline = guess_pipeline(topics)
        others = self._find_others(client, topics) if client.instance != self._instance else set()
        memory = self._memory
        with memory.lock:
            memory.topics = {t.name: t for t in topics}
            for name in others:
                self._positions.pop(name, None)
                if name.startswith("results/"):
                    memory.results.forget_frames(name.split("/", 2)[2].partition("@")[0])
            for topic in topics:
                plain = topic.name.partition("@")[0]
                results = bool(self.pipeline) and plain.startswith(f"results/{self.pipeline}/")
                if not (plain in ALWAYS or plain.startswith(READ) or results):
                    continue
                if topic.name not in self._positions:
                    # Of what was released before anybody looked, it is said that it is missing.
                    if topic.low:
                        self._miss(topic.name, topic.low)
                    self._positions[topic.name] = self._begin(topic) if results else topic.low
            told = (f"status/{self.pipeline}",) if self.pipeline else ()
            for name in (*ALWAYS, *told):
                self._positions.setdefault(name, 0)
        self._instance = client.instance
        return topics

    def _find_others(self, client: ClientLike, topics: list[TopicStatus]) -> set[str]:
        """Return the topics that are not those that were read, but others of the same names.

        A durable stager that is started anew has what it had; another one begins with nothing. So
        the last record that was read is looked at again.
        """
        here = {t.name: t for t in topics}
        wanted = {
            name: offset
            for name, (offset, _) in self._last.items()
            if name in here and here[name].low <= offset < here[name].end
        }
        # Topics that nothing was read of begin where they begin.
        others = {n for n in self._positions if n not in self._last}
        others |= {
            n for n, (offset, _) in self._last.items() if n not in here or here[n].end <= offset
        }
        while wanted:
            with client.fetch(wanted, max_frames=len(wanted), wait=0.001) as got:
                first = {r.topic: r.stamp for r in reversed(got.records)}
            for name, stamp in first.items():
                del wanted[name]
                if stamp != self._last[name][1]:
                    others.add(name)
            if not first:
                break
        for name in others:
            self._last.pop(name, None)
        return others

    def _begin(self, topic: TopicStatus) -> int:
        """Return where to begin with results: not with those beyond the limit of the backlog."""
        share = self._memory.limits.backlog // max(1, len(self._memory.topics))
        size = topic.bytes / max(1, topic.end)
        count = int(share / max(1.0, size))
        begin = max(topic.low, topic.end - max(1, count))
        if begin > topic.low:
            self.skipped[topic.name] = begin - topic.low
        return begin

    def _look(self, client: ClientLike, listed: list[TopicStatus] | None = None) -> None:
        """Take in how the streams of frames stand; of all topics, where they were just listed."""
        memory = self._memory
        topics = client.topics(FRAMES, schemas=False) if listed is None else listed
        topics = [topic for topic in topics if topic.name.startswith(FRAMES)]
        with memory.lock:
            unknown = memory.simulations.undeclared(topics)
        declared: list[TopicStatus] = []
        if unknown:
            prefixes = [FRAMES] if len(unknown) > 4 else [FRAMES + name for name in unknown]
            for prefix in prefixes:
                declared += client.topics(prefix, schemas=True)
        with memory.lock:
            for topic in declared:
                if topic.schema is not None:
                    name = topic.name.removeprefix(FRAMES)
                    memory.simulations.declare(name, topic.schema, topic.capabilities)
            for topic in topics:
                memory.topics[topic.name] = topic
            memory.look(topics, self.pipeline)
        for topic in topics:
            name = topic.name.removeprefix(FRAMES)
            for head in OF_SIMULATIONS:
                self._positions.setdefault(head + name, 0)


def _beat(now: float, every: float) -> float:
    """Return the next moment of a beat that all who have the same pace share."""
    return (math.floor(now / every) + 1) * every


def guess_pipeline(topics: list[TopicStatus]) -> str:
    """Return the pipeline with the most results, or one whose engine told of itself."""
    count: dict[str, int] = {}
    for topic in topics:
        kind, _, rest = topic.name.partition("@")[0].partition("/")
        if kind == "results":
            name = rest.partition("/")[0]
            count[name] = count.get(name, 0) + 1 + topic.end
        elif kind == "status":
            count.setdefault(rest, 0)
    return max(sorted(count), key=count.__getitem__, default="")
