"""The thread behind a producer: sends what was put, keeps leases ready, brings commands."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from typing import Any, Literal
from uuid import uuid4

import msgspec

from bridge.commands import Acknowledgement, Capability, Command
from bridge.errors import (
    ConnectionLost,
    CorruptSegment,
    HeadraceError,
    StaleIncarnation,
    StorageFull,
    StreamFull,
    error_from_code,
)
from bridge.schema import StreamSchema, check_name
from bridge.staging import messages as m
from bridge.staging.commit_ring import CommitRing
from bridge.staging.delivery import OpenChunk, Sent, Window
from bridge.staging.room import Room
from bridge.staging.segment_file import map_segment
from bridge.staging.session import Session

__all__ = ["ProducerIO"]

log = logging.getLogger(__name__)

PING_AFTER = 2.0
"""Seconds of silence after which the stager is told that the producer lives."""

LOST_AFTER = 5.0
"""Seconds without a word from the stager after which the connection is made anew."""

COMMAND_WAIT = 30.0
"""Seconds for which one request for commands waits at the stager."""

MAX_PARTS = 64
"""Parts in one commit."""

SEND_AT_ONCE = 1 << 20
"""Bytes up to which the simulation's thread sends what it put itself: to make their checksum and
send it costs less than to wake the I/O thread, which has to do it on the same cores."""

UNHEARD = 0.1
"""Seconds without room for bytes that are to be sent, after which the stream counts as full."""

SELDOM = 0.002
"""Seconds between puts from which on they are sent at once; closer ones may share a message."""

_REMEMBERED = 4096  # answered commands, so that none is delivered to the simulation twice

_ERRORS_THAT_LAST = ("StaleIncarnation", "SchemaError", "ProtocolError", "VersionMismatch")


class ProducerIO:
    """Owns the connection of a producer; see `bridge.staging.producer.Producer`.

    The simulation's thread calls `begin`, `take_room` and `send_soon` and reads a few attributes;
    everything else happens in the thread that this class runs.
    """

    def __init__(
        self,
        simulation: str,
        schema: StreamSchema,
        options: m.StreamOptions,
        *,
        rank: int,
        job: str,
        capabilities: tuple[Capability, ...],
        address: str,
        keys: Any,
        timeout: float,
        linger: float,
        mapped: bool | None,
    ) -> None:
        self.simulation = simulation
        self.schema = schema
        self.options = options
        self.rank = rank
        self.now = time.time
        self.idle = False
        # What was put waits for `send_here`, so that it shares a message, and the I/O thread, which
        # would take time from the one that puts, leaves it alone.
        self.gathers = False
        self._gathered: list[Sent] = []  # with their checksums, and not sent yet
        self.failure: HeadraceError | None = None
        self.dropped = 0
        self.acknowledged = 0
        self.reconnects = 0
        self.commands_seen = 0
        self._capabilities = capabilities
        self._linger = linger
        self._token = f"{check_name(job, 'job')}:{uuid4().hex}" if job else uuid4().hex
        self._changed = threading.Condition()
        self._chunks: deque[OpenChunk] = deque()
        # Topic, record, and its number where it must not be stored twice.
        self._appends: deque[tuple[str, bytes, int]] = deque()
        self._unanswered: dict[int, tuple[str, bytes, int]] = {}
        self._answers = 0
        self._commands: deque[Command] = deque()
        self._command_offsets: dict[str, int] = {}
        self._answered: dict[str, None] = {}
        self._to_commit = -1
        self._problem: HeadraceError | None = None
        # Held by the thread that sends, or takes in what came; not while one waits for messages.
        self._at_work = threading.Lock()
        self._hurry = self._ask = False  # somebody waits for acknowledgements
        self._fault: HeadraceError | None = None
        self._session = Session(
            address, name=f"{simulation}/{rank}", keys=keys, timeout=timeout, mapped=mapped
        )
        try:
            self.opened = self._open(0, 0)
            self._window = Window(self.opened.next_sequence)
            self._room = Room(schema, options, mapped=self._session.mapped)
            self._command_position = self._find_commands()
        except BaseException:
            self._session.close()
            raise
        self._lease_number = 0
        self._lease_asked = 0.0
        self._crowded = 0.0
        self._abandon = False
        # A rank that takes no commands reads them once it waits for room: for stops of this life.
        self._peek: Literal["no", "wanted", "yes"] = "no"
        self._stops: list[Command] = []
        # Where commits are written that nobody waits for, and the number under which it was asked.
        self._ring: CommitRing | None = None
        self._ring_number = 0
        self._heard = self._spoke = time.monotonic()
        self._stopping = False
        self._finished = False
        try:
            self._ask_lease()
            self._ask_ring()
            self._fetch_commands()
            self._thread = threading.Thread(
                target=self._run, name=f"headrace-{simulation}", daemon=True
            )
            self._thread.start()
        except BaseException:
            self._session.close()
            raise

    # ------------------------------------------------ the simulation's thread

    def begin(self, opened: OpenChunk) -> None:
        """Take over a chunk that is about to be filled."""
        self._chunks.append(opened)

    def wake(self) -> None:
        """End the I/O thread's wait."""
        self.idle = False
        self._session.channel.wake()

    def send_soon(self, nbytes: int) -> None:
        """Send what was put, or have it sent: at once if it is little and the last was long ago."""
        small = nbytes <= SEND_AT_ONCE and time.monotonic() - self._spoke > SELDOM
        if small:
            self.send_here()
        else:
            self.wake()

    def gather_here(self) -> None:
        """Make the checksums of what was put, while it is warm; it is sent with what comes next."""
        if self._at_work.acquire(blocking=False):
            try:
                self._gathered += self._gather()
            finally:
                self._at_work.release()

    def send_here(self, *, frames: bool = True) -> None:
        """Send what was put, in the caller's thread; if the I/O thread is at work, that does it.

        Without `frames` only what else there is to say: that another segment is wanted.
        """
        if not self._at_work.acquire(blocking=False):
            self.gathers = self.gathers and not frames
            self.wake()
            return
        try:
            self._send_all(frames=frames)
        except HeadraceError as error:
            self._fault = error
            self.wake()
        finally:
            self._at_work.release()

    @property
    def wants_lease(self) -> bool:
        """Whether another segment is to be asked for with what is sent next."""
        return self._room.wants_lease and not self._lease_number

    def take_room(
        self, rows: int, lead: int, ids: bool, *, several: bool
    ) -> tuple[memoryview, int, int, int] | None:
        """Return buffer, position, segment and capacity for a chunk, or None if there is none."""
        found = self._room.take(rows, lead, ids, self._window.inline_bytes, several=several)
        if found is None:
            self._crowded = self._crowded or time.monotonic()
            # What is not sent keeps its room.
            self.gathers = False
            self.wake()
        else:
            self._crowded = 0.0
        return found

    def wait_for_room(self, timeout: float) -> None:
        """Wait until something changed that may have made room."""
        self.wake()
        with self._changed:
            self._changed.wait(min(timeout, 0.05) if self.options.when_full != "block" else timeout)

    @property
    def full(self) -> bool:
        """The stager has been asked for room, and has had none for a while."""
        asked, crowded, now = self._lease_asked, self._crowded, time.monotonic()
        if asked:
            return now - asked > 0.02
        # Bytes that are sent ask for no lease: what tells is that none were acknowledged.
        return not self._session.mapped and bool(crowded) and now - crowded > UNHEARD

    def why_no_room(self, waited: float) -> HeadraceError:
        """Return the error for a put that found no room in time."""
        if self._problem is not None:
            return self._problem
        return StreamFull(
            f"Waited {waited:.1f} s for room in the stream of {self.simulation!r}: it holds its "
            f"capacity of {self.options.capacity} bytes, and its consumer groups have not "
            "committed what is in it. Start or speed up a consumer, raise the capacity, or choose "
            "another policy than 'block'."
        )

    def take_commands(self) -> list[Command]:
        """Return and forget the commands that arrived."""
        out = []
        while self._commands:
            out.append(self._commands.popleft())
        return out

    def wait_for_command(self, timeout: float) -> bool:
        """Wait until a command is there; false at the time limit."""
        with self._changed:
            return self._changed.wait_for(
                lambda: bool(self._commands) or self.failure is not None, timeout
            ) and bool(self._commands)

    def acknowledge(self, answer: Acknowledgement) -> None:
        """Send an acknowledgement, and commit the command's offset."""
        stamped = msgspec.structs.replace(
            answer,
            stamp=answer.stamp or self.now(),
            incarnation=answer.incarnation or self.opened.incarnation,
        )
        self.append(f"acks/{self.simulation}", msgspec.msgpack.encode(stamped))
        offset = self._command_offsets.pop(answer.command, None)
        self._answered[answer.command] = None
        if len(self._answered) > _REMEMBERED:
            del self._answered[next(iter(self._answered))]
        if offset is not None:
            self._done_with(offset)
            self.wake()

    def _done_with(self, offset: int) -> None:
        waiting = min(self._command_offsets.values(), default=offset + 1)
        self._to_commit = max(self._to_commit, min(offset + 1, waiting))

    def append(self, topic: str, data: bytes) -> None:
        """Append a record to a topic."""
        self._appends.append((topic, data, -1))
        self.wake()

    def flush(self, timeout: float) -> None:
        """Wait until everything is stored."""
        self._hurry = self._ask = True
        self.wake()
        with self._changed:
            done = self._changed.wait_for(lambda: self._stored() or self._broken(), timeout)
        self._hurry = False
        if self.failure is not None:
            raise self.failure
        if not done:
            raise self._problem or ConnectionLost(
                f"Waited {timeout:.1f} s for the stager at {self._session.address} to store "
                f"{len(self._window)} pieces of {self.simulation!r}; it has not answered."
            )

    def close(self, timeout: float, *, finished: bool, abandon: bool = False) -> None:
        """Flush, say goodbye, end the thread."""
        self._abandon = abandon
        try:
            if self.failure is None:
                self.flush(timeout)
            elif not self._stored():
                raise self.failure
        except ConnectionLost:
            # A full stream keeps what was sent waiting; a stager that is gone is another matter.
            if not (abandon and self._is_heard()):
                raise
        finally:
            whole = self._stored() or abandon
            self._finished = finished and self.failure is None and whole
            self._stopping = True
            self.wake()
            self._thread.join(timeout)
            self._session.close()

    def _is_heard(self) -> bool:
        return self._problem is None and time.monotonic() - self._heard < 2.0 * LOST_AFTER

    def hears_stop(self, step: int) -> bool:
        """Return whether a stop of this life is in the log; for ranks that take no commands."""
        if self._peek == "no":
            self._peek = "wanted"
            self.wake()
        now = self.now()
        return any(
            (not c.expires or now <= c.expires) and c.at_step in (None, step)
            for c in list(self._stops)
        )

    def _stored(self) -> bool:
        sent = all(o.sent == o.filled for o in list(self._chunks))
        return sent and not (self._window or self._appends or self._unanswered)

    def _broken(self) -> bool:
        return self.failure is not None

    # ---------------------------------------------------------- the I/O thread

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._turn()
            self._say_bye()
        except HeadraceError as error:
            self._fail(error)
        except Exception as error:
            log.exception("The I/O thread of %s failed.", self.simulation)
            self._fail(
                ConnectionLost(
                    f"The I/O thread of {self.simulation!r} failed: "
                    f"{type(error).__name__}: {error}."
                )
            )

    def _turn(self) -> None:
        with self._at_work:
            busy = self._work()
        self.idle = True
        waits = not self.gathers and any(o.filled > o.sent for o in list(self._chunks))
        if busy or waits or self._appends:
            timeout = 0.0
        else:
            timeout = 0.5
        parts = self._session.channel.receive(timeout)
        woken = not self.idle
        self.idle = False
        if parts is None:
            if woken and self._chunks and not self._room.wants_lease and self._is_close():
                # Small frames that follow closely share one message.
                time.sleep(self._linger)
            with self._at_work:
                self._look_after()
            return
        with self._at_work:
            while parts is not None:
                self._heard = time.monotonic()
                self._problem = None
                self._hear(m.decode_reply(parts[0]), parts[1:])
                parts = self._session.channel.receive(0.0)
        with self._changed:
            self._changed.notify_all()

    def _is_close(self) -> bool:
        """Tell whether something was sent so lately that more may come while one lingers.

        Frames each 2 ms, none of which ever shared a message, came 0.6 ms later for it.
        """
        return time.monotonic() - self._spoke < 2.0 * self._linger

    def _work(self) -> bool:
        """Send everything; return whether there may be more."""
        if self._fault is not None:
            raise self._fault
        ask, self._ask = self._ask, False
        ask = ask and bool(self._window)
        busy = self._send_all(frames=self._hurry or not self.gathers)
        if ask:
            # What was sent before somebody began to wait is acknowledged now.
            self._send(m.Ping(self._session.number()))
        return busy

    def _look_after(self) -> None:
        now = time.monotonic()
        expects = bool(self._window or self._unanswered)
        if now - self._heard > LOST_AFTER and (expects or self._spoke > self._heard):
            self._reconnect()
        elif now - self._spoke > PING_AFTER:
            self._send(m.Ping(self._session.number()))

    def _send(self, message: m.Request, buffers: list[Any] | None = None) -> None:
        self._spoke = time.monotonic()
        self._session.channel.send([m.encode(message), *(buffers or ())])

    def _send_all(self, *, frames: bool = True) -> bool:
        sent: list[Sent] = []
        if frames:
            sent, self._gathered = self._gathered, []
            sent += self._gather(MAX_PARTS - len(sent))
        if sent:
            self._commit(sent)
        if self._room.wants_lease and not self._lease_number:
            self._ask_lease()
        if self._peek == "wanted":
            self._peek = "yes"
            self._fetch_commands()
        while self._appends:
            topic, data, at = self._appends.popleft()
            if at < 0 and topic.startswith("acks/"):
                at, self._answers = self._answers, self._answers + 1
            number = self._session.number()
            self._unanswered[number] = (topic, data, at)
            self._append_now(number, topic, data, at)
        if self._to_commit >= 0:
            offsets = {f"commands/{self.simulation}": self._to_commit}
            self._to_commit = -1
            group = f"simulation/{self.simulation}"
            self._send(m.CommitOffsets(self._session.number(), group, offsets))
        return len(sent) >= MAX_PARTS

    def _append_now(self, number: int, topic: str, data: bytes, at: int) -> None:
        writer, stop = (self._token, at + 1) if at >= 0 else ("", -1)
        self._send(m.Append(number, topic, writer, at, stop, self.now()), [data])

    def _gather(self, most: int = MAX_PARTS) -> list[Sent]:
        out: list[Sent] = []
        chunks = self._chunks
        while chunks and len(out) < most:
            opened = chunks[0]
            # In this order: once `closed` is seen, `filled` does not change any more.
            closed = opened.closed
            filled = opened.filled
            if filled > opened.sent:
                sent = Sent(opened, opened.sent, filled - opened.sent, opened.stamp)
                opened.sent = filled
                self._window.add(sent)
                out.append(sent)
            if not closed:
                break
            chunks.popleft()
        return out

    def _commit(self, sent: list[Sent], *, hurry: bool = False) -> None:
        batch: list[Sent] = []
        for one in sent:
            if one.open.inline:
                self._commit_now(batch, hurry)
                self._commit_now([one], True)
                batch = []
            else:
                batch.append(one)
        self._commit_now(batch, hurry)

    def _commit_now(self, batch: list[Sent], hurry: bool) -> None:
        if not batch:
            return
        last = [s.last() for s in batch]
        # Nobody waits for the acknowledgement of what lies in a segment: it may tell of several
        # commits.
        number = self._session.number() if hurry or self._hurry else 0
        message = m.Commit(
            number, self.simulation, self.opened.incarnation, batch[0].sequence,
            [s.part(self.rank) for s in batch], [x[0] for x in last], [x[1] for x in last],
            [x[2] for x in last], batch[0].stamp, batch[0].open.inline, self.rank, self.dropped,
        )  # fmt: skip
        ring = self._ring
        if number or ring is None or batch[0].open.inline or ring.wanted:
            self._send(message, [b for s in batch for b in s.buffers()])
        elif not ring.put(m.encode(message)):
            self._send(message)
        elif ring.wanted:
            # Somebody began to wait meanwhile, and may not have seen it.
            self._send(m.Ping(self._session.number()))

    # ----------------------------------------------------------------- answers

    def _hear(self, reply: m.Reply, buffers: list[memoryview]) -> None:
        match reply:
            case m.Ack(sequence=sequence):
                self._acknowledged(sequence)
            case m.Leased():
                if reply.request == self._lease_number:
                    self._lease_number = 0
                    self._lease_asked = 0.0
                    self._take_lease(reply)
            case m.Fetched():
                self._take(reply, buffers)
            case m.RingAt():
                if reply.request == self._ring_number:
                    self._take_ring(reply)
            case m.Appended():
                self._unanswered.pop(reply.request, None)
            case m.Refused():
                self._refused(reply)

    def _take_lease(self, lease: m.Leased) -> None:
        try:
            self._room.add_lease(lease.segment, lease.path, lease.size)
        except CorruptSegment:
            # It was taken away again, as when a newer life began: asking anew tells why.
            self._room.wants_lease = True

    def _ask_ring(self) -> None:
        """Ask for a ring, which spares the other ranks of a simulation the time of a message."""
        self._ring = None
        if self._session.mapped and self.schema.n_ranks > 1:
            self._ring_number = self._session.number()
            message = m.OpenRing(
                self._ring_number, self.simulation, self.opened.incarnation, self.rank
            )
            self._send(message)

    def _take_ring(self, found: m.RingAt) -> None:
        try:
            self._ring = CommitRing(map_segment(found.path, found.size, write=True))
        except CorruptSegment:
            log.debug("The ring of %s is gone again.", self.simulation)

    def _acknowledged(self, sequence: int) -> None:
        before = self._window.acknowledged
        for buffer in self._window.acknowledge(sequence):
            self._room.give_back(buffer)
        self.acknowledged += max(0, self._window.acknowledged - before)

    def _take(self, reply: m.Fetched, buffers: list[memoryview]) -> None:
        arrived = iter(buffers)
        new: list[Command] = []
        for part in reply.slices:
            self._command_position = max(part.position, part.low)
            for record in part.records:
                command = msgspec.msgpack.decode(next(arrived), type=Command)
                if self.rank:
                    if command.kind == "stop" and any(c.kind == "stop" for c in self._capabilities):
                        self._stops.append(command)
                    continue
                if command.id in self._answered:
                    # It was delivered again by a stager that was started anew.
                    self._done_with(record.offset)
                    continue
                self._command_offsets[command.id] = record.offset
                new.append(command)
        # All that came together is there at once, for the step that the simulation is at.
        self._commands.extend(new)
        self.commands_seen += len(new)
        self._fetch_commands()

    def _refused(self, reply: m.Refused) -> None:
        if reply.code == "NotIntroduced":
            self._reconnect()
            return
        error = error_from_code(reply.code, reply.message)
        if reply.request and reply.request == self._ring_number:
            return  # commits are sent
        if reply.request and reply.request == self._lease_number and isinstance(error, StorageFull):
            self._lease_number = 0
            self._problem = error
            return
        self._unanswered.pop(reply.request, None)
        if reply.code in _ERRORS_THAT_LAST:
            raise error
        log.warning("The stager refused a request of %s: %s", self.simulation, reply.message)
        self._problem = error
        # What was refused for a passing reason is sent again when the stream is opened anew.
        time.sleep(0.1)
        self._reconnect()

    def _ask_lease(self) -> None:
        if not self._session.mapped:
            self._room.wants_lease = False
            return
        self._lease_number = self._session.number()
        self._lease_asked = self._lease_asked or time.monotonic()
        self._room.wants_lease = False
        size = self._room.next_size()
        message = m.Lease(
            self._lease_number, self.simulation, self.opened.incarnation, size, self.rank
        )
        self._send(message)

    def _fetch_commands(self) -> None:
        if self.rank and self._peek != "yes":
            return
        topic = f"commands/{self.simulation}"
        self._send(
            m.Fetch(self._session.number(), {topic: self._command_position}, wait=COMMAND_WAIT)
        )

    # -------------------------------------------------------------- connection

    def _open(self, incarnation: int, sequence: int) -> m.Opened:
        request = m.OpenStream(
            self._session.number(), self.simulation, self.schema, self.options, self._token,
            incarnation, self.rank, list(self._capabilities), sequence,
        )  # fmt: skip
        return self._session.ask(request, m.Opened)[0]

    def _find_commands(self) -> int:
        topic = f"commands/{self.simulation}"
        found, _ = self._session.ask(m.QueryTopics(self._session.number(), topic), m.Topics)
        for status in found.topics:
            if status.name == topic:
                return max(status.low, status.groups.get(f"simulation/{self.simulation}", 0))
        return 0

    def _reconnect(self) -> None:
        """Introduce the producer again, learn what is stored, and send the rest again."""
        self.reconnects += 1
        patience, self._session.timeout = self._session.timeout, 3.0
        try:
            instance = self._session.instance
            self._session.hello()
            opened = self._open(self.opened.incarnation, self._window.acknowledged)
            if self._session.instance != instance:
                self._command_position = self._find_commands()
        except StaleIncarnation:
            raise
        except HeadraceError as error:
            self._problem = error
            self._heard = time.monotonic()
            return
        finally:
            self._session.timeout = patience
        self._heard = time.monotonic()
        self._acknowledged(opened.next_sequence)
        if self._session.instance != instance:
            self._new_stager()
        self._lease_number = 0
        self._room.wants_lease = not self._room.leases_waiting
        self._ask_ring()
        self._gathered.clear()
        self._commit(list(self._window.unacknowledged()), hurry=True)
        unanswered, self._unanswered = self._unanswered, {}
        # Before what was not sent yet, so that numbers come in their order.
        self._appends.extendleft(reversed(unanswered.values()))
        self._fetch_commands()

    def _new_stager(self) -> None:
        # It does not know the segments: what is in them is sent as bytes, and new ones are asked
        # for. A chunk being filled is filled to its end; its rows travel as well.
        self._room.drop_leases(mapped=self._session.mapped)
        for opened in list(self._chunks):
            opened.inline = True
        self._window.make_inline()

    def _say_bye(self) -> None:
        if self._bye_is_heard():
            return
        # The stager was started anew since it was last heard of, and does not know this producer.
        self._reconnect()
        if self._problem is not None or not self._bye_is_heard():
            log.warning("The stager did not hear that %s left.", self.simulation)

    def _bye_is_heard(self) -> bool:
        self._send_all()
        if self._abandon:
            self.dropped += self._window.give_up()
        number = self._session.number()
        self._send(
            m.Bye(
                number, self.simulation, self.opened.incarnation, self.rank, self._finished,
                self.dropped,
            )
        )  # fmt: skip
        end = time.monotonic() + 2.0
        while time.monotonic() < end:
            parts = self._session.channel.receive(0.2)
            if parts is None:
                continue
            reply = m.decode_reply(parts[0])
            if reply.request == number:
                return not isinstance(reply, m.Refused)
            self._hear(reply, parts[1:])
        return False

    def _fail(self, error: HeadraceError) -> None:
        self.failure = error
        with self._changed:
            self._changed.notify_all()
