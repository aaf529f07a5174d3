"""What workers handed on and the coordinator did not take yet, in the order of each simulation."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterable, Mapping

from bridge.engines.job import Job, partition_names
from bridge.engines.partials import PARTIALS, Partial, decode_partial, partial_topic
from bridge.frames import FrameBatch
from bridge.pipeline import BlockOperator
from bridge.staging.client import StoredRecord

__all__ = ["Arrivals", "Item"]


class Item:
    """What is taken in one turn.

    Attributes
    ----------
    partial
        What workers handed on.
    records
        Topic to the offset after the record, for each that the item was made from.
    """

    __slots__ = ("partial", "records")

    def __init__(self, partial: Partial, records: Mapping[str, int]) -> None:
        self.partial = partial
        self.records = dict(records)


class Arrivals:
    """Partials by simulation; those of groups of blocks are joined, frame by frame.

    Attributes
    ----------
    positions
        Topic of partials to the offset of the next record to be read.
    nbytes
        Bytes of the records that wait.
    """

    def __init__(self, job: Job) -> None:
        self._groups = job.options.block_groups
        self._pipeline = job.name
        self._prefix = f"{PARTIALS}{job.name}/"
        self._operator = job.prototype.operators[0][1] if self._groups > 1 else None
        self.positions: dict[str, int] = {}
        self.nbytes = 0
        self._waiting: dict[str, deque[tuple[int, int, Partial]]] = {}
        self._simulations: dict[str, None] = {}

    def begin(self, positions: Mapping[str, int]) -> None:
        """Go on reading at these offsets."""
        self.positions = dict(positions)
        self._waiting.clear()
        self._simulations.clear()
        self.nbytes = 0

    def add(self, records: Iterable[StoredRecord]) -> None:
        """Take up records that were read, in their order."""
        for record in records:
            if not record.topic.startswith(self._prefix):
                continue
            if record.offset < self.positions.get(record.topic, 0):
                continue
            partial = decode_partial(record.data)
            self.positions[record.topic] = record.offset + 1
            queue = self._waiting.setdefault(record.topic, deque())
            queue.append((record.offset, len(record.data), partial))
            self.nbytes += len(record.data)
            self._simulations[partial.simulation] = None

    def items(self) -> list[Item]:
        """Return everything that can be taken now, the simulations taking turns.

        It stays here, and of what groups of blocks handed on only the ranges are right.
        """
        by_simulation = [self._all(name, join=False) for name in self._simulations]
        out = []
        longest = max(map(len, by_simulation), default=0)
        for i in range(longest):
            out += [items[i] for items in by_simulation if i < len(items)]
        return out

    def head(self, simulation: str) -> Item | None:
        """Return what is next of a simulation, None if it did not come yet."""
        items = self._all(simulation, limit=1)
        return items[0] if items else None

    def drop(self, item: Item) -> None:
        """Let go of an item that was taken, and of what came before it."""
        for topic, stop in item.records.items():
            queue = self._waiting.get(topic)
            while queue and queue[0][0] < stop:
                self.nbytes -= queue.popleft()[1]
            if not queue:
                self._waiting.pop(topic, None)
        name = item.partial.simulation
        if not any(topic in self._waiting for topic in self._topics(name)):
            self._simulations.pop(name, None)

    def _topics(self, simulation: str) -> list[str]:
        names = partition_names(simulation, self._groups)
        return [partial_topic(self._pipeline, name) for name in names]

    def _all(self, simulation: str, limit: int = 1 << 30, *, join: bool = True) -> list[Item]:
        topics = self._topics(simulation)
        if self._groups == 1:
            queue = self._waiting.get(topics[0], ())
            out = []
            for offset, _, partial in queue:
                out.append(Item(partial, {topics[0]: offset + 1}))
                if len(out) == limit:
                    break
            return out
        return self._join(topics, limit, join=join)

    def _join(self, topics: list[str], limit: int, *, join: bool) -> list[Item]:
        """Join what all groups handed on; what one group missed is missed altogether."""
        queues = [list(self._waiting.get(topic, ())) for topic in topics]
        at = [0] * len(topics)
        out: list[Item] = []
        while len(out) < limit and all(i < len(q) for i, q in zip(at, queues, strict=True)):
            heads = [queue[i] for i, queue in zip(at, queues, strict=True)]
            newest = max((head[2].first, head[2].is_end) for head in heads)
            behind = [n for n, head in enumerate(heads) if (head[2].first, head[2].is_end) < newest]
            if behind:
                for n in behind:
                    at[n] += 1
                continue
            records = {topic: head[0] + 1 for topic, head in zip(topics, heads, strict=True)}
            partials = [head[2] for head in heads]
            out.append(Item(self._combine(partials) if join else partials[0], records))
            at = [i + 1 for i in at]
        return out

    def _combine(self, partials: list[Partial]) -> Partial:
        joined = copy.copy(partials[0])
        joined.commands = [command for partial in partials for command in partial.commands]
        joined.put = max(partial.put for partial in partials)
        joined.is_target = any(partial.is_target for partial in partials)
        if joined.is_end:
            return joined
        joined.quarantined = max(partial.quarantined for partial in partials)
        if all(len(partial.batch) for partial in partials):
            assert isinstance(self._operator, BlockOperator)
            # The first group hands on what is not cut into rows, besides.
            mapped = tuple(partials[-1].batch.columns)
            parts = [{name: p.batch[name] for name in mapped} for p in partials]
            rest = [name for name in joined.batch.columns if name not in mapped]
            joined.batch = self._operator.combine(parts, joined.batch.select(rest))
        else:
            joined.batch = FrameBatch.from_arrays(joined.simulation, {})
        return joined
