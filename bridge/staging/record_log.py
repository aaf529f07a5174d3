"""The log of a topic of records: results, commands, acknowledgements, decisions, events."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import xxhash

from bridge.codec import aligned
from bridge.errors import CorruptSegment, MessageTooLarge, StreamFull
from bridge.staging.facts import Created, Fact, Finished, GroupAt, Stored, TookSegment, Trimmed
from bridge.staging.index import RecordIndex, StoredRecord
from bridge.staging.messages import TopicStatus
from bridge.staging.topic import Held, TopicLog

__all__ = ["RecordLog", "StoredRecord"]

MAX_WRITERS = 65536
"""Writers whose watermark a topic remembers."""


class RecordLog(TopicLog[StoredRecord]):
    """State machine of a records topic; see `TopicLog`.

    Attributes
    ----------
    watermarks
        Writer to the source offset below which everything of his is stored.
    """

    watermarks: OrderedDict[str, int]
    _current: Held | None = None

    def new_index(self) -> RecordIndex:
        """Return an index of records."""
        return RecordIndex()

    def begin(self) -> None:
        """Start an empty topic."""
        self.watermarks = OrderedDict()
        self.note(Created(self.name, "records", self.options))

    def reserve(self) -> None:
        """Take room for the first records now, so that they can be stored when nothing else can."""
        self._room(1)

    def append(
        self, records: Sequence[memoryview], *, writer: str, first: int, stop: int, stamp: float
    ) -> tuple[int, bool, int]:
        """Store records and return the first one's offset, whether they were new, the watermark.

        With a writer, the records were computed from the source offsets ``first`` to ``stop``: if
        the writer's watermark has reached `stop` they are stored already and dropped; if it lies
        between, nothing is stored and the caller is to trim.
        """
        known = self.watermarks.get(writer, -1) if writer else -1
        if writer and known >= 0 and first < known:
            return self.end, False, known
        offset = self.end
        if not records and writer:
            self._advance(writer, stop)
            self.note(Stored(-1, 0, 0, 0, 0, stamp, writer, stop))
        for i, data in enumerate(records):
            last = i == len(records) - 1
            self._put(data, stamp, writer if last else "", stop if last else -1)
        return offset, True, stop if writer else -1

    def _put(self, data: memoryview, stamp: float, writer: str, stop: int) -> None:
        held = self._room(len(data))
        position = held.used
        held.segment.view[position : position + len(data)] = data
        held.used = aligned(position + len(data))
        fact = Stored(
            self.end,
            held.segment.number,
            position,
            len(data),
            xxhash.xxh3_64_intdigest(data),
            stamp,
            writer,
            stop,
        )
        self.note(fact)
        self._apply(fact)

    def _room(self, length: int) -> Held:
        held = self._current
        if held is not None and held.used + length <= held.segment.size:
            return held
        if length > self.options.capacity // 2:
            raise MessageTooLarge(
                f"A record of {length} bytes does not fit {self.name}, whose capacity is "
                f"{self.options.capacity} bytes; half of that is the limit for one record."
            )
        if held is not None:
            held.sealed = True
            self._current = None
        # A topic begins small: most hold a few commands. Busy ones grow with what they hold.
        grown = min(max(1 << 16, self.allocated), 8 << 20, self.options.capacity // 4)
        size = max(self.options.segment or grown, aligned(length))
        drop = self.options.when_full != "block"
        taken = self.take_segment(size, -1, drop=drop)
        if taken is None:
            slow = min(self.groups, key=self.groups.__getitem__, default="")
            who = f"group {slow!r} has not committed it" if slow else "no group has read it"
            raise StreamFull(
                f"{self.name} is full ({self.options.capacity} bytes) and {who}; let its readers "
                "catch up, raise its capacity, or let it drop the oldest."
            )
        self._current = taken
        return taken

    def _apply(self, fact: Stored) -> None:
        if fact.offset >= 0:
            self._add(
                StoredRecord(
                    fact.offset, fact.segment, fact.position, fact.length, fact.checksum, fact.stamp
                ),
                1,
            )
            held = self.held[fact.segment]
            held.stop = self.end
            self.bytes += fact.length
            self.last_stamp = fact.stamp
        if fact.writer:
            self._advance(fact.writer, fact.stop)

    def _advance(self, writer: str, stop: int) -> None:
        self.watermarks[writer] = max(stop, self.watermarks.get(writer, -1))
        self.watermarks.move_to_end(writer)
        while len(self.watermarks) > MAX_WRITERS:
            self.watermarks.popitem(last=False)

    def data(self, record: StoredRecord) -> bytes:
        """Return a record's bytes.

        Raises
        ------
        CorruptSegment
            If they do not match their checksum.
        """
        segment = self.held[record.segment].segment
        data = bytes(segment.view[record.position : record.position + record.length])
        if xxhash.xxh3_64_intdigest(data) != record.checksum:
            raise CorruptSegment(
                f"Record {record.offset} of {self.name} is damaged: the {record.length} bytes at "
                f"{record.position} of {segment.path} do not match their checksum. Restore the "
                "file from a copy if it is needed."
            )
        return data

    # --------------------------------------------------------------- recovery

    def restore(self, fact: Fact) -> None:
        """Apply a fact read back from the journal."""
        match fact:
            case Created():
                self.watermarks = OrderedDict()
                self.options = fact.options
                self.low = self.end = fact.low
                self.bytes, self.dropped = fact.bytes, fact.dropped
            case Stored():
                self._apply(fact)
                if fact.offset >= 0:
                    held = self.held[fact.segment]
                    held.used = max(held.used, aligned(fact.position + fact.length))
            case Finished(finished=finished):
                self.finished = finished
            case _:
                self.restore_base(fact)

    def after_restore(self) -> None:
        """Go on writing in the newest segment."""
        self.adopt_segments()
        for held in self.held.values():
            held.sealed = True
            self._current = held
        if self._current is not None:
            self._current.sealed = False
        self.release_empty()

    def snapshot(self) -> list[Fact]:
        """Return the facts from which the present state can be rebuilt."""
        live = list(self.live())
        low = live[0].offset if live else self.end
        facts: list[Fact] = [
            Created(
                self.name, "records", self.options, low=low, bytes=self.bytes, dropped=self.dropped
            )
        ]
        facts += [TookSegment(h.segment.number, h.segment.size, -1) for h in self.held.values()]
        facts += [
            Stored(r.offset, r.segment, r.position, r.length, r.checksum, r.stamp) for r in live
        ]
        facts += [Stored(-1, 0, 0, 0, 0, 0.0, w, s) for w, s in self.watermarks.items()]
        facts.append(Trimmed(self.low))
        facts += [GroupAt(g, o) for g, o in self.groups.items()]
        if self.finished:
            facts.append(Finished(True))
        return facts

    def status(self, *, schemas: bool) -> TopicStatus:
        """Return the state for people and readers."""
        return TopicStatus(
            self.name, "records", low=self.low, end=self.end, bytes=self.bytes,
            allocated=self.allocated, finished=self.finished, dropped=self.dropped,
            groups=dict(self.groups), last_stamp=self.last_stamp, options=self.options,
            writers=dict(self.watermarks) if schemas else {},
        )  # fmt: skip
