"""Numbers of the frames themselves, such as their energy: of a few frames, once somebody asks."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from bridge.dashboard.frames import FrameReader, Taken
from bridge.dashboard.stores.memory import Memory
from bridge.dashboard.stores.table import Table
from bridge.errors import OffsetOutOfRange, StagingError, TransportError
from bridge.schema import StreamSchema

__all__ = ["FrameSampler", "scalars_of"]

Array = npt.NDArray[Any]

AT_ONCE, BUDGET = 40, 0.05
"""Frames that are read in one step at most, and seconds that this may take."""
EARLIER = 2000
"""Frames that are read of those that came before anybody asked, over all simulations."""


def scalars_of(schema: StreamSchema) -> list[str]:
    """Return the variables of a frame that are one number."""
    return [v.name for v in schema.variables if v.shape == () and v.numpy_dtype.kind in "biuf"]


class FrameSampler:
    """Reads single frames now and then, and keeps their numbers.

    Nothing is read before the first `want`. Then each step takes the newest frames, and an even
    sample of those that staging still holds of the time before.

    Parameters
    ----------
    reader
        Reads frames.
    memory
        Knows the simulations.
    limit
        Frames whose numbers are kept; of more, every second one.

    Attributes
    ----------
    table
        The numbers; touched under the memory's lock.
    """

    def __init__(self, reader: FrameReader, memory: Memory, limit: int = 20_000) -> None:
        self.table = Table()
        self._reader = reader
        self._memory = memory
        self._limit = limit
        self._wanted = False
        self._newest: dict[str, int] = {}
        self._earlier: deque[tuple[str, int]] = deque()
        self._turn = 0
        self._seq = 0

    def want(self) -> None:
        """Begin to read, if that has not begun."""
        if self._wanted:
            return
        self._wanted = True
        with self._memory.lock:
            names = list(self._memory.simulations.names)
            each = max(2, EARLIER // max(1, len(names)))
            spans = []
            for name in names:
                status = self._memory.simulations.status(name)
                if status is not None and status.end > status.low:
                    offsets = np.linspace(status.low, status.end - 1, each).astype(np.int64)
                    spans.append([(name, int(o)) for o in np.unique(offsets)])
        # Of all simulations in turn, so that a picture of the whole comes first.
        for rank in range(max(map(len, spans), default=0)):
            self._earlier += [s[rank] for s in spans if rank < len(s)]

    def step(self) -> None:
        """Read a few frames; call it about once a second."""
        if not self._wanted:
            return
        until = time.monotonic() + BUDGET
        taken: list[Taken] = []
        for simulation, offset in self._next():
            schema = self._memory.simulations.schema(simulation)
            if schema is None:
                continue
            names = scalars_of(schema)
            try:
                taken.append(
                    self._reader.read(
                        simulation,
                        offset,
                        lambda v, n=names: {k: np.array(v[k]) for k in n},  # type: ignore[misc]
                    )
                )
            except OffsetOutOfRange:
                continue
            except (StagingError, TransportError):
                break
            if time.monotonic() > until:
                break
        if taken:
            with self._memory.lock:
                self._keep(taken)

    def _next(self) -> Iterable[tuple[str, int]]:
        names = list(self._memory.simulations.names)
        count = 0
        for i in range(len(names)):
            name = names[(self._turn + i) % len(names)]
            status = self._memory.simulations.status(name)
            if status is None or status.end - 1 <= self._newest.get(name, -1):
                continue
            self._newest[name] = status.end - 1
            yield name, status.end - 1
            count += 1
            if count >= AT_ONCE // 2:
                self._turn = (self._turn + i + 1) % len(names)
                break
        while self._earlier and count < AT_ONCE:
            yield self._earlier.popleft()
            count += 1

    def _keep(self, taken: list[Taken]) -> None:
        number = self._memory.results.number
        keys: dict[str, Array] = {
            "simulation": np.array([number(t.simulation) for t in taken]),
            "offset": np.array([t.offset for t in taken]),
            "step": np.array([t.step for t in taken]),
            "time": np.array([t.time for t in taken]),
            "epoch": np.array([t.epoch for t in taken]),
            "stamp": np.array([t.stamp for t in taken]),
            "seq": np.arange(self._seq, self._seq + len(taken)),
        }
        self._seq += len(taken)
        names = {name for t in taken for name in t.values}
        columns = {
            name: np.array([[t.values.get(name, np.nan)] for t in taken], np.float32)
            for name in names
        }
        self.table.extend(keys, columns)
        self._memory.versions["frames"] += 1
        if self.table.n > self._limit:
            self.table.keep(np.arange(self.table.n % 2, self.table.n, 2))
