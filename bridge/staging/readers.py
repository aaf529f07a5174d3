"""Readers of the stager: long polls that wait, and segments that are pinned while they are read."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from bridge.errors import (
    CorruptSegment,
    HeadraceError,
    OffsetOutOfRange,
    ProtocolError,
    UnknownTopic,
)
from bridge.staging import messages as m
from bridge.staging.block_share import BlockShare, is_decomposed, share_of
from bridge.staging.catalogue import Catalogue
from bridge.staging.frame_log import FrameLog
from bridge.staging.joined import JoinedRecords
from bridge.staging.layout import Chunk, chunk_layout
from bridge.staging.record_log import RecordLog, StoredRecord
from bridge.staging.topic import Held

__all__ = ["Readers"]

FORGET_AFTER = 60.0
"""Seconds of silence after which a reader's hand-outs are no longer waited for. Its views stay
valid: the segments are removed instead of being used again."""

_FRAMES = "frames/"

Answer = Callable[[bytes, m.Reply, Sequence[Any]], bool]
Damaged = Callable[[RecordLog, StoredRecord, str], None]


class _Reader:
    """One peer that fetches."""

    __slots__ = ("handout", "handouts", "joins", "schemas", "seen")

    def __init__(self) -> None:
        self.joins = False
        self.handout = 0
        self.handouts: deque[tuple[int, list[Held]]] = deque()
        self.schemas: dict[str, int] = {}
        self.seen = 0.0


class _Waiting:
    """A fetch that found nothing yet."""

    __slots__ = ("deadline", "for_frames", "peer", "request")

    def __init__(self, peer: bytes, request: m.Fetch, deadline: float) -> None:
        self.peer = peer
        self.request = request
        self.deadline = deadline
        follow = request.follow
        self.for_frames = any(name.startswith(_FRAMES) for name in request.positions) or (
            bool(follow) and (follow.startswith(_FRAMES) or _FRAMES.startswith(follow))
        )

    def concerns(self, touched: set[str]) -> bool:
        """Whether one of the topics is read by this fetch."""
        positions, follow = self.request.positions, self.request.follow
        return any(t in positions or (follow and t.startswith(follow)) for t in touched)


class Readers:
    """Answers fetches, at once or when there is something to read.

    Parameters
    ----------
    catalogue
        The topics.
    answer
        Sends an answer to a peer.
    damaged
        Told of a record whose bytes do not match their checksum, and why, each time that a reader
        passes over it.
    """

    def __init__(self, catalogue: Catalogue, answer: Answer, damaged: Damaged) -> None:
        self.deadline = math.inf
        self._catalogue = catalogue
        self._answer = answer
        self._damaged = damaged
        self._readers: dict[bytes, _Reader] = {}
        self._waiting: list[_Waiting] = []
        self._touched: set[str] = set()

    def join(self, peer: bytes, now: float) -> None:
        """A reader takes small records in one buffer."""
        reader = self._reader(peer)
        reader.joins, reader.seen = True, now

    def wait_for_frames(self) -> bool:
        """Return whether a fetch waits that new frames might answer."""
        return any(w.for_frames for w in self._waiting)

    def touched(self, topic: str) -> None:
        """Note that a topic has something new."""
        self._touched.add(topic)

    def fetch(self, peer: bytes, request: m.Fetch, now: float, wait: float) -> None:
        """Answer a fetch now, or keep it for at most `wait` seconds."""
        self.released(peer, request.released, now)
        if isinstance(request, m.FetchBlocks) and not 0 <= request.group_number < request.groups:
            raise ProtocolError(
                f"Group {request.group_number} of {request.groups} was asked for; groups count "
                "from 0."
            )
        for name in request.positions:
            if self._catalogue.get(name) is None and not wait:
                raise UnknownTopic(f"There is no topic {name!r}.")
        if self._try(peer, request, final=wait <= 0.0):
            return
        waiting = _Waiting(peer, request, now + wait)
        self._waiting.append(waiting)
        self.deadline = min(self.deadline, waiting.deadline)

    def wake(self, now: float) -> None:
        """Answer the fetches that concern topics touched since the last call."""
        if not self._touched:
            return
        touched, self._touched = self._touched, set()
        waiting, self._waiting = self._waiting, []
        self._waiting += [
            w for w in waiting if not (w.concerns(touched) and self._retry(w, final=False))
        ]

    def expire(self, now: float) -> None:
        """Answer the fetches whose time is over, and give up on readers long silent."""
        keep: list[_Waiting] = []
        for waiting in self._waiting:
            if waiting.deadline <= now:
                self._retry(waiting, final=True)
                self._reader(waiting.peer).seen = now
            else:
                keep.append(waiting)
        self._waiting = keep
        self.deadline = min((w.deadline for w in keep), default=math.inf)
        for peer, reader in list(self._readers.items()):
            busy = any(w.peer == peer for w in keep)
            if not busy and now - reader.seen > FORGET_AFTER:
                self._forget(peer, taint=True)

    def released(self, peer: bytes, number: int, now: float) -> None:
        """A reader has let go of its hand-outs up to a number."""
        reader = self._reader(peer)
        reader.seen = now
        while reader.handouts and reader.handouts[0][0] <= number:
            for held in reader.handouts.popleft()[1]:
                held.pins -= 1

    def forget(self, peer: bytes) -> None:
        """A reader has said goodbye."""
        self._waiting = [w for w in self._waiting if w.peer != peer]
        self._forget(peer, taint=False)

    def _forget(self, peer: bytes, *, taint: bool) -> None:
        reader = self._readers.pop(peer, None)
        if reader is None:
            return
        for _, pinned in reader.handouts:
            for held in pinned:
                held.pins -= 1
                held.tainted |= taint

    def _reader(self, peer: bytes) -> _Reader:
        reader = self._readers.get(peer)
        if reader is None:
            reader = self._readers[peer] = _Reader()
        return reader

    # ----------------------------------------------------------------- reading

    def _retry(self, waiting: _Waiting, *, final: bool) -> bool:
        try:
            return self._try(waiting.peer, waiting.request, final=final)
        except HeadraceError as error:
            refusal = m.Refused(waiting.request.request, type(error).__name__, str(error))
            self._answer(waiting.peer, refusal, ())
            return True

    def _try(self, peer: bytes, request: m.Fetch, *, final: bool) -> bool:
        reader = self._reader(peer)
        if request.fresh:
            reader.schemas.clear()
        told, readable = self._look(request)
        if not (told or readable or final):
            return False
        gathered = _Gathered(joins=reader.joins)
        frames, room = request.max_frames, request.max_bytes
        # Each topic gets its share, and each is the first one in turn, so that a stream with much
        # to read does not keep its readers from the others.
        turn = reader.handout % len(readable) if readable else 0
        try:
            for i, (topic, part) in enumerate([*readable[turn:], *readable[:turn]]):
                if frames <= 0 or room <= 0:
                    break
                share = len(readable) - i
                start = max(part.position, topic.low)
                limits = max(1, frames // share), max(1, room // share)
                room -= self._read(reader, request, topic, part, gathered, limits)
                frames -= part.position - start
                told.append(part)
        except BaseException:
            for held in gathered.pinned:
                held.pins -= 1
            raise
        reader.handout += 1
        if gathered.pinned:
            reader.handouts.append((reader.handout, gathered.pinned))
        segments = list(gathered.segments.values())
        buffers, joined = gathered.close()
        reply = m.Fetched(request.request, reader.handout, told, segments)
        if joined:
            reply = m.FetchedJoined(request.request, reader.handout, told, segments, joined)
        self._answer(peer, reply, buffers)
        return True

    def _look(
        self, request: m.Fetch
    ) -> tuple[list[m.TopicSlice], list[tuple[FrameLog | RecordLog, m.TopicSlice]]]:
        """Return the topics that have ended, and those that have something to read."""
        positions = dict(request.positions)
        if request.follow:
            for followed in self._catalogue.under(request.follow):
                positions.setdefault(followed.name, followed.low)
        ended: list[m.TopicSlice] = []
        readable: list[tuple[FrameLog | RecordLog, m.TopicSlice]] = []
        for name, position in positions.items():
            topic = self._catalogue.get(name)
            if topic is None:
                continue
            if position > topic.end:
                raise OffsetOutOfRange(
                    f"Offset {position} of {name} is beyond its end, {topic.end}: it was not "
                    "written yet, or the stager was started anew without what it held. Begin "
                    "again from offset 0."
                )
            if position < topic.end:
                part = m.TopicSlice(name, position, topic.low, topic.end, False)
                readable.append((topic, part))
            elif topic.finished and name not in request.done:
                ended.append(m.TopicSlice(name, position, topic.low, topic.end, True))
        return ended, readable

    def _read(
        self,
        reader: _Reader,
        request: m.Fetch,
        topic: FrameLog | RecordLog,
        part: m.TopicSlice,
        gathered: _Gathered,
        limits: tuple[int, int],
    ) -> int:
        if isinstance(topic, RecordLog):
            return self._read_records(topic, part, gathered, limits)
        share = None
        if isinstance(request, m.FetchBlocks) and is_decomposed(topic.schema):
            share = share_of(request.group_number, request.groups, topic.schema.n_ranks)

        def size(entry: m.Entry) -> int:
            return topic.entry_bytes(entry) if share is None else _share_bytes(topic, entry, share)

        entries, part.position = topic.read(part.position, *limits, size)
        part.entries = entries
        if reader.schemas.get(topic.name) != topic.incarnation:
            reader.schemas[topic.name] = topic.incarnation
            part.schema = topic.schema
        numbers = {
            p.segment
            for e in entries
            for rank, p in enumerate(e.parts)
            # Rank 0 has what is not written in blocks.
            if share is None or rank in share or not rank
        }
        gathered.pinned += topic.pinned(numbers)
        if request.mapped:
            for number in numbers:
                segment = topic.held[number].segment
                name = m.SegmentName(number, str(segment.path), segment.size)
                gathered.segments[number] = name
        else:
            part.entries = [_ship(topic, e, gathered.buffers, share) for e in entries]
        return sum(map(size, entries))

    def _read_records(
        self, topic: RecordLog, part: m.TopicSlice, gathered: _Gathered, limits: tuple[int, int]
    ) -> int:
        size = 0
        while not part.records and part.position < topic.end:
            records, part.position = topic.read(part.position, *limits, _record_bytes)
            for record in records:
                try:
                    data = topic.data(record)
                except CorruptSegment as error:
                    if part.records:
                        # What is whole comes first; the next fetch begins with the damage.
                        part.position = record.offset
                        break
                    self._damaged(topic, record, str(error))
                    # One bad record must not keep anybody from those behind it, nor from other
                    # topics: to the reader it is a gap, as if it had been released.
                    part.low = record.offset + 1
                    continue
                part.records.append(m.Record(record.offset, record.stamp))
                gathered.add_record(data)
                size += record.length
        return size


class _Gathered:
    """What one answer brings along."""

    __slots__ = ("_joined", "buffers", "pinned", "segments")

    def __init__(self, *, joins: bool) -> None:
        self.segments: dict[int, m.SegmentName] = {}
        self.pinned: list[Held] = []
        self.buffers: list[Any] = []
        self._joined = JoinedRecords() if joins else None

    def add_record(self, data: bytes) -> None:
        """Bring a record along."""
        if self._joined is None or not self._joined.add(data):
            self.buffers.append(data)

    def close(self) -> tuple[list[Any], list[int]]:
        """Return all buffers, and the sizes of the records that lie in the first one."""
        if self._joined is None:
            return self.buffers, []
        shared, sizes = self._joined.close()
        return [*shared, *self.buffers], sizes


def _record_bytes(record: StoredRecord) -> int:
    return record.length


def _share_bytes(topic: FrameLog, entry: m.Entry, share: BlockShare) -> int:
    return sum(topic.part_bytes(p) for rank, p in enumerate(entry.parts) if rank in share)


def _ship(
    topic: FrameLog, entry: m.Entry, buffers: list[Any], share: BlockShare | None = None
) -> m.Entry:
    parts = []
    for rank, part in enumerate(entry.parts):
        segment, checksum = -1, part.checksum
        if share is None or rank in share:
            buffers.append(_chunk(topic, part).pack(part.row, part.count))
        elif not rank:
            segment = m.HEAD_ONLY
            head = _head(topic, part)
            buffers.append(head.pack(0, 1))
            checksum = head.checksum(0, 1)
        else:
            segment = m.NOT_SENT
        parts.append(
            m.Part(
                segment, 0, part.count, 0, part.count, checksum, part.lead, part.ids, part.start,
                part.rank,
            )
        )  # fmt: skip
    return m.Entry(entry.offset, entry.count, parts, entry.stamp)


def _chunk(topic: FrameLog, part: m.Part) -> Chunk:
    layout = chunk_layout(topic.schema, part.capacity, lead=part.lead, ids=part.ids)
    return Chunk(layout, topic.held[part.segment].segment.view, part.position)


def _head(topic: FrameLog, part: m.Part) -> Chunk:
    """Copy what is not decomposed of rank 0's block, as a block without rows."""
    chunk = _chunk(topic, part)
    layout = chunk_layout(topic.schema, 1, lead=0)
    head = Chunk(layout, memoryview(bytearray(layout.nbytes)))
    for name, array in head.arrays.items():
        if array.size:
            array[0] = chunk.arrays[name][part.row]
    return head
