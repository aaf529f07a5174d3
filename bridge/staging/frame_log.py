"""The log of one simulation's frames: lives, sequence numbers, leases, steps joined of blocks."""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt

from bridge.commands import Capability
from bridge.errors import (
    ProtocolError,
    SchemaError,
    StaleIncarnation,
)
from bridge.schema import StreamSchema
from bridge.staging.agreement import check_capacity, check_options, describe, is_same_layout, job_of
from bridge.staging.cover import check_rows
from bridge.staging.facts import (
    Committed,
    Created,
    Dropped,
    Fact,
    Finished,
    GroupAt,
    Left,
    Life,
    TookSegment,
    Trimmed,
    Waiting,
)
from bridge.staging.index import EntryIndex
from bridge.staging.layout import Chunk, ChunkLayout, chunk_layout
from bridge.staging.messages import Commit, Entry, OpenStream, Part, StreamOptions, TopicStatus
from bridge.staging.steps import Brought, OpenSteps
from bridge.staging.topic import Held, TopicLog

__all__ = ["FrameLog", "segment_size"]

_MOST_ROWS = 1 << 62
"""Rows of a frame, at most: their numbers fit 64 bits."""

MAX_PENDING_STEPS = 1024
"""Steps that may wait for blocks of other ranks before the quick ranks wait, too, or, where the
policy drops frames, the oldest is given up."""


