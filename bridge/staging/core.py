"""The stager without sockets: requests in, answers out, a clock handed in.

What a request asks for that cannot be had yet (a segment, something to read, room for bytes) waits
here, and is tried again after whatever may have changed that; `StagerCore.deadline` tells when to
call `StagerCore.tick` at the latest.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any
from uuid import uuid4

import msgspec

from bridge.commands import Event
from bridge.errors import HeadraceError, ProtocolError, StorageFull, UnknownTopic
from bridge.schema import check_name
from bridge.staging import messages as m
from bridge.staging.catalogue import Catalogue
from bridge.staging.commit_ring import CommitRing
from bridge.staging.damage import Damage
from bridge.staging.frame_log import FrameLog
from bridge.staging.inline import place_inline
from bridge.staging.missed import COMMANDS, answer_missed
from bridge.staging.readers import Readers
from bridge.staging.record_log import RecordLog
from bridge.staging.rings import Rings

__all__ = ["MAX_WAIT", "StagerCore"]

log = logging.getLogger(__name__)

MAX_WAIT = 60.0
"""Longest time that a fetch may wait, in seconds."""

SILENT_AFTER = 10.0
"""Seconds without a word after which a producer is told of as silent, though it is connected."""

PROBE_AFTER = 2.5
"""Seconds without a word after which it is looked whether a producer is connected still, each
second and `CUT_OFF` times: so who was killed is told of within 5 s. Who lives speaks each 2 s."""

CUT_OFF = 2
"""Looks in a row that find no connection, until a producer counts as gone: one that was cut off
comes back within a second."""

ACK_AFTER = 0.25
"""Seconds after which commits that want no answer of their own are acknowledged together."""

ACK_EACH = 16
"""Commits of one producer that are acknowledged together at the latest."""

PUT_OFF = 64
"""Commits that are looked at together at the latest, where nobody waits for frames. One by one
they cost ten times as much, since a simulation that keeps all cores busy has taken the caches."""

STUCK_AFTER = 10.0
"""Seconds after which a step that waits for blocks of other ranks is told of."""

Send = Callable[[bytes, list[Any]], bool]

_QUIET = m.quiet_commit()


class _Writer:
    """A producer's connection: which rank of which stream, and what of it waits."""

    __slots__ = (
        "cut",
        "incarnation",
        "leases",
        "log",
        "owed",
        "owed_since",
        "peer",
        "queue",
        "rank",
        "seen",
        "silent",
    )

    def __init__(self, peer: bytes, log: FrameLog, incarnation: int, rank: int) -> None:
        self.peer = peer
        self.log = log
        self.incarnation = incarnation
        self.rank = rank
        self.leases: deque[m.Lease] = deque()
        self.queue: deque[tuple[m.Commit, Sequence[memoryview]]] = deque()
        self.seen = 0.0
        self.silent = False
        # Looks in a row that found no connection to it.
        self.cut = 0
        # Commits that were stored and are not acknowledged yet.
        self.owed = 0
        self.owed_since = 0.0

    def hear(self, now: float) -> None:
        """Note that the producer has said something."""
        self.seen = now
        self.cut = 0
        if self.silent:
            self.silent = False
            self.log.connected = True


