"""Training buffers: what stands between a stream and the batches that a network learns from.

The kinds are those of Melissa-DL (Meyer, Schouler, Caulk, Ribés and Raffin, SC 2023, doi
10.1145/3581784.3607083), with one difference: a buffer that is full never makes the stream wait; it
lets something go, and counts it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from analytics.learning.generators import make_generator, restore_generator, save_generator
from analytics.learning.schedule import check_choice
from bridge.config import build, parse_bytes
from bridge.errors import ConfigError, PipelineError, SchemaError

__all__ = [
    "Buffer",
    "BufferStatistics",
    "Fifo",
    "FifoReuse",
    "Firo",
    "Reservoir",
    "make_buffer",
]

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class BufferStatistics:
    """What went through a buffer.

    Attributes
    ----------
    size, capacity
        Samples held, and samples that fit; the capacity is 0 before the first one came.
    nbytes
        Bytes of the samples held.
    seen
        Samples that were put.
    evicted
        Samples that made room for others.
    unused
        Of those, the ones that no batch had ever held.
    drawn
        Samples handed out, counted as often as they were.
    """

    size: int
    capacity: int
    nbytes: int
    seen: int
    evicted: int
    unused: int
    drawn: int

    @property
    def uses(self) -> float:
        """How often a sample was handed out on average."""
        return self.drawn / self.seen if self.seen else 0.0


class Buffer(ABC):
    """Samples of equal shape, bounded in bytes, handed out in batches.

    A sample is a row of each of the arrays that are put together: a frame, or a pair of frames.
    What is handed out depends on the samples, their order and the calls of `sample` between them,
    never on how many came at once. Not thread-safe.

    Parameters
    ----------
    max_bytes
        What the samples may take together; a number, or a size such as ``"64 MiB"``.
    max_samples
        How many there may be, if that is less; 0 for as many as fit.
    threshold
        Samples that must be there before the first batch is handed out.
    seed
        Of the generator that chooses.

    Raises
    ------
    ConfigError
        If a number is out of bounds.
    """

    kind: ClassVar[str]

    def __init__(
        self,
        *,
        max_bytes: int | str = 64 << 20,
        max_samples: int = 0,
        threshold: int = 0,
        seed: int = 0,
    ) -> None:
        self.max_bytes = parse_bytes(max_bytes)
        self.max_samples = max_samples
        self.threshold = threshold
        if self.max_bytes < 1 or max_samples < 0 or threshold < 0 or seed < 0:
            raise ConfigError(
                "A buffer's 'max_bytes' must be at least 1, and its 'max_samples', 'threshold' and "
                "'seed' must not be negative."
            )
        self._generator = make_generator(seed, 0xB0F)
        self._arrays: tuple[Array, ...] = ()
        self._uses = np.zeros(0, np.int64)
        self._count = self._seen = self._evicted = self._unused = self._drawn = 0

    def __len__(self) -> int:
        return self._count

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._count} of {self.capacity} samples>"

    @property
    def capacity(self) -> int:
        """Number of samples that fit; 0 before the first one came."""
        return len(self._uses)

    # ------------------------------------------------------------------- rows

    def put(self, *arrays: Array) -> None:
        """Take up samples, as copies.

        Parameters
        ----------
        *arrays
            Each of shape (n, ...), kept as float32 (integers as they are); always the same number
            of them, of the same shapes.

        Raises
        ------
        SchemaError
            If their number or a shape changes, or one sample is larger than the buffer.
        """
        rows = tuple(np.asarray(a) for a in arrays)
        if not rows or len({len(a) for a in rows}) != 1:
            raise SchemaError(
                f"Samples came as arrays of {[len(a) for a in rows]} rows; all must have as many."
            )
        if not len(rows[0]):
            return
        if not self._arrays:
            self._allocate(rows)
        shapes = [a.shape[1:] for a in rows]
        if shapes != [a.shape[1:] for a in self._arrays]:
            raise SchemaError(
                f"Samples of shapes {shapes} came to a buffer of samples of shapes "
                f"{[a.shape[1:] for a in self._arrays]}; all simulations must send the same."
            )
        self._seen += len(rows[0])
        self._put(rows)

    def _allocate(self, rows: Sequence[Array]) -> None:
        kinds = [a.dtype if a.dtype.kind in "iub" else np.dtype(np.float32) for a in rows]
        size = sum(a[0].size * k.itemsize for a, k in zip(rows, kinds, strict=True))
        capacity = self.max_bytes // max(size, 1)
        if self.max_samples:
            capacity = min(capacity, self.max_samples)
        if capacity < max(1, self.threshold):
            raise SchemaError(
                f"A buffer of {self.max_bytes} bytes holds {capacity} samples of {size} bytes each "
                f"and must hold {max(1, self.threshold)}; raise its 'max_bytes'."
            )
        # Memory that was never written to takes no space.
        self._arrays = tuple(
            np.empty((capacity, *a.shape[1:]), k) for a, k in zip(rows, kinds, strict=True)
        )
        self._uses = np.zeros(capacity, np.int64)
        self._reset()

    def _write(self, slots: Any, rows: Sequence[Array], part: Any) -> None:
        for mine, theirs in zip(self._arrays, rows, strict=True):
            mine[slots] = theirs[part]
        self._uses[slots] = 0

    def _evict(self, slots: Any) -> None:
        uses = np.atleast_1d(self._uses[slots])
        self._evicted += len(uses)
        self._unused += int((uses == 0).sum())

    def _draw(self, slots: Array) -> tuple[Array, ...]:
        self._drawn += len(slots)
        np.add.at(self._uses, slots, 1)
        return tuple(a[slots] for a in self._arrays)

    # ---------------------------------------------------------------- sampling

    def can_sample(self, n: int) -> bool:
        """Return whether a batch of `n` samples can be handed out."""
        return self._count >= max(n, self.threshold, 1)

    def sample(self, n: int) -> tuple[Array, ...]:
        """Return a batch of `n` samples, as arrays of their own.

        Raises
        ------
        PipelineError
            If there are not enough; see `can_sample`.
        """
        if not self.can_sample(n):
            raise PipelineError(
                f"A batch of {n} samples was asked of a buffer that holds {self._count}, and waits "
                f"for {self.threshold} before the first one."
            )
        return self._draw(self._choose(n))

    def content(self, limit: int | None = None) -> tuple[Array, ...]:
        """Return copies of the samples held, at most `limit`, spread over all of them."""
        slots = self._held()
        if limit is not None and len(slots) > limit:
            slots = slots[np.arange(limit) * len(slots) // limit]
        return tuple(a[slots] for a in self._arrays)

    def statistics(self) -> BufferStatistics:
        """Return what went through."""
        row = sum(a[:1].nbytes for a in self._arrays)
        return BufferStatistics(
            self._count,
            self.capacity,
            self._count * row,
            self._seen,
            self._evicted,
            self._unused,
            self._drawn,
        )

    # ------------------------------------------------------------------- kinds

    @abstractmethod
    def _reset(self) -> None:
        """Begin to keep account of slots, all of which are free."""

    @abstractmethod
    def _put(self, rows: tuple[Array, ...]) -> None:
        """Store samples, making room for them."""

    @abstractmethod
    def _choose(self, n: int) -> Array:
        """Choose slots; what is let go of stays readable until the next `_put`."""

    @abstractmethod
    def _held(self) -> Array:
        """Return the slots that are taken, in an order that `_fill` takes up again."""

    @abstractmethod
    def _fill(self, state: Mapping[str, Any]) -> None:
        """Take account of the samples in the first slots."""

    # ------------------------------------------------------------------- state

    def save(self) -> dict[str, Any]:
        """Return the state as arrays and plain data; as large as what the buffer holds."""
        slots = self._held()
        return {
            "kind": self.kind,
            "generator": save_generator(self._generator),
            "counts": [self._seen, self._evicted, self._unused, self._drawn],
            "capacity": self.capacity,
            "uses": self._uses[slots],
            **{f"rows_{i}": a[slots] for i, a in enumerate(self._arrays)},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what `save` returned, in a buffer with the same parameters.

        Raises
        ------
        PipelineError
            If it was saved by a buffer of another kind or size.
        """
        if state["kind"] != self.kind:
            raise PipelineError(
                f"A buffer of kind {state['kind']!r} was saved, and this one is a {self.kind!r}."
            )
        restore_generator(self._generator, state["generator"])
        self._seen, self._evicted, self._unused, self._drawn = (int(n) for n in state["counts"])
        self._arrays, self._uses, self._count = (), np.zeros(0, np.int64), 0
        if not state["capacity"]:
            return
        rows: list[Array] = []
        while f"rows_{len(rows)}" in state:
            rows.append(np.asarray(state[f"rows_{len(rows)}"]))
        n = len(rows[0])
        self._allocate([a if n else np.zeros((1, *a.shape[1:]), a.dtype) for a in rows])
        if self.capacity != state["capacity"]:
            raise PipelineError(
                f"A buffer of {state['capacity']} samples was saved, and this one takes "
                f"{self.capacity}."
            )
        self._write(slice(0, n), rows, slice(None))
        self._uses[:n] = state["uses"]
        self._count = n
        self._fill(state)


