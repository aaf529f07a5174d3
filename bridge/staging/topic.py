"""What the logs of frames and of records have in common: offsets, groups, segments, retention.

A log is a state machine without sockets or clocks. What it stores lies in segments that it takes
from a `SegmentStore`; what happened goes to a journal if the stager is durable.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from bridge.errors import CorruptSegment, StorageFull
from bridge.staging.facts import Dropped, Fact, GroupAt, Released, TookSegment, Trimmed
from bridge.staging.messages import StreamOptions
from bridge.staging.segments import Segment, SegmentStore

__all__ = ["Held", "TopicLog"]


T = TypeVar("T")


class _Item(Protocol):
    @property
    def offset(self) -> int: ...


class _Index(Protocol[T]):
    """A sequence that grows at the end and is forgotten from the beginning."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> T: ...
    def append(self, item: T) -> None: ...
    def forget(self, count: int) -> None: ...


E_ = TypeVar("E_", bound=_Item)


class Held:
    """A segment that a topic uses.

    Attributes
    ----------
    segment
        The bytes.
    rank
        Rank of the producer that it is leased to; -1 if the stager writes there.
    stop
        Offset after the last item in it; -1 while it holds none.
    used
        Bytes written by the stager, or position of the newest chunk of the producer.
    rows
        Rows committed in the newest chunk.
    sealed
        Nothing will be added.
    pins
        Hand-outs to readers that were not released yet.
    tainted
        Somebody who vanished may still read or write it: never use it again.
    waiting
        Blocks in it whose step is not complete yet.
    """

    __slots__ = (
        "pins",
        "rank",
        "rows",
        "sealed",
        "segment",
        "stop",
        "tainted",
        "used",
        "waiting",
    )

    def __init__(self, segment: Segment, rank: int) -> None:
        self.segment = segment
        self.rank = rank
        self.stop = -1
        self.used = 0
        self.rows = 0
        self.sealed = False
        self.pins = 0
        self.tainted = False
        self.waiting = 0