def segment_size(schema: StreamSchema, options: StreamOptions) -> int:
    """Choose the size of a stream's first segments.

    Small frames get 1 MiB so that hundreds of streams fit a node; large ones get room for four,
    as long as that is no more than a quarter of the capacity or, of several ranks, an eighth of
    a rank's share of it. There may so be room for one large frame only, the blocks of all ranks
    counted; there never is for less. More would not help: what costs is the first touch of fresh
    pages and a working set that leaves the cache (100,000 atoms: 4.2 GB/s over 64 MiB in all,
    1.5 over 512 MiB). Where the stream's options name a size, it is that, or one frame. Of
    several ranks, each can fill one and have the next one leased, where that is enough for a block.
    """
    row = chunk_layout(schema, 1).nbytes
    base = (1 << 20) if row < (1 << 14) else (4 << 20) if row < (1 << 18) else (16 << 20)
    size = max(row, options.segment or min(max(base, 4 * row), _largest(schema, options)))
    if schema.n_ranks == 1:
        return size
    # Room for whole blocks, with their padding: what is left over at the end is wasted.
    block = row // schema.n_ranks + 64 * (4 + len(schema.variables))
    if not options.segment:
        size = -(-size // block) * block
    most = options.capacity // (2 * schema.n_ranks)
    return min(size, max(block, most // block * block))


def _largest(schema: StreamSchema, options: StreamOptions) -> int:
    # Each rank fills a segment and has the next one leased: together they leave room for those
    # whom the others wait for.
    parts = 4 if schema.n_ranks == 1 else 8 * schema.n_ranks
    return options.capacity // parts


class _Rank:
    """One writing process of the present life."""

    __slots__ = ("dropped", "finished", "sequence", "skipped", "token")

    def __init__(self, token: str, sequence: int) -> None:
        self.token = token
        self.sequence = sequence
        self.dropped = 0
        self.skipped = 0
        self.finished = False


class FrameLog(TopicLog[Entry]):
    """State machine of a frames topic; see `TopicLog`.

    Attributes
    ----------
    schema
        What the present life declared.
    incarnation
        The present life; 0 before the first.
    last_step, last_time, last_epoch
        Of the newest frame.
    """

    schema: StreamSchema
    capabilities: list[Capability]

    incarnation = 0
    last_step = -1
    last_time = 0.0
    last_epoch = 0
    connected = False
    told_dropped = 0

    _ranks: dict[int, _Rank]
    _left: dict[int, _Rank]  # ranks of this life that said goodbye
    _steps: OpenSteps
    _lost = 0  # steps of this life that were counted as dropped
    _looked_at = 0  # life of whose first step it was seen that the blocks have each row once

    def new_index(self) -> EntryIndex:
        """Return an index of entries."""
        return EntryIndex()

    # ------------------------------------------------------------------- life

    def open(self, request: OpenStream) -> _Rank:
        """Begin a life, join one as a further rank, or come back to one.

        Raises
        ------
        StaleIncarnation
            If a newer life has begun.
        SchemaError
            If a rank declares something else, or asks for other options, than the ranks before it.
        """
        if not hasattr(self, "schema"):
            self._ranks, self._left = {}, {}
            self._steps = OpenSteps(request.schema.n_ranks)
        if request.rank >= request.schema.n_ranks or request.rank < 0:
            raise SchemaError(
                f"Rank {request.rank} wants to write {self.name}, whose schema declares "
                f"{request.schema.n_ranks} ranks."
            )
        mine = self._ranks.get(request.rank)
        if request.incarnation and not self.incarnation:
            # This stager lost, or never held, what the producer wrote before.
            self.incarnation = request.incarnation - 1
            self._begin(request)
            mine = self._join(request, request.sequence)
        elif request.incarnation:
            if request.incarnation != self.incarnation or (mine and mine.token != request.token):
                self._refuse_stale(request.incarnation)
            check_options(self.name, request, self.options)
            if mine is None:
                mine = self._join(request, request.sequence)
        elif mine is not None and mine.token == request.token:
            check_options(self.name, request, self.options)
        elif mine is None and self._waits_for(request.rank, request.token):
            check_options(self.name, request, self.options)
            mine = self._join(request, 0)
        else:
            self._begin(request)
            mine = self._join(request, 0)
        self.connected = True
        if self.finished:
            self.finished = False
            self.note(Finished(False))
        return mine

    def _waits_for(self, rank: int, token: str) -> bool:
        """Return whether the present life goes on, and waits for this rank of its job."""
        everybody = [*self._ranks.values(), *self._left.values()]
        if any(job_of(other.token) != job_of(token) for other in everybody):
            return False
        # Quick ranks may have come to their end before slow ones have begun.
        return (
            bool(self._ranks or self._left)
            and not self.finished
            and rank not in self._left
            and all(left.finished for left in self._left.values())
        )

    def _begin(self, request: OpenStream) -> None:
        check_capacity(self.name, request)
        if self.end > self.low and not is_same_layout(self.schema, request.schema):
            raise SchemaError(
                f"{self.name} holds frames with variables {describe(self.schema)}; the new "
                f"incarnation declares {describe(request.schema)}. Use another simulation name, "
                "or read and finish the old stream first."
            )
        self.schema, self.options = request.schema, request.options
        self.capabilities = request.capabilities
        self.incarnation += 1
        self._ranks.clear()
        self._left.clear()
        for step in list(self._steps):
            self._give_up(step)
        self._steps = OpenSteps(request.schema.n_ranks)
        self._lost = 0
        for held in self.held.values():
            if held.rank >= 0 and not held.sealed:
                held.sealed = held.tainted = True
        self.release_empty()
        self.note(
            Created(self.name, "frames", self.options, self.schema, self.capabilities, self.low)
        )

    def _join(self, request: OpenStream, sequence: int) -> _Rank:
        if not is_same_layout(self.schema, request.schema):
            raise SchemaError(
                f"Rank {request.rank} declares {describe(request.schema)} for {self.name}; the "
                f"ranks before it declared {describe(self.schema)}."
            )
        mine = self._ranks[request.rank] = _Rank(request.token, sequence)
        self._steps.join(request.rank)
        self._left.pop(request.rank, None)
        self.note(Life(self.incarnation, request.rank, request.token, sequence))
        return mine

    def _refuse_stale(self, incarnation: int) -> None:
        raise StaleIncarnation(
            f"Incarnation {incarnation} of {self.name} is stale: incarnation {self.incarnation} "
            "has taken the stream over. Stop this process; the newer one goes on."
        )

    def rank(self, incarnation: int, rank: int) -> _Rank:
        """Return a writer of the present life, or refuse."""
        mine = self._ranks.get(rank) if incarnation == self.incarnation else None
        if mine is None:
            self._refuse_stale(incarnation)
            raise AssertionError
        return mine

    def leave(self, rank: int, *, finished: bool) -> None:
        """A producer has said goodbye; what it leased and did not use goes back."""
        fact = Left(rank, finished)
        self.note(fact)
        self._apply_left(fact)
        if finished or self.options.when_full != "block":
            for step in self._steps.leave(rank):
                self._give_up(step)
            self._count_lost()
        for held in self.held.values():
            if held.rank == rank and not held.sealed:
                held.sealed = True
        self.release_empty()
        if not self._ranks:
            self.connected = False
            ended = [left.finished for left in self._left.values()]
            if len(ended) == self.schema.n_ranks and all(ended) and not self.finished:
                self.finished = True
                self.note(Finished(True))

    def _apply_left(self, fact: Left) -> None:
        mine = self._ranks.pop(fact.rank, None)
        if mine is not None:
            mine.finished = fact.finished
            self._left[fact.rank] = mine

    # ----------------------------------------------------------------- leases

    def is_ahead(self, rank: int) -> bool:
        """Return whether a rank has to wait for slower ones."""
        return not self.may_drop and self._is_crowding(rank)

    def _is_crowding(self, rank: int) -> bool:
        """Return whether half of the room is for steps that wait, and not for this rank."""
        oldest = self._steps.oldest()
        if oldest is None or rank not in oldest[1]:
            return False
        # What a step takes, with the padding of its blocks.
        padding = 64 * self.schema.n_ranks * (4 + len(self.schema.variables))
        size = chunk_layout(self.schema, 1).nbytes + padding
        return len(self._steps) >= min(
            MAX_PENDING_STEPS, max(1, self.options.capacity // (2 * size))
        )

    @property
    def may_drop(self) -> bool:
        """Whether old frames give way to new ones."""
        return self.options.when_full in ("drop_oldest", "latest")

    def grant(self, size: int, rank: int) -> Held | None:
        """Lease a segment to a producer; None if there is no room now."""
        largest = max(_largest(self.schema, self.options), chunk_layout(self.schema, 1).nbytes)
        wanted = max(segment_size(self.schema, self.options), min(size, largest))
        while self.may_drop and self._is_crowding(rank):
            # Else a quick rank would have all the room before a slow one comes.
            self._give_up(next(iter(self._steps)))
        if not self._leaves_room(wanted, rank):
            return None
        return self.take_segment(wanted, rank, drop=self.may_drop)

    def _leaves_room(self, size: int, rank: int) -> bool:
        """Return whether a rank may have one more segment: those with fewer, or as many, do too."""
        ranks, capacity = self.schema.n_ranks, self.options.capacity
        filling = Counter(held.rank for held in self.held.values() if not held.sealed)
        mine = filling[rank]
        if ranks == 1 or not mine or -1 in filling:
            # Ranks whose bytes are sent share segments, and take none for themselves.
            return True
        if capacity < 2 * ranks * size:
            mine = 0  # too little for two each
        others = sum(filling[r] <= mine for r in range(ranks) if r != rank and r not in self._left)
        floor = self.end if self.may_drop else self.floor()
        taken = sum(
            held.segment.size
            for held in self.held.values()
            if not held.sealed or held.waiting or held.stop > floor
        )
        return not others or taken + size * (1 + others) <= capacity

    # ---------------------------------------------------------------- commits

    def commit(self, request: Commit) -> int:
        """Store the frames that a producer wrote into its segments; return its next sequence.

        What was stored before is passed over; a hole in the numbering is refused.
        """
        mine = self.rank(request.incarnation, request.rank)
        n = len(request.parts)
        if not n == len(request.steps) == len(request.times) == len(request.epochs):
            raise ProtocolError(f"A commit to {self.name} does not describe each of its {n} parts.")
        sequence = request.sequence
        for i, part in enumerate(request.parts):
            stop = sequence + part.count
            if part.count < 1:
                raise ProtocolError(f"A commit to {self.name} has a part without rows: {part}.")
            if stop <= mine.sequence:
                sequence = stop
                continue
            if sequence != mine.sequence:
                raise ProtocolError(
                    f"{self.name} expects frame number {mine.sequence} of rank {request.rank}; "
                    f"number {sequence} came."
                )
            self._check(part, request.rank)
            mine.sequence = sequence = stop
            self._store_part(request, i, part)
        self.dropped_by(request.rank, request.dropped)
        return mine.sequence

    def dropped_by(self, rank: int, total: int) -> None:
        """Note how many frames a producer has dropped by policy; what several do counts once."""
        mine = self._ranks[rank]
        if self.schema.n_ranks > 1:
            self._steps.dropped(rank, total + mine.skipped)
            self._count_lost()
        elif total > mine.dropped:
            self._count_more(total - mine.dropped)
        mine.dropped = max(mine.dropped, total)

    def _count_lost(self) -> None:
        lost = self._steps.lost
        if lost > self._lost:
            self._count_more(lost - self._lost)
            self._lost = lost

    def _count_more(self, more: int) -> None:
        self.dropped += more
        self.note(Dropped(self.dropped))

    def _check(self, part: Part, rank: int) -> None:
        held = self.held.get(part.segment)
        if held is None or held.rank not in (rank, -1) or (held.sealed and held.rank >= 0):
            raise ProtocolError(
                f"Rank {rank} of {self.name} commits into segment {part.segment}, which is not "
                "leased to it."
            )
        layout = self._layout(part)
        inside = 0 <= part.position <= held.segment.size - layout.nbytes
        later = (part.position, part.row) >= (held.used, held.rows) or held.rank == -1
        if (
            not inside
            or not later
            or part.position % 64
            or part.row < 0
            or part.count < 1
            or part.row + part.count > part.capacity
            or not 0 <= part.start <= _MOST_ROWS
        ):
            raise ProtocolError(f"A commit to {self.name} does not fit its segment: {part}.")
        if held.rank >= 0:
            held.used, held.rows = part.position, part.row + part.count

    def _store_part(self, request: Commit, i: int, part: Part) -> None:
        if self.schema.n_ranks == 1:
            self._append(
                [part], part.count, request.steps[i], request.times[i], request.epochs[i],
                {0: self._ranks[request.rank].sequence},
                request.stamp,
            )  # fmt: skip
            return
        step, rank = request.steps[i], request.rank
        held = self.held[part.segment]
        if held.rank >= 0:
            self._seal_before(held)
        for hopeless in self._steps.advance(rank, step):
            self._give_up(hopeless)
        block = (part, request.times[i], request.epochs[i])
        if len(self._steps.of(step)) + 1 < self.schema.n_ranks:
            # It is acknowledged before the step is complete: a stager that is started anew must
            # know of it, for its rank will not send it again.
            self.note(Waiting(rank, part, step, *block[1:], self._ranks[rank].sequence))
        if not self._steps.bring(rank, step, block):
            return
        held.waiting += 1
        waiting = self._steps.of(step)
        if len(waiting) < self.schema.n_ranks:
            if len(self._steps) > MAX_PENDING_STEPS and self.options.when_full != "block":
                self._give_up(next(iter(self._steps)))
            return
        parts = [waiting[r][0] for r in range(self.schema.n_ranks)]
        self._settle(self._steps.complete(step))
        self._check_cover(step, parts)
        sequences = {r: m.sequence for r, m in self._ranks.items()}
        self._append(parts, 1, step, request.times[i], request.epochs[i], sequences, request.stamp)

    def _check_cover(self, step: int, parts: list[Part]) -> None:
        rows = next((v.shape[0] for v in self.schema.variables if v.decomposed), None)
        together = sum(p.lead for p in parts)
        if rows is not None and together != rows:
            self._count_more(1)
            raise SchemaError(
                f"The blocks of step {step} of {self.name} have {together} rows together; the "
                f"schema declares {rows}. The step is dropped."
            )
        if rows is None or self._looked_at == self.incarnation:
            return
        # Whoever has wrong ids has them from the first step on, and is told here. To look at each
        # step would take the stager's time; those who read them do.
        self._looked_at = self.incarnation
        blocks = {rank: self._rows(part) for rank, part in enumerate(parts)}
        try:
            check_rows(self.name, step, rows, blocks)
        except SchemaError:
            self._count_more(1)
            raise

    def _rows(self, part: Part) -> npt.NDArray[np.int64] | range:
        """Return the rows of a block: those that it names, or those that follow its first."""
        if not part.ids:
            return range(part.start, part.start + part.lead)
        chunk = Chunk(self._layout(part), self.held[part.segment].segment.view, part.position)
        ids: npt.NDArray[np.int64] = chunk.arrays["ids"][part.row]
        return ids

    def _settle(self, blocks: dict[int, Brought]) -> None:
        for part, _, _ in blocks.values():
            held = self.held.get(part.segment)
            if held is not None:
                held.waiting -= 1

    def _give_up(self, step: int) -> None:
        self._settle(self._steps.give_up(step))
        self._count_lost()

    def skip(self, request: Commit) -> None:
        """Pass over frames that the policy drops, as if they had been stored."""
        mine = self.rank(request.incarnation, request.rank)
        stop = request.sequence + sum(p.count for p in request.parts)
        if stop <= mine.sequence:
            return
        count, mine.sequence = stop - mine.sequence, stop
        if self.schema.n_ranks == 1:
            self._count_more(count)
            return
        mine.skipped += count
        for hopeless in self._steps.advance(request.rank, request.steps[-1] + 1):
            self._give_up(hopeless)
        self.dropped_by(request.rank, mine.dropped)

    def _append(
        self,
        parts: list[Part],
        count: int,
        step: int,
        time: float,
        epoch: int,
        sequences: dict[int, int],
        stamp: float,
    ) -> None:
        entry = Entry(self.end, count, parts, stamp)
        nbytes = sum(self.part_bytes(p) for p in parts)
        fact = Committed(entry, step, time, epoch, sequences, nbytes)
        self.note(fact)
        self._apply_commit(fact)
        if self.options.when_full == "latest" and self.low < self.end - 1:
            self._count_dropped(self.end - 1)
            self._trim(self.end - 1)
            self.release_empty()

    def _apply_commit(self, fact: Committed) -> None:
        entry = fact.entry
        self._add(entry, entry.count)
        for part in entry.parts:
            held = self.held[part.segment]
            held.stop = self.end
            if held.rank >= 0:
                self._seal_before(held)
        self.bytes += fact.nbytes
        self.last_step, self.last_time, self.last_epoch = fact.step, fact.time, fact.epoch
        self.last_stamp = entry.stamp

    def _seal_before(self, current: Held) -> None:
        # A producer fills its segments one after the other, in the order of the leases.
        for held in self.held.values():
            if held is current:
                return
            if held.rank == current.rank:
                held.sealed = True

    def part_bytes(self, part: Part) -> int:
        """Return the bytes of a part's rows."""
        return part.count * self._layout(part).row_nbytes

    def _layout(self, part: Part) -> ChunkLayout:
        return chunk_layout(self.schema, part.capacity, lead=part.lead, ids=part.ids)

    def entry_bytes(self, entry: Entry) -> int:
        """Return the bytes of an entry's rows."""
        return sum(self.part_bytes(p) for p in entry.parts)

    def oldest_pending(self) -> tuple[int, list[int]] | None:
        """Return the oldest step that waits for blocks, and the ranks it waits for."""
        oldest = self._steps.oldest()
        if oldest is None:
            return None
        return oldest[0], [r for r in range(self.schema.n_ranks) if r not in oldest[1]]

    @property
    def incomplete(self) -> int:
        """Steps of this life that were given up though some ranks' blocks of them came."""
        return self._steps.incomplete

    # --------------------------------------------------------------- recovery

    def restore(self, fact: Fact) -> None:
        """Apply a fact read back from the journal."""
        match fact:
            case Created():
                if not hasattr(self, "schema"):
                    self._ranks, self._left, self._steps = {}, {}, OpenSteps(1)
                    self.low = self.end = fact.low
                    self.bytes, self.dropped = fact.bytes, fact.dropped
                if fact.schema is not None:
                    self.schema = fact.schema
                self.capabilities = fact.capabilities
                self.options = fact.options
            case Life():
                if fact.incarnation != self.incarnation:
                    self._ranks.clear()
                    self._left.clear()
                    for step in list(self._steps):
                        self._settle(self._steps.complete(step))
                    self._steps = OpenSteps(self.schema.n_ranks)
                self.incarnation = fact.incarnation
                self._left.pop(fact.rank, None)
                self._ranks[fact.rank] = _Rank(fact.token, fact.next_sequence)
            case Committed():
                for rank, sequence in fact.sequences.items():
                    if rank in self._ranks:
                        self._ranks[rank].sequence = sequence
                for step in [s for s in self._steps if s <= fact.step]:
                    self._settle(self._steps.complete(step))
                self._apply_commit(fact)
            case Waiting(rank=rank, part=part, step=step):
                if rank in self._ranks:
                    self._ranks[rank].sequence = fact.sequence
                self._steps.restore(rank, step, (part, fact.time, fact.epoch))
                self.held[part.segment].waiting += 1
            case Left():
                self._apply_left(fact)
            case Finished(finished=finished):
                self.finished = finished
            case _:
                self.restore_base(fact)

    def after_restore(self) -> None:
        """Seal what was leased: its producer sends the rest again, into new segments."""
        self.adopt_segments()
        for held in self.held.values():
            held.sealed = held.tainted = True
        self.release_empty()

    def snapshot(self) -> list[Fact]:
        """Return the facts from which the present state can be rebuilt."""
        facts: list[Fact] = [
            Created(
                self.name, "frames", self.options, self.schema, self.capabilities,
                next((e.offset for e in self.live()), self.end), self.bytes, self.dropped,
            )
        ]  # fmt: skip
        everybody = self._ranks | self._left
        facts += [Life(self.incarnation, r, m.token, m.sequence) for r, m in everybody.items()]
        facts += [Left(r, m.finished) for r, m in self._left.items()]
        facts += [TookSegment(h.segment.number, h.segment.size, h.rank) for h in self.held.values()]
        for entry in self.live():
            facts.append(
                Committed(
                    entry, self.last_step, self.last_time, self.last_epoch, {},
                    0,
                )
            )  # fmt: skip
        for step in self._steps:
            for rank, (part, time, epoch) in self._steps.of(step).items():
                sequence = everybody[rank].sequence if rank in everybody else 0
                facts.append(Waiting(rank, part, step, time, epoch, sequence))
        facts.append(Trimmed(self.low))
        facts += [GroupAt(g, o) for g, o in self.groups.items()]
        if self.finished:
            facts.append(Finished(True))
        return facts

    def status(self, *, schemas: bool) -> TopicStatus:
        """Return the state for people and readers."""
        return TopicStatus(
            self.name, "frames", low=self.low, end=self.end, bytes=self.bytes,
            allocated=self.allocated, finished=self.finished, dropped=self.dropped,
            groups=dict(self.groups), incarnation=self.incarnation, connected=self.connected,
            last_step=self.last_step, last_time=self.last_time, last_epoch=self.last_epoch,
            last_stamp=self.last_stamp, options=self.options, incomplete=self.incomplete,
            schema=self.schema if schemas else None,
            capabilities=self.capabilities if schemas else [],
        )  # fmt: skip