class _Ring(Buffer):
    """Samples in the order in which they came; the oldest makes room."""

    def _reset(self) -> None:
        self._first = 0

    def _put(self, rows: tuple[Array, ...]) -> None:
        n, capacity = len(rows[0]), self.capacity
        over = n - capacity
        if over > 0:
            # More than fits: the first of them come and go.
            self._evicted += over
            self._unused += over
        kept = slice(max(0, over), n)
        n = min(n, capacity)
        room = self._count + n - capacity
        if room > 0:
            self._evict((self._first + np.arange(room)) % capacity)
            self._first = (self._first + room) % capacity
            self._count -= room
        slots = (self._first + self._count + np.arange(n)) % capacity
        self._write(slots, rows, kept)
        self._count += n

    def _held(self) -> Array:
        if not self._arrays:
            return np.zeros(0, np.int64)
        return (self._first + np.arange(self._count)) % self.capacity

    def _fill(self, state: Mapping[str, Any]) -> None:
        self._first = 0


class Fifo(_Ring):
    """First in, first out: each sample is used once at most, in the order of the stream."""

    kind = "fifo"

    def _choose(self, n: int) -> Array:
        slots = self._held()[:n]
        self._first = (self._first + n) % self.capacity
        self._count -= n
        return slots


class FifoReuse(_Ring):
    """A window on the newest samples, drawn from at random, again and again.

    A batch holds no sample twice.
    """

    kind = "fifo_reuse"

    def _choose(self, n: int) -> Array:
        picked = self._generator.choice(self._count, n, replace=False)
        return np.asarray((self._first + picked) % self.capacity)