class TopicLog(Generic[E_]):
    """Items with contiguous offsets in segments, released as consumer groups commit.

    Attributes
    ----------
    low, end
        First offset that is kept, and the offset after the last.
    groups
        Consumer group to committed offset.
    dropped
        Items that a full-policy took from readers.
    """

    def __init__(
        self,
        name: str,
        options: StreamOptions,
        store: SegmentStore,
        record: Callable[[Fact], None] | None,
        sync: Callable[[], None] | None = None,
    ) -> None:
        self.name = name
        self.options = options
        self.low = 0
        self.end = 0
        self.groups: dict[str, int] = {}
        self.dropped = 0
        self.finished = False
        self.bytes = 0
        self.allocated = 0
        self.last_stamp = 0.0
        self._store = store
        self._record = record
        self._sync = sync
        self._leaving: list[Held] = []
        self._items: _Index[E_] = self.new_index()
        self._starts = array("q")
        self._head = 0
        self.held: dict[int, Held] = {}

    def new_index(self) -> _Index[E_]:
        """Return an empty index for this kind of item."""
        raise TypeError(f"{type(self).__name__} does not say how it keeps its items.")

    # ------------------------------------------------------------------ facts

    def note(self, fact: Fact) -> None:
        """Write a fact to the journal, if there is one."""
        if self._record is not None:
            self._record(fact)

    # ---------------------------------------------------------------- reading

    def read(
        self, position: int, max_items: int, max_bytes: int, size: Callable[[E_], int]
    ) -> tuple[list[E_], int]:
        """Return the items that hold `position` and what follows, and where to go on.

        At least one item is returned if there is any; the first may begin before `position`, and
        the last may end behind where to go on.
        """
        at = max(position, self.low)
        index = bisect_right(self._starts, at, self._head) - 1
        if at >= self.end or index < self._head:
            return [], at
        out: list[E_] = []
        total = 0
        stop = at
        for i in range(index, len(self._starts)):
            item = self._items[i]
            total += size(item)
            if out and (total > max_bytes or stop - at >= max_items):
                break
            out.append(item)
            stop = self._stop_at(i)
        return out, min(stop, at + max_items)

    def _stop_at(self, index: int) -> int:
        # Offsets are contiguous: an item ends where the next one begins.
        return self._starts[index + 1] if index + 1 < len(self._starts) else self.end

    def _add(self, item: E_, count: int) -> None:
        self._items.append(item)
        self._starts.append(item.offset)
        self.end = item.offset + count

    @property
    def n_live(self) -> int:
        """Number of items that are kept."""
        return len(self._starts) - self._head

    def live(self) -> Iterator[E_]:
        """Return the items that are kept."""
        return (self._items[i] for i in range(self._head, len(self._starts)))

    # ----------------------------------------------------------------- groups

    def commit_group(self, group: str, offset: int) -> None:
        """Note that a group needs nothing below `offset` any more; it never goes back."""
        if offset < 0:
            if self.groups.pop(group, None) is not None:
                self.note(GroupAt(group, -1))
            return
        offset = min(offset, self.end)
        if self.groups.get(group, -1) < offset:
            self.groups[group] = offset
            self.note(GroupAt(group, offset))

    def floor(self) -> int:
        """Return the offset below which every group has committed; `low` if there is no group."""
        return max(self.low, min(self.groups.values(), default=self.low))

    # -------------------------------------------------------------- retention

    def take_segment(self, size: int, rank: int, *, drop: bool) -> Held | None:
        """Take a segment, releasing old ones if the capacity asks for it.

        Parameters
        ----------
        drop
            Release items that not every group has committed, and count them.

        Returns
        -------
        Held or None
            None if nothing may be released now.

        Raises
        ------
        StorageFull
            If the store has no room and nothing of this topic can give way.
        """
        self._release_beyond_keep()
        while self.allocated + size > self.options.capacity and self.held:
            if not self._release_oldest(drop=drop):
                return None
        while True:
            try:
                segment = self._store.take(size)
                break
            except StorageFull:
                if self._leaving and self._sync is not None:
                    self._sync()
                elif not self._release_oldest(drop=drop):
                    raise
        held = Held(segment, rank)
        self.held[segment.number] = held
        self.allocated += segment.size
        self.note(TookSegment(segment.number, segment.size, rank))
        return held

    def _release_beyond_keep(self) -> None:
        if not self.groups:
            return
        floor = self.floor()
        old = [h for h in self.held.values() if h.sealed and not h.waiting and h.stop <= floor]
        size = sum(h.segment.size for h in old)
        for held in old:
            if size <= self.options.keep:
                break
            size -= held.segment.size
            if held.stop > self.low:
                self._trim(held.stop)
            self._let_go(held)

    def _release_oldest(self, *, drop: bool) -> bool:
        for held in self.held.values():
            if held.sealed and not held.waiting:
                if held.stop > self.floor():
                    if not drop:
                        return False
                    self._count_dropped(held.stop)
                if held.stop > self.low:
                    self._trim(held.stop)
                self._let_go(held)
                return True
        return False

    def _count_dropped(self, new_low: int) -> None:
        lost = new_low - (self.floor() if self.groups else self.low)
        if lost > 0:
            self.dropped += lost
            self.note(Dropped(self.dropped))

    def _trim(self, low: int) -> None:
        self.low = max(self.low, low)
        starts = self._starts
        while self._head < len(starts) and self._stop_at(self._head) <= self.low:
            self._head += 1
        if self._head > 1024 and self._head * 2 > len(starts):
            self._items.forget(self._head)
            del self._starts[: self._head]
            self._head = 0
        self.note(Trimmed(self.low))

    def _let_go(self, held: Held) -> None:
        del self.held[held.segment.number]
        self.allocated -= held.segment.size
        self.note(Released(held.segment.number))
        self._leaving.append(held)
        if self._record is None:
            self.let_leave()

    def let_leave(self) -> None:
        """Give released segments back to the store; after the journal says that they are."""
        for held in self._leaving:
            self._store.give_back(held.segment, reuse=not held.pins and not held.tainted)
        self._leaving.clear()

    def release_empty(self) -> None:
        """Give back sealed segments below `low`, and sealed ones that hold nothing."""
        for held in list(self.held.values()):
            if held.sealed and not held.waiting and held.stop <= self.low:
                self._let_go(held)

    def pinned(self, numbers: Iterable[int]) -> list[Held]:
        """Pin segments for a reader and return them."""
        out = []
        for number in numbers:
            held = self.held[number]
            held.pins += 1
            out.append(held)
        return out

    # -------------------------------------------------------------- recovery

    def restore_base(self, fact: Fact) -> None:
        """Apply the facts that both kinds of log share.

        Segments are taken up at the end, by `adopt_segments`: those that a journal names early on
        may be gone, or belong to another topic by now.
        """
        match fact:
            case TookSegment(number=number, size=size, rank=rank):
                self.held[number] = Held(Segment(number, Path(), size), rank)
            case Released(number=number):
                self.held.pop(number, None)
            case Trimmed(low=low):
                self._trim(low)
            case Dropped(total=total):
                self.dropped = total
            case GroupAt(group=group, offset=offset):
                if offset < 0:
                    self.groups.pop(group, None)
                else:
                    self.groups[group] = offset

    def adopt_segments(self) -> None:
        """Take up the files of the segments that are still held.

        Raises
        ------
        CorruptSegment
            If one that holds something is missing or shorter than it was.
        """
        for number, held in list(self.held.items()):
            try:
                held.segment = self._store.adopt(number, held.segment.size)
            except CorruptSegment:
                if held.stop > self.low or held.waiting:
                    raise
                del self.held[number]
                continue
            self.allocated += held.segment.size
