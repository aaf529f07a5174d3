"""From batches of frames to samples: what is learned from, judged by, and watched."""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from analytics.learning.buffers import Buffer, FifoReuse
from analytics.learning.held_out import HELD_OUT, TRAINING, HoldOut
from analytics.learning.pairs import LaggedPairs
from bridge.errors import ConfigError, SchemaError
from bridge.frames import FrameBatch

__all__ = ["Intake", "Portion", "check_lag", "check_target", "part_of", "rows_of"]

Array = npt.NDArray[Any]
Integers = npt.NDArray[np.int64]


def rows_of(
    batch: FrameBatch, names: Sequence[str], *, parameter: str = "input", many: bool = False
) -> npt.NDArray[np.float32]:
    """Return the input of a model, float32, C-contiguous copies or views.

    One column keeps the shape that it has in a frame; several are flattened and laid side by side.

    Parameters
    ----------
    batch, names
        The frames, and the columns.
    parameter
        Of train, which names them.
    many
        Each row of a frame's column is a sample; the first two axes of the result are frames and
        samples.

    Raises
    ------
    SchemaError
        If a column is missing, or holds no real numbers, or frames have no rows, or columns have
        different numbers of them.
    """
    columns = []
    for name in names:
        if name not in batch:
            raise SchemaError(
                f"train finds no column {name!r} (its parameter {parameter!r}) in the frames of "
                f"{batch.simulation!r}; there are: {', '.join(batch.columns) or 'none'}."
            )
        column = batch[name]
        if column.dtype.kind not in "fiub":
            raise SchemaError(
                f"train needs real numbers in the column {name!r} (its parameter {parameter!r}); "
                f"{batch.simulation!r} sends dtype {column.dtype}."
            )
        columns.append(column)
    axes = 2 if many else 1
    heads = {c.shape[:axes] for c in columns}
    if many and (len(heads) > 1 or len(next(iter(heads))) < 2):
        raise SchemaError(
            f"With 'many_samples', train needs columns whose frames have the same number of rows; "
            f"{', '.join(names)} (its parameter {parameter!r}) have the shapes "
            f"{[c.shape[1:] for c in columns]}."
        )
    if len(columns) == 1:
        rows = columns[0][..., None] if columns[0].ndim == axes else columns[0]
    else:
        rows = np.concatenate([c.reshape(*c.shape[:axes], -1) for c in columns], axis=axes)
    # What float32 cannot hold is infinite then, and left out.
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(rows, np.float32)


class Portion:
    """Samples of one batch, each complete at a row of it.

    Attributes
    ----------
    arrays
        Frames, or earlier and later frames.
    number
        Row of the batch at which each sample is complete, increasing.
    zone
        Where each belongs; see `HoldOut`. A pair across a border belongs nowhere.
    offsets
        Of the batch's frames.
    simulation
        Whose they are.
    """

    __slots__ = ("arrays", "number", "offsets", "simulation", "zone")

    def __init__(
        self,
        arrays: tuple[Array, ...],
        number: Integers,
        zone: Array,
        offsets: Integers,
        *,
        simulation: str,
    ) -> None:
        self.arrays = arrays
        self.number = number
        self.zone = zone
        self.offsets = offsets
        self.simulation = simulation