class Firo(Buffer):
    """First in, random out: each sample is used once at most, in random order.

    Where there is no room, a sample makes room that is chosen at random. With a `threshold` of some
    batches, neighbours in the stream come into different batches.
    """

    kind = "firo"

    def _reset(self) -> None:
        self._free: list[int] = list(range(self.capacity - 1, -1, -1))
        self._taken: list[int] = []

    def _pop(self) -> int:
        at = int(self._generator.random() * len(self._taken))
        slot = self._taken[at]
        self._taken[at] = self._taken[-1]
        self._taken.pop()
        self._free.append(slot)
        return slot

    def _put(self, rows: tuple[Array, ...]) -> None:
        for i in range(len(rows[0])):
            if not self._free:
                self._evict(self._pop())
            slot = self._free.pop()
            self._write(slot, rows, i)
            self._taken.append(slot)
        self._count = len(self._taken)

    def _choose(self, n: int) -> Array:
        slots = np.array([self._pop() for _ in range(n)], np.int64)
        self._count = len(self._taken)
        return slots

    def _held(self) -> Array:
        return np.array(self._taken if self._arrays else [], np.int64)

    def _fill(self, state: Mapping[str, Any]) -> None:
        n = self._count
        self._taken = list(range(n))
        self._free = list(range(self.capacity - 1, n - 1, -1))


class Reservoir(Buffer):
    """Old and new mixed: draws from all that is held; a sample that was used makes room.

    The new ones are thus learned from at least once, while the old ones stay as long as there is
    room, which fights forgetting and the bias of a stream. Where none was used yet, one that was
    not makes room (and is counted as unused). A batch holds no sample twice.
    """

    kind = "reservoir"

    def _reset(self) -> None:
        # Slots that were used come first in this order, then those that were not.
        self._order = np.arange(self.capacity)
        self._place = np.arange(self.capacity)
        self._used = 0

    def _swap(self, a: int, b: int) -> None:
        order, place = self._order, self._place
        first, second = order[a], order[b]
        order[a], order[b] = second, first
        place[second], place[first] = a, b

    def _put(self, rows: tuple[Array, ...]) -> None:
        n = len(rows[0])
        free = min(n, self.capacity - self._count)
        if free:
            self._write(self._order[self._count : self._count + free], rows, slice(0, free))
            self._count += free
        for i, u in zip(range(free, n), self._generator.random(n - free), strict=True):
            if self._used:
                at = int(u * self._used)
                self._used -= 1
                self._swap(at, self._used)
                at = self._used
            else:
                at = int(u * self._count)
            slot = self._order[at]
            self._evict(slot)
            self._write(slot, rows, i)

    def _choose(self, n: int) -> Array:
        slots = self._order[self._generator.choice(self._count, n, replace=False)].copy()
        for slot in slots:
            at = int(self._place[slot])
            if at >= self._used:
                self._swap(at, self._used)
                self._used += 1
        return np.asarray(slots)

    def _held(self) -> Array:
        return self._order[: self._count] if self._arrays else np.zeros(0, np.int64)

    def _fill(self, state: Mapping[str, Any]) -> None:
        self._used = int((self._uses[: self._count] > 0).sum())


_KINDS: dict[str, type[Buffer]] = {cls.kind: cls for cls in (Fifo, FifoReuse, Firo, Reservoir)}


def make_buffer(table: Mapping[str, Any], *, seed: int, where: str) -> Buffer:
    """Make a buffer from a table: ``kind``, and the parameters of that kind.

    Parameters
    ----------
    table
        As written; empty for a reservoir of 64 MiB.
    seed
        Where the table has none.
    where
        What the table is, for messages.

    Raises
    ------
    ConfigError
        If there is no such kind, or it refuses its parameters.
    """
    rest = {"seed": seed, **table}
    kind = rest.pop("kind", Reservoir.kind)
    return build(_KINDS[check_choice(kind, _KINDS, f"{where}: the kind of buffer")], rest, where)
