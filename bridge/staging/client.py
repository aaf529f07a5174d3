"""What readers, engines and tools do with a stager: fetch, append, commit, ask."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from bridge.closing import Closing
from bridge.commands import FrameReference
from bridge.errors import CorruptSegment, OffsetOutOfRange, ProtocolError, UnknownTopic
from bridge.frames import Frame, FrameBatch
from bridge.schema import StreamSchema
from bridge.staging import messages as m
from bridge.staging.assembly import Locate, join_blocks, view_batches
from bridge.staging.block_share import is_decomposed, share_of
from bridge.staging.decomposed import (
    MANY_BYTES,
    DecomposedFrame,
    batch_blocks,
    read_decomposed,
)
from bridge.staging.joined import split_records
from bridge.staging.messages import StreamOptions, TopicStatus
from bridge.staging.row_order import RowOrders
from bridge.staging.segments import SegmentMap
from bridge.staging.session import Session

__all__ = ["AppendResult", "Fetched", "Gap", "StagerClient", "StoredRecord"]


RELEASED_UNDER_US = 5
"""Times that a fetch is made again because its segments were gone before they were mapped."""


class _Released(CorruptSegment):
    """A segment was released between the stager's answer and the mapping."""


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """One record of a topic that holds no frames."""

    topic: str
    """Name of the topic."""
    offset: int
    """Position in the topic."""
    data: memoryview
    """Its bytes."""
    stamp: float
    """Unix time in seconds at which the writer sent it."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Offsets that this reader did not read: they were released before it came to them.

    Records whose bytes are damaged are passed over in the same way; an event tells of them. Frames
    are not: to read damaged ones is an error.
    """

    topic: str
    """Name of the topic."""
    first: int
    """The first one missed."""
    stop: int
    """The offset after the last one missed."""
    passed_over: bool = False
    """They were left out on purpose instead (`bridge.engines.observing.Observing`)."""


@dataclass(frozen=True, slots=True)
class AppendResult:
    """What became of an append."""

    offset: int
    """Offset of the first record, if it was accepted."""
    accepted: bool
    """False if the writer's watermark lay above `first`: nothing was stored."""
    watermark: int
    """Source offset below which everything of this writer is stored; -1 without a writer."""


class Fetched:
    """What one fetch brought; arrays are valid until `release`.

    Attributes
    ----------
    batches
        Frames, as batches of one simulation each, in order within a simulation.
    stamps
        For each batch, the Unix time at which its newest frame was put.
    records
        Records of the other topics.
    positions
        Topic to the offset at which to go on.
    ends
        Topic to the offset after its newest item.
    finished
        Topics whose producer said that no more will come, and that were read to the end.
    gaps
        What was released before it could be read.
    decomposed
        With `StagerClient.fetch_blocks`, frames of several ranks, in the place of batches.
    """

    __slots__ = (
        "_client",
        "_handout",
        "batches",
        "decomposed",
        "ends",
        "finished",
        "gaps",
        "positions",
        "records",
        "stamps",
    )

    def __init__(self, client: StagerClient, handout: int) -> None:
        self.batches: list[FrameBatch] = []
        self.stamps: list[float] = []
        self.records: list[StoredRecord] = []
        self.positions: dict[str, int] = {}
        self.ends: dict[str, int] = {}
        self.finished: set[str] = set()
        self.gaps: list[Gap] = []
        self.decomposed: list[DecomposedFrame] = []
        self._client = client
        self._handout = handout

    def release(self) -> None:
        """Let the stager use the segments again; told with the next request."""
        self._client._release(self._handout)

    def __enter__(self) -> Fetched:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    def __bool__(self) -> bool:
        return bool(self.batches or self.decomposed or self.records or self.finished or self.gaps)