class Intake:
    """Sorts the samples of all simulations into what is learned from and what is held out.

    Parameters
    ----------
    buffer
        What is learned from.
    hold_out
        Decides what is not.
    lag
        Frames between the two of a pair; 0 for single frames.
    held
        Samples held out that are kept, the newest.
    recent
        Newest samples of all that are kept, to watch models by.

    Attributes
    ----------
    buffer, held, recent
        Where samples are.
    trained_on
        Simulation to ranges of offsets of frames that went to the buffer, from the first to behind
        the last.
    left_out
        Samples that were not taken up, since a number in them is not finite.
    """

    def __init__(
        self, buffer: Buffer, hold_out: HoldOut, *, lag: int, held: int, recent: int
    ) -> None:
        self.buffer = buffer
        self.held = FifoReuse(max_samples=held, max_bytes=buffer.max_bytes)
        self.recent = FifoReuse(max_samples=recent, max_bytes=buffer.max_bytes)
        self.trained_on: dict[str, list[tuple[int, int]]] = {}
        self.left_out = 0
        self._hold_out = hold_out
        self._lag = lag
        self._pairs = LaggedPairs(lag) if lag else None
        self._shape: tuple[int, ...] | None = None

    def sort(
        self, batch: FrameBatch, rows: Array, target: Array | None = None, *, many: bool = False
    ) -> Portion:
        """Take note of a batch, and return its samples, without those that are not finite.

        One simulation that blew up must not end what is learned from all others.

        Parameters
        ----------
        batch, rows
            The frames, and what `rows_of` made of them.
        target
            Likewise, what a model is to answer; not with a lag.
        many
            Both have several samples a frame.

        Raises
        ------
        SchemaError
            If frames have another shape than before.
        """
        shape = rows.shape[1:]
        if self._shape not in (None, shape):
            raise SchemaError(
                f"train got frames of shape {shape} from {batch.simulation!r}, and of shape "
                f"{self._shape} before; all simulations must send the same."
            )
        self._shape = shape
        zones = self._hold_out.zones(batch.simulation, batch.offsets)
        if self._pairs is None:
            arrays: tuple[Array, ...] = (rows,) if target is None else (rows, target)
            number = np.arange(len(rows))
            if many:
                number = np.repeat(number, rows.shape[1])
                arrays = tuple(a.reshape(-1, *a.shape[2:]) for a in arrays)
            return self._without_nonfinite(batch, arrays, number, zones[number])
        x, y, number = self._pairs.push(
            batch.simulation, rows, offsets=batch.offsets, epochs=batch.epochs, steps=batch.steps
        )
        later = zones[number]
        earlier = self._hold_out.zones(batch.simulation, batch.offsets[number] - self._lag)
        both = np.where(earlier == later, later, np.int8(2))
        return self._without_nonfinite(batch, (x, y), number, both)

    def _without_nonfinite(
        self, batch: FrameBatch, arrays: tuple[Array, ...], number: Integers, zone: Array
    ) -> Portion:
        # A sum is finite if all numbers are, save where it overflows; it is made much faster.
        with np.errstate(over="ignore", invalid="ignore"):
            finite = all(math.isfinite(np.add.reduce(a, axis=None)) for a in arrays)
        if not finite:
            good = np.logical_and.reduce(
                [np.isfinite(a.reshape(len(a), -1)).all(axis=1) for a in arrays]
            )
            self.left_out += len(good) - int(np.count_nonzero(good))
            arrays = tuple(a[good] for a in arrays)
            number, zone = number[good], zone[good]
        return Portion(arrays, number, zone, batch.offsets, simulation=batch.simulation)

    def put(self, portion: Portion, start: int, stop: int) -> None:
        """Take up the samples that are complete at some rows of the batch."""
        first, last = np.searchsorted(portion.number, (start, stop))
        arrays = [a[first:last] for a in portion.arrays]
        zone = portion.zone[first:last]
        if len(zone):
            for buffer, which in ((self.buffer, TRAINING), (self.held, HELD_OUT)):
                chosen = zone == which
                if chosen.all():
                    buffer.put(*arrays)
                elif chosen.any():
                    buffer.put(*(a[chosen] for a in arrays))
            self.recent.put(*arrays)
            self._note(portion, portion.number[first:last][zone == TRAINING])

    def _note(self, portion: Portion, rows: Integers) -> None:
        if not len(rows):
            return
        ranges = self.trained_on.setdefault(portion.simulation, [])
        for first, stop in _runs(portion.offsets[np.unique(rows)]):
            if self._lag:
                _add(ranges, first - self._lag, stop - self._lag)
            _add(ranges, first, stop)

    # ------------------------------------------------------------------- state

    def save(self) -> dict[str, Any]:
        """Return the state as arrays and plain data; that of `buffer` is not in it."""
        state: dict[str, Any] = {
            "shape": None if self._shape is None else list(self._shape),
            "trained_on": {k: [list(r) for r in v] for k, v in self.trained_on.items()},
            "left_out": self.left_out,
        }
        state |= {f"held {k}": v for k, v in self.held.save().items()}
        state |= {f"recent {k}": v for k, v in self.recent.save().items()}
        if self._pairs is not None:
            state |= {f"pairs {k}": v for k, v in self._pairs.save().items()}
        return state

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what `save` returned, with the same parameters."""
        self._shape = None if state["shape"] is None else tuple(state["shape"])
        self.trained_on = {
            k: [(int(a), int(b)) for a, b in v] for k, v in state["trained_on"].items()
        }
        self.left_out = int(state.get("left_out", 0))
        self.held.restore(part_of(state, "held"))
        self.recent.restore(part_of(state, "recent"))
        if self._pairs is not None:
            self._pairs.restore(part_of(state, "pairs"))


def part_of(state: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the entries of a state that were saved under a name."""
    head = f"{name} "
    return {k.removeprefix(head): v for k, v in state.items() if k.startswith(head)}


def _add(ranges: list[tuple[int, int]], first: int, stop: int) -> None:
    """Add a range to sorted ones that do not touch each other."""
    i = j = bisect.bisect_left(ranges, first, key=lambda r: r[1])
    while j < len(ranges) and ranges[j][0] <= stop:
        j += 1
    if j > i:
        first, stop = min(first, ranges[i][0]), max(stop, ranges[j - 1][1])
    ranges[i:j] = [(first, stop)]


def _runs(offsets: Integers) -> Iterator[tuple[int, int]]:
    """Yield ranges of offsets that follow each other."""
    cuts = np.flatnonzero(np.diff(offsets) != 1) + 1
    for part in np.split(offsets, cuts):
        yield int(part[0]), int(part[-1]) + 1


def check_lag(lag: int, lagged: bool, kind: str) -> None:
    """Raise a `ConfigError` where a model needs pairs and gets none, or the other way round."""
    if lagged and not lag:
        raise ConfigError(
            f"The model {kind!r} learns from pairs of frames; set the parameter 'lag' of train to "
            "the number of frames between the two."
        )
    if lag and not lagged:
        raise ConfigError(
            f"The model {kind!r} learns from single frames; leave out the parameter 'lag' of train."
        )


def check_target(target: Sequence[str], supervised: bool, kind: str) -> None:
    """Raise a `ConfigError` where a model needs answers and gets none, or the other way round."""
    if supervised and not target:
        raise ConfigError(
            f"The model {kind!r} learns to answer; set the parameter 'target' of train to the "
            "columns with the answers."
        )
    if target and not supervised:
        raise ConfigError(
            f"The model {kind!r} learns from its input alone; leave out the parameter 'target' of "
            "train."
        )