class StagerCore:
    """State machine of the staging service.

    Parameters
    ----------
    catalogue
        The topics.
    send
        Sends an answer to a peer; False if the peer is gone.
    probe
        Path and nonce of the node probe, which tell a client whether it can map segments.
    """

    def __init__(
        self, catalogue: Catalogue, send: Send, *, probe: tuple[str, str] = ("", "")
    ) -> None:
        self.instance = uuid4().hex
        self.catalogue = catalogue
        # A stager whose segments are used up must still be able to say so.
        catalogue.records("events", None).reserve()
        self.deadline = math.inf
        self._send = send
        self._probe = probe
        self._writers: dict[tuple[bytes, str], _Writer] = {}
        # Writers whose commits are acknowledged later, the one that waits longest first.
        self._owing: dict[_Writer, None] = {}
        # Commits that nobody waits for, and since when.
        self._put_off: list[tuple[bytes, Sequence[memoryview]]] = []
        self._put_off_since = 0.0
        # Commits that lie in mapped memory, until something else is to be done or this time.
        self._rings: Rings[_Writer] = Rings(catalogue.store)
        self._next_drain = 0.0
        self._damage = Damage()
        self._readers = Readers(catalogue, self._answer, self._damage.note)
        self._known: set[bytes] = set()
        self._outbox: list[tuple[bytes, list[Any]]] = []
        self._next_watch = 0.0
        self._watched = False
        self._stuck: dict[str, tuple[int, float]] = {}
        self._told_full: dict[str, float] = {}
        self._handlers: dict[type, Callable[[bytes, Any, Sequence[memoryview], float], None]] = {
            m.Hello: self._hello,
            m.TakeJoined: self._take_joined,
            m.OpenStream: self._open,
            m.Lease: self._lease,
            m.OpenRing: self._open_ring,
            m.Commit: self._commit,
            m.Fetch: self._fetch,
            m.FetchBlocks: self._fetch,
            m.Append: self._append,
            m.CommitOffsets: self._commit_offsets,
            m.QueryTopics: self._query,
            m.Ping: self._ping,
            m.Bye: self._bye,
        }

    # ------------------------------------------------------------------ intake

    def handle(self, peer: bytes, parts: Sequence[memoryview], now: float) -> None:
        """Carry out one message of a peer; errors are answered, never raised."""
        if (
            len(parts) == 1
            and parts[0][: len(_QUIET)] == _QUIET
            and not self._readers.wait_for_frames()
        ):
            if not self._put_off:
                self._put_off_since = now
            self._put_off.append((peer, parts))
            if len(self._put_off) >= PUT_OFF:
                self.catch_up(now)
            return
        if self._put_off or self._rings:
            self.catch_up(now)
        self._handle(peer, parts, now)

    def catch_up(self, now: float) -> None:
        """Carry out what was put off: commits that wanted no answer when nobody read frames."""
        put_off, self._put_off = self._put_off, []
        self._empty_rings(now)
        for peer, parts in put_off:
            self._handle(peer, parts, now)
            # What a producer wrote there lies between its messages.
            self._empty_rings(now)

    def _empty_rings(self, now: float) -> None:
        for writer, ring in self._rings.filled():
            self._drain(writer, ring, now)

    def _drain(self, writer: _Writer, ring: CommitRing, now: float) -> None:
        """Carry out the commits that a producer wrote into its ring."""
        try:
            for data in ring.look():
                request = m.decode_request(memoryview(data))
                if not isinstance(request, m.Commit) or request.inline:
                    raise ProtocolError(f"A ring of {writer.log.name} holds what is no commit.")
                if not self._gone(writer):
                    mine = writer.log.rank(request.incarnation, request.rank)
                    if request.sequence > mine.sequence:
                        # What was sent before it is still on its way.
                        return
                self._commit(writer.peer, request, (), now)
        except HeadraceError as error:
            self._rings.close(writer)
            self._refuse(writer.peer, 0, type(error).__name__, str(error))

    def _handle(self, peer: bytes, parts: Sequence[memoryview], now: float) -> None:
        number = 0
        try:
            request = m.decode_request(parts[0])
            number = request.request
            if peer not in self._known and not isinstance(request, m.Hello):
                self._refuse(peer, number, "NotIntroduced", "Say hello first.")
                return
            self._handlers[type(request)](peer, request, parts[1:], now)
        except HeadraceError as error:
            self._refuse(peer, number, type(error).__name__, str(error))
        except Exception as error:
            log.exception("A request of %r failed.", peer)
            text = f"The stager failed on a request: {type(error).__name__}: {error}."
            self._refuse(peer, number, "StagingError", text)
        self._finish(peer, number)

    def _finish(self, peer: bytes = b"", number: int = 0) -> None:
        # What was done goes to the journal before anybody is told of it.
        outbox, self._outbox = self._outbox, []
        try:
            self.catalogue.flush()
        except StorageFull as error:
            self._send(peer, [m.encode(m.Refused(number, "StorageFull", str(error)))])
            return
        for to, parts in outbox:
            self._send(to, parts)

    def _tell_damage(self, now: float) -> None:
        for event in self._damage.take():
            self.event(event, now)

    def tick(self, now: float) -> None:
        """Answer what has waited long enough, and look after those that fell silent."""
        self._readers.expire(now)
        self._tell_damage(now)
        if now >= self._next_watch:
            self._next_watch = now + 1.0
            self._watch(now)
        late = bool(self._put_off) and now - self._put_off_since >= ACK_AFTER
        if late or (self._rings and now >= self._next_drain):
            self._next_drain = now + ACK_AFTER
            self.catch_up(now)
            for writer in list(self._owing):
                self._acknowledge(writer)
            self._readers.wake(now)
        for writer in [w for w in self._owing if now - w.owed_since >= ACK_AFTER]:
            self._acknowledge(writer)
        self._say_whether_wanted(now)
        self._set_deadline()
        self._finish()

    def _say_whether_wanted(self, now: float) -> None:
        if not self._rings:
            return
        waiting = any(w.leases or w.queue for w in self._writers.values())
        if self._rings.want(waiting or self._readers.wait_for_frames()) and self._rings:
            # What was written while that was being said has had no message.
            self._empty_rings(now)
            self._readers.wake(now)

    def settle(self, now: float) -> None:
        """After a burst of messages: grant leases and wake the readers that can be answered."""
        for writer in self._writers.values():
            if writer.leases or writer.queue:
                self._resume(writer, now)
        self._tell_damage(now)
        self._readers.wake(now)
        self._say_whether_wanted(now)
        self._set_deadline()
        self._finish()

    def _set_deadline(self) -> None:
        self.deadline = min(self._readers.deadline, self._next_watch)
        if self._rings:
            self.deadline = min(self.deadline, self._next_drain)
        if self._owing:
            self.deadline = min(self.deadline, next(iter(self._owing)).owed_since + ACK_AFTER)
        if self._put_off:
            self.deadline = min(self.deadline, self._put_off_since + ACK_AFTER)

    def _answer(self, peer: bytes, reply: m.Reply, buffers: Sequence[Any] = ()) -> bool:
        self._outbox.append((peer, [m.encode(reply), *buffers]))
        return True

    def _refuse(self, peer: bytes, number: int, code: str, text: str) -> None:
        self._answer(peer, m.Refused(number, code, text))

    # ---------------------------------------------------------------- requests

    def _hello(self, peer: bytes, request: m.Hello, _: Sequence[memoryview], now: float) -> None:
        self._known.add(peer)
        path, nonce = self._probe
        self._answer(peer, m.Welcome(request.request, self.instance, "", path, nonce))

    def _take_joined(
        self, peer: bytes, request: m.TakeJoined, _: Sequence[memoryview], now: float
    ) -> None:
        self._readers.join(peer, now)

    def _open(
        self, peer: bytes, request: m.OpenStream, _: Sequence[memoryview], now: float
    ) -> None:
        check_name(request.simulation, "simulation")
        topic = self.catalogue.frames(request.simulation, request.options)
        before = topic.incarnation
        rank = topic.open(request)
        if before and topic.incarnation != before:
            self.event(
                Event(
                    "incarnation",
                    f"Incarnation {topic.incarnation} continues {topic.name} at offset "
                    f"{topic.end}.",
                    simulation=request.simulation,
                    data={"incarnation": topic.incarnation, "offset": topic.end},
                ),
                now,
            )
        for key in [k for k, w in self._writers.items() if w.log is topic and self._gone(w)]:
            self._forget(self._writers.pop(key))
        writer = _Writer(peer, topic, topic.incarnation, request.rank)
        writer.seen = now
        key = peer, f"{request.simulation}/{request.rank}"
        if key in self._writers:
            self._forget(self._writers[key])
        self._writers[key] = writer
        self._answer(
            peer,
            m.Opened(
                request.request, topic.incarnation, rank.sequence, topic.end, topic.last_step,
                topic.last_time, topic.last_epoch,
            ),
        )  # fmt: skip

    def _forget(self, writer: _Writer) -> None:
        self._owing.pop(writer, None)
        self._rings.close(writer)

    def _open_ring(
        self, peer: bytes, request: m.OpenRing, _: Sequence[memoryview], now: float
    ) -> None:
        writer = self._writer(peer, request.simulation, request.incarnation, request.rank)
        segment = self._rings.open(writer)
        self._answer(peer, m.RingAt(request.request, str(segment.path), segment.size))

    def _gone(self, writer: _Writer) -> bool:
        return writer.incarnation != writer.log.incarnation

    def _writer(self, peer: bytes, simulation: str, incarnation: int, rank: int) -> _Writer:
        topic = self.catalogue.existing_frames(simulation)
        topic.rank(incarnation, rank)
        writer = self._writers.get((peer, f"{simulation}/{rank}"))
        if writer is None:
            raise ProtocolError(f"Open the stream of {simulation!r} before writing to it.")
        return writer

    def _lease(self, peer: bytes, request: m.Lease, _: Sequence[memoryview], now: float) -> None:
        writer = self._writer(peer, request.simulation, request.incarnation, request.rank)
        writer.hear(now)
        writer.leases.append(request)
        self._resume(writer, now)

    def _commit(
        self, peer: bytes, request: m.Commit, payload: Sequence[memoryview], now: float
    ) -> None:
        writer = self._writer(peer, request.simulation, request.incarnation, request.rank)
        writer.hear(now)
        if request.inline:
            writer.queue.append((request, payload))
            self._resume(writer, now)
            return
        sequence = writer.log.commit(request)
        self._readers.touched(writer.log.name)
        if request.request:
            self._answer(peer, m.Ack(request.request, sequence, writer.log.end))
            return
        if not writer.owed:
            writer.owed_since = now
            self._owing[writer] = None
        writer.owed += 1
        if writer.owed >= ACK_EACH:
            self._acknowledge(writer)

    def _acknowledge(self, writer: _Writer) -> None:
        """Acknowledge the commits of a writer that want no answer of their own."""
        writer.owed = 0
        del self._owing[writer]
        if not self._gone(writer):
            mine = writer.log.rank(writer.incarnation, writer.rank)
            self._answer(writer.peer, m.Ack(0, mine.sequence, writer.log.end))

    def _acknowledge_all(self, log: FrameLog) -> None:
        # A producer sends from its segments what is not acknowledged when a stager is started
        # anew: it must know what is stored before a segment may be used again.
        for writer in [w for w in self._owing if w.log is log]:
            self._acknowledge(writer)

    def _fetch(self, peer: bytes, request: m.Fetch, _: Sequence[memoryview], now: float) -> None:
        if request.group:
            self._commit_group(request.group, request.commits)
        # In this order, what is not a number does not wait.
        wait = min(request.wait, MAX_WAIT) if request.wait > 0.0 else 0.0
        self._readers.fetch(peer, request, now, wait)

    def _append(
        self, peer: bytes, request: m.Append, payload: Sequence[memoryview], now: float
    ) -> None:
        topic = self.catalogue.records(request.topic, request.options)
        offset, accepted, watermark = topic.append(
            payload,
            writer=request.writer,
            first=request.first,
            stop=request.stop,
            stamp=request.stamp,
        )
        self._answer(peer, m.Appended(request.request, offset, accepted, watermark))
        if accepted:
            self._readers.touched(topic.name)
            if topic.name.startswith(COMMANDS):
                self._answer_missed(topic.name.removeprefix(COMMANDS), now)

    def _answer_missed(self, simulation: str, now: float) -> None:
        told = answer_missed(self.catalogue, simulation, now)
        if told is not None:
            self._readers.touched(told)

    def _commit_offsets(
        self, peer: bytes, request: m.CommitOffsets, _: Sequence[memoryview], now: float
    ) -> None:
        self._readers.released(peer, request.released, now)
        unknown = self._commit_group(request.group, request.offsets)
        if unknown:
            raise UnknownTopic(f"There is no topic {unknown[0]!r} to commit an offset of.")
        self._answer(peer, m.Done(request.request))

    def _commit_group(self, group: str, offsets: dict[str, int]) -> list[str]:
        unknown = []
        for name, offset in offsets.items():
            topic = self.catalogue.get(name)
            if topic is None:
                unknown.append(name)
            else:
                topic.commit_group(group, offset)
        return unknown

    def _query(
        self, peer: bytes, request: m.QueryTopics, _: Sequence[memoryview], now: float
    ) -> None:
        found = [t.status(schemas=request.schemas) for t in self.catalogue.under(request.prefix)]
        self._answer(peer, m.Topics(request.request, found))

    def _ping(self, peer: bytes, request: m.Ping, _: Sequence[memoryview], now: float) -> None:
        self._readers.released(peer, request.released, now)
        for (owner, _name), writer in self._writers.items():
            if owner == peer:
                writer.hear(now)
                if writer.owed:
                    self._acknowledge(writer)
        self._answer(peer, m.Done(request.request))

    def _bye(self, peer: bytes, request: m.Bye, _: Sequence[memoryview], now: float) -> None:
        self._readers.forget(peer)
        if not request.simulation:
            self._known.discard(peer)
        else:
            writer = self._writer(peer, request.simulation, request.incarnation, request.rank)
            writer.log.rank(request.incarnation, request.rank)
            writer.log.dropped_by(request.rank, request.dropped)
            self._acknowledge_all(writer.log)
            writer.log.leave(request.rank, finished=request.finished)
            self._forget(self._writers.pop((peer, f"{request.simulation}/{request.rank}")))
            if request.reason:
                self.event(
                    Event("failed", request.reason, simulation=request.simulation, level="error"),
                    now,
                )
            self._readers.touched(writer.log.name)
            self._answer_missed(request.simulation, now)
        self._answer(peer, m.Done(request.request))

    # ------------------------------------------------------------ what waited

    def _resume(self, writer: _Writer, now: float) -> None:
        try:
            while writer.leases and not writer.log.is_ahead(writer.rank):
                lease = writer.leases[0]
                held = writer.log.grant(lease.size, writer.rank)
                if held is None:
                    break
                self._acknowledge_all(writer.log)
                writer.leases.popleft()
                segment = held.segment
                reply = m.Leased(lease.request, segment.number, str(segment.path), segment.size)
                self._answer(writer.peer, reply)
            while writer.queue:
                request, payload = writer.queue[0]
                # Of a rank that is ahead nothing is stored; but where new frames are what is
                # dropped, nobody waits for those who are behind, who may wait for this rank's put.
                ahead = writer.log.is_ahead(writer.rank)
                if ahead and writer.log.options.when_full != "drop_newest":
                    break
                if not self._store_inline(writer, request, () if ahead else payload):
                    break
                writer.queue.popleft()
        except StorageFull as error:
            self._storage_full(writer, error, now)
        except HeadraceError as error:
            number = writer.queue[0][0].request if writer.queue else 0
            writer.queue.clear()
            self._refuse(writer.peer, number, type(error).__name__, str(error))

    def _storage_full(self, writer: _Writer, error: StorageFull, now: float) -> None:
        for lease in writer.leases:
            self._refuse(writer.peer, lease.request, "StorageFull", str(error))
        writer.leases.clear()
        if self._told_full.get(writer.log.name, 0.0) < now - 10.0:
            self._told_full[writer.log.name] = now
            self.event(Event("storage_full", str(error), level="error", source="stager"), now)

    def _store_inline(
        self, writer: _Writer, request: m.Commit, payload: Sequence[memoryview]
    ) -> bool:
        topic = writer.log
        if self._gone(writer):
            topic.rank(request.incarnation, request.rank)
        placed, rest = place_inline(topic, request, payload) if payload else (None, (request, ()))
        self._acknowledge_all(topic)
        if placed is not None:
            topic.commit(placed)
            self._readers.touched(topic.name)
        if rest is not None:
            if topic.options.when_full != "drop_newest":
                writer.queue[0] = rest
                return False
            topic.skip(rest[0])
        sequence = topic.rank(request.incarnation, request.rank).sequence
        self._answer(writer.peer, m.Ack(request.request, sequence, topic.end))
        return True

    # ------------------------------------------------------------------ watch

    def event(self, event: Event, now: float) -> None:
        """Put an event of the stager's own into the topic ``events``."""
        stamped = msgspec.structs.replace(event, stamp=now, source=event.source or "stager")
        topic: RecordLog = self.catalogue.records("events", None)
        data = memoryview(msgspec.msgpack.encode(stamped))
        try:
            topic.append([data], writer="", first=-1, stop=-1, stamp=now)
        except StorageFull:
            log.error("There is no room for the event: %s", stamped.message)
            return
        self._readers.touched("events")

    def _watch(self, now: float) -> None:
        for writer in self._writers.values():
            if not writer.silent and now - writer.seen > PROBE_AFTER and not self._gone(writer):
                self._look_for(writer, now)
        for topic in self.catalogue.frame_logs():
            if not self._watched:
                # A stager that was killed may have left some without an answer.
                self._answer_missed(topic.name.partition("/")[2], now)
            self._watch_topic(topic, now)
        self._watched = True

    def _look_for(self, writer: _Writer, now: float) -> None:
        """Tell of a producer that was killed, or says nothing for long."""
        mine = writer.log.rank(writer.incarnation, writer.rank)
        # What it knows already: whether it can be sent at all is what matters.
        probe = m.encode(m.Ack(0, mine.sequence, writer.log.end))
        writer.cut = 0 if self._send(writer.peer, [probe]) else writer.cut + 1
        name = writer.log.name.partition("/")[2]
        who = f"Rank {writer.rank} of {name!r}"
        if writer.cut >= CUT_OFF:
            text = (
                f"{who} is gone: nobody is connected for it any more, and it did not take its "
                "leave. Its process was killed, or its machine is cut off."
            )
        elif now - writer.seen > SILENT_AFTER:
            text = f"{who} has said nothing for {SILENT_AFTER:.0f} s; its process may hang."
        else:
            return
        writer.silent = True
        writer.log.connected = False
        text += " A new incarnation can take the stream over."
        data = {"rank": writer.rank, "gone": writer.cut >= CUT_OFF}
        self.event(Event("silent", text, simulation=name, level="warning", data=data), now)

    def _watch_topic(self, topic: FrameLog, now: float) -> None:
        name = topic.name.partition("/")[2]
        if topic.dropped > topic.told_dropped:
            more = topic.dropped - topic.told_dropped
            topic.told_dropped = topic.dropped
            policy = topic.options.when_full
            # Where nothing is dropped by policy, a stop ended the wait for room.
            how = "given up for lack of room" if policy == "block" else f"dropped by {policy!r}"
            text = f"{more} frames of {name!r} were {how}, {topic.dropped} in all."
            data = {"dropped": more, "total": topic.dropped}
            if topic.incomplete:
                text += (
                    f" {topic.incomplete} of them were incomplete: blocks of some ranks came, and "
                    "others had no room for theirs."
                )
                data["incomplete"] = topic.incomplete
            self.event(Event("dropped", text, simulation=name, level="warning", data=data), now)
        waiting = topic.oldest_pending()
        if waiting is None:
            self._stuck.pop(name, None)
            return
        step, missing = waiting
        since = self._stuck.get(name, (step, now))
        if since[0] != step:
            since = (step, now)
        if now - since[1] > STUCK_AFTER:
            text = (
                f"Step {step} of {name!r} has waited {now - since[1]:.0f} s for the blocks of "
                f"rank(s) {', '.join(map(str, missing))}."
            )
            self.event(Event("waiting_for_rank", text, simulation=name, level="warning"), now)
            since = (step, math.inf)
        self._stuck[name] = since