class StagerClient(Closing):
    """A connection for reading and for small writes; one thread at a time may use it.

    Parameters
    ----------
    address
        Where the stager listens.
    name
        For people who look at the stager's logs.
    keys
        `bridge.transports.ClientKeys` for an encrypted connection.
    timeout
        Seconds without an answer after which a call raises `ConnectionLost`.
    mapped
        Map segments instead of having the bytes sent; None finds out whether that works.
    """

    def __init__(
        self,
        address: str,
        *,
        name: str = "",
        keys: Any = None,
        timeout: float = 10.0,
        mapped: bool | None = None,
    ) -> None:
        self._session = Session(
            address, name=name, keys=keys, timeout=timeout, mapped=mapped, joins=True
        )
        self._instance = self._session.instance
        self._maps = SegmentMap(count=256)
        self._schemas: dict[str, StreamSchema] = {}
        self._orders = RowOrders()
        self._out: set[int] = set()
        self._last = 0

    @property
    def address(self) -> str:
        """Where the stager listens."""
        return self._session.address

    @property
    def instance(self) -> str:
        """Which stager answered last; another one after it was started anew."""
        return self._session.instance

    @property
    def mapped(self) -> bool:
        """Whether frames are read from mapped segments."""
        return self._session.mapped

    # ------------------------------------------------------------------ fetch

    def fetch(
        self,
        positions: Mapping[str, int],
        *,
        follow: str = "",
        group: str = "",
        commit: Mapping[str, int] | None = None,
        done: Sequence[str] = (),
        max_frames: int = 4096,
        max_bytes: int = 16 << 20,
        wait: float = 1.0,
        in_blocks: bool = False,
    ) -> Fetched:
        """Read what lies at and behind some offsets, waiting for it if there is nothing yet.

        Parameters
        ----------
        positions
            Topic to the offset to read from.
        follow
            Prefix of topics that are read too, from their oldest item on, without being named.
        group, commit
            Commit these offsets for this group first, in the same round trip.
        done
            Topics that are known to be finished: they are not reported as such again.
        max_frames, max_bytes
            How much to bring at most, over all topics; at least one item comes if there is any.
        wait
            Seconds to wait for something to read, at most 60. An empty answer is no error.
        in_blocks
            Large frames of several ranks come as `bridge.block_batch.BlockBatch`, whose variables
            are joined only where they are looked at; until `Fetched.release`, that is.

        Raises
        ------
        UnknownTopic
            With ``wait=0``, if a topic does not exist.
        OffsetOutOfRange
            If an offset is beyond the end: the stager lost what it held.
        CorruptSegment
            If bytes of frames do not match their checksum. Damaged records are a gap.
        ConnectionLost
            If the stager does not answer.
        """
        request = m.Fetch(
            0, dict(positions), follow, group, dict(commit or {}), max_frames, max_bytes, wait,
            done=list(done),
        )  # fmt: skip
        return self._fetch(request, in_blocks=in_blocks)

    def fetch_blocks(
        self,
        topic: str,
        position: int,
        *,
        share: tuple[int, int],
        group: str = "",
        commit: Mapping[str, int] | None = None,
        max_frames: int = 4096,
        max_bytes: int = 16 << 20,
        wait: float = 1.0,
    ) -> Fetched:
        """Read frames of one stream; those that several ranks wrote come as their blocks.

        Blocks of other ranks are neither mapped nor sent, nor are their checksums made; but
        everybody is given what rank 0 wrote besides its rows. Whole frames come as batches, as
        `fetch` brings them.

        Parameters
        ----------
        topic, position
            What to read, and from which offset on.
        share
            Number of a group of blocks, and how many groups there are; ``(0, 1)`` for all blocks.
        group, commit, max_frames, max_bytes, wait
            As for `fetch`; `max_bytes` counts the blocks of the share.

        Raises
        ------
        UnknownTopic, OffsetOutOfRange, CorruptSegment, ConnectionLost
            As for `fetch`.
        """
        request = m.FetchBlocks(
            0, {topic: position}, "", group, dict(commit or {}), max_frames, max_bytes, wait,
            group_number=share[0], groups=share[1],
        )  # fmt: skip
        return self._fetch(request)

    def _fetch(self, request: m.Fetch, *, in_blocks: bool = False) -> Fetched:
        for _ in range(RELEASED_UNDER_US):
            try:
                return self._fetch_once(request, in_blocks)
            except _Released:
                # A full stream dropped the segment between the answer and the mapping. Asked
                # again, the stager tells of the gap.
                continue
        return self._fetch_once(request, in_blocks)

    def _fetch_once(self, request: m.Fetch, in_blocks: bool) -> Fetched:
        request.request = self._session.number()
        request.released, request.mapped = self._released(), self._session.mapped
        reply, buffers = self._session.ask(request, m.Fetched, wait=request.wait)
        if self._session.instance != self._instance:
            self._instance = self._session.instance
            self._out.clear()
        self._last = reply.handout
        self._out.add(reply.handout)
        fetched = Fetched(self, reply.handout)
        try:
            self._unpack(fetched, reply, buffers, request, in_blocks)
        except BaseException:
            fetched.release()
            raise
        if not (fetched.batches or fetched.decomposed):
            fetched.release()
        return fetched

    def _unpack(
        self,
        fetched: Fetched,
        reply: m.Fetched,
        buffers: list[memoryview],
        request: m.Fetch,
        in_blocks: bool,
    ) -> None:
        names = {s.number: s for s in reply.segments}
        arrived = iter(buffers)
        joined = reply.joined if isinstance(reply, m.FetchedJoined) else ()
        records = split_records(joined, arrived)

        def locate(part: m.Part) -> tuple[memoryview, int]:
            if names:
                where = names[part.segment]
                try:
                    return self._maps.get(where.path, where.size), part.position
                except CorruptSegment as error:
                    if os.path.exists(where.path):
                        raise
                    raise _Released(str(error)) from error
            return next(arrived), 0

        for part in reply.slices:
            asked = request.positions.get(part.topic, part.low)
            fetched.positions[part.topic] = part.position
            fetched.ends[part.topic] = part.end
            if part.finished:
                fetched.finished.add(part.topic)
            if asked < part.low:
                fetched.gaps.append(Gap(part.topic, asked, part.low))
                fetched.positions[part.topic] = max(part.position, part.low)
            for record in part.records:
                fetched.records.append(
                    StoredRecord(part.topic, record.offset, next(records), record.stamp)
                )
            if part.schema is not None:
                self._schemas[part.topic] = part.schema
            if part.entries:
                self._frames(fetched, part, max(asked, part.low), locate, request, in_blocks)

    def _frames(
        self,
        fetched: Fetched,
        part: m.TopicSlice,
        start: int,
        locate: Locate,
        request: m.Fetch,
        in_blocks: bool,
    ) -> None:
        schema = self._schemas.get(part.topic)
        if schema is None:
            raise ProtocolError(f"The stager sent frames of {part.topic} without their schema.")
        if isinstance(request, m.FetchBlocks) and is_decomposed(schema):
            share = share_of(request.group_number, request.groups, schema.n_ranks)
            fetched.decomposed = read_decomposed(part.topic, part.entries, schema, locate, share)
            return
        batches: list[FrameBatch]
        if in_blocks and is_decomposed(schema) and schema.frame_nbytes >= MANY_BYTES:
            batches = [batch_blocks(part.topic, part.entries, schema, locate, self._orders)]
        elif schema.n_ranks > 1:
            batches = [join_blocks(part.topic, part.entries, schema, locate, self._orders)]
        else:
            batches = view_batches(part.topic, part.entries, start, schema, locate, part.position)
        fetched.batches += batches
        fetched.stamps += [part.entries[-1].stamp] * len(batches)

    def _release(self, handout: int) -> None:
        self._out.discard(handout)

    def _released(self) -> int:
        return min(self._out) - 1 if self._out else self._last

    # ------------------------------------------------------------------ write

    def append(
        self,
        topic: str,
        records: Sequence[bytes | bytearray | memoryview],
        *,
        writer: str = "",
        first: int = -1,
        stop: int = -1,
        options: StreamOptions | None = None,
    ) -> AppendResult:
        """Store records at the end of a topic, which is begun if need be.

        With a `writer`, the records were computed from the source offsets ``first`` to ``stop``
        (exclusive). What the writer stored before is not stored again: if his watermark is above
        `first`, nothing is stored, and the answer tells the watermark so that the caller can trim
        and append the rest. Without one, a repeat after a lost connection may store twice.

        Raises
        ------
        MessageTooLarge
            If a record is larger than half of the topic's capacity.
        StreamFull
            If the topic blocks when full, and is.
        """
        number = self._session.number()
        request = m.Append(number, topic, writer, first, stop, time.time(), options)
        reply, _ = self._session.ask(request, m.Appended, records)
        return AppendResult(reply.offset, reply.accepted, reply.watermark)

    def commit(self, group: str, offsets: Mapping[str, int]) -> None:
        """Tell that a group needs nothing below these offsets any more."""
        request = m.CommitOffsets(self._session.number(), group, dict(offsets), self._released())
        self._session.ask(request, m.Done)

    def leave(self, group: str, topics: Sequence[str]) -> None:
        """Take a group out of topics: retention waits for it no longer."""
        self.commit(group, dict.fromkeys(topics, -1))

    # -------------------------------------------------------------------- ask

    def topics(self, prefix: str = "", *, schemas: bool = True) -> list[TopicStatus]:
        """Return the state of the topics under a prefix."""
        request = m.QueryTopics(self._session.number(), prefix, schemas)
        return self._session.ask(request, m.Topics)[0].topics

    def status(self, topic: str) -> TopicStatus:
        """Return the state of one topic.

        Raises
        ------
        UnknownTopic
            If there is none.
        """
        for status in self.topics(topic):
            if status.name == topic:
                return status
        raise UnknownTopic(f"There is no topic {topic!r}.")

    def watermark(self, topic: str, writer: str) -> int:
        """Return the source offset below which everything of a writer is stored; -1 for none."""
        for status in self.topics(topic):
            if status.name == topic:
                return status.writers.get(writer, -1)
        return -1

    def schema(self, simulation: str) -> StreamSchema:
        """Return what a simulation declared.

        Raises
        ------
        UnknownTopic
            If it has not opened its stream.
        """
        schema = self.status(f"frames/{simulation}").schema
        assert schema is not None
        return schema

    def read_frame(self, reference: FrameReference) -> Frame:
        """Return one frame, copied.

        Raises
        ------
        UnknownTopic, OffsetOutOfRange
            If there is no such stream, or the frame was released or is not written yet.
        """
        topic = f"frames/{reference.simulation}"
        with self.fetch({topic: reference.offset}, max_frames=1, max_bytes=1, wait=0.0) as got:
            for batch in got.batches:
                at = reference.offset - batch.first
                if 0 <= at < len(batch):
                    return batch.take(slice(at, at + 1)).copy().frame(0)
        raise OffsetOutOfRange(
            f"Frame {reference.offset} of {reference.simulation!r} is not held: it was released, "
            "or is not written yet."
        )

    def close(self) -> None:
        """Close the connection; more than once does no harm."""
        self._session.close()
