"""A bounded memory of past frames, and random numbers whose state can be saved."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bridge.errors import ConfigError, PipelineError

__all__ = ["RETENTIONS", "FrameMemory", "Retention", "load_generator", "save_generator"]

Array = npt.NDArray[Any]
Slots = npt.NDArray[np.int64]
Retention = Literal["reservoir", "sliding"]

RETENTIONS: tuple[Retention, ...] = ("reservoir", "sliding")


def save_generator(generator: np.random.Generator) -> str:
    """Return the exact state of a generator as text (its integers have 128 bits)."""
    return json.dumps(generator.bit_generator.state)


def load_generator(text: str) -> np.random.Generator:
    """Return a generator that continues where `save_generator` found one."""
    generator = np.random.default_rng()
    generator.bit_generator.state = json.loads(text)
    return generator


class FrameMemory:
    """At most `capacity` past frames as a struct of arrays, each frame in a slot.

    A frame costs the copy of its arrays, whatever the memory holds. What is kept depends on the
    order of the frames and on the seed alone, not on how many come in one call.

    Parameters
    ----------
    capacity
        Number of frames to keep.
    retention
        ``reservoir`` keeps a uniform sample of all frames seen (Vitter 1985, algorithm R,
        doi:10.1145/3147.3165); ``sliding`` keeps the latest.
    seed
        Of the reservoir.
    max_bytes
        Limit on the bytes of all arrays.

    Attributes
    ----------
    seen
        Number of frames that were ever added.
    arrays
        Name to array of shape (capacity, ...); the first ``len(memory)`` slots are in use.

    Raises
    ------
    ConfigError
        If the capacity is not positive or the retention is unknown.
    """

    def __init__(
        self,
        capacity: int,
        *,
        retention: Retention = "reservoir",
        seed: int = 0,
        max_bytes: float = 1 << 30,
    ) -> None:
        if capacity < 1:
            raise ConfigError(f"The memory must hold at least one frame; {capacity} was given.")
        if retention not in RETENTIONS:
            raise ConfigError(
                f"The retention {retention!r} is unknown; use one of {', '.join(RETENTIONS)}."
            )
        self.capacity = int(capacity)
        self.retention = retention
        self.max_bytes = max_bytes
        self.seen = 0
        self.arrays: dict[str, Array] = {}
        self._random = np.random.default_rng([seed, 0])

    def __len__(self) -> int:
        return min(self.seen, self.capacity)

    def __getitem__(self, name: str) -> Array:
        """Return the slots in use of one array, as a view."""
        return self.arrays[name][: len(self)]

    def add(self, rows: Mapping[str, Array]) -> Slots:
        """Take up frames, in order.

        Parameters
        ----------
        rows
            Name to array of shape (n, ...); the same names, shapes and dtypes at each call.

        Returns
        -------
        Slots
            int64 of shape (n,): where each frame went, -1 for one that was not kept. A slot may
            come twice; the later frame has it.

        Raises
        ------
        PipelineError
            If a full memory would take more than `max_bytes`, or shapes change.
        """
        if not self.arrays:
            self._allocate({k: (v.shape[1:], v.dtype) for k, v in rows.items()})
        n = len(next(iter(rows.values())))
        slots = self._assign(n)
        kept = slots >= 0
        everything = bool(kept.all())
        to = slots if everything else slots[kept]
        for name, value in rows.items():
            array = self.arrays[name]
            if value.shape[1:] != array.shape[1:]:
                raise PipelineError(
                    f"The array {name!r} had shape {list(array.shape[1:])} in each frame so far, "
                    f"and now has {list(value.shape[1:])}; all simulations that one global "
                    "operator sees must have the same shapes."
                )
            array[to] = value if everything else value[kept]
        return slots

    def save(self, prefix: str) -> dict[str, Any]:
        """Return the state as entries whose names begin with `prefix`."""
        state: dict[str, Any] = {f"{prefix}.{name}": self[name].copy() for name in self.arrays}
        state[f"{prefix}:seen"] = self.seen
        state[f"{prefix}:random"] = save_generator(self._random)
        return state

    def restore(self, prefix: str, state: Mapping[str, Any]) -> None:
        """Take up what `save` returned."""
        head = f"{prefix}."
        rows = {k[len(head) :]: v for k, v in state.items() if k.startswith(head)}
        self.seen = int(state[f"{prefix}:seen"])
        self._random = load_generator(state[f"{prefix}:random"])
        self.arrays = {}
        if rows:
            self._allocate({k: (v.shape[1:], v.dtype) for k, v in rows.items()})
        for name, value in rows.items():
            self.arrays[name][: len(value)] = value

    def _assign(self, n: int) -> Slots:
        first, self.seen = self.seen, self.seen + n
        slots = np.arange(first, self.seen, dtype=np.int64)
        if self.seen <= self.capacity:
            return slots
        if self.retention == "sliding":
            return slots % self.capacity
        # Frame t (from 0) of more than `capacity` goes to a slot drawn from 0..t, if there is one.
        late = slots[max(0, self.capacity - first) :]
        drawn = (self._random.random(len(late)) * (late + 1)).astype(np.int64)
        late[:] = np.where(drawn < self.capacity, drawn, -1)
        return slots

    def _allocate(self, kinds: Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]) -> None:
        each = sum(int(np.prod(shape)) * dtype.itemsize for shape, dtype in kinds.values())
        if each * self.capacity > self.max_bytes:
            raise PipelineError(
                f"A memory of {self.capacity} frames of {each} bytes would take "
                f"{each * self.capacity} bytes, more than its limit of {self.max_bytes:.0f}; keep "
                "fewer frames or smaller arrays, or raise the limit."
            )
        self.arrays = {
            name: np.empty((self.capacity, *shape), dtype) for name, (shape, dtype) in kinds.items()
        }
