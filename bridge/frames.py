"""Frames as values: one frame, many frames as a struct of arrays, and a rank's block of a frame."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bridge.errors import SchemaError

__all__ = ["Block", "Frame", "FrameBatch"]

Array = npt.NDArray[Any]


class Frame:
    """One output step of one simulation.

    Attributes
    ----------
    simulation
        Name of the simulation.
    offset
        Position in the stream.
    step
        The simulation's time step.
    time
        Simulated time, in the schema's time unit.
    epoch
        Which continuous piece of trajectory the frame belongs to.
    values
        Name to array of the schema's shape.
    """

    __slots__ = ("epoch", "offset", "simulation", "step", "time", "values")

    def __init__(
        self,
        simulation: str,
        offset: int,
        *,
        step: int,
        time: float,
        epoch: int = 0,
        values: Mapping[str, Array],
    ) -> None:
        self.simulation = simulation
        self.offset = offset
        self.step = step
        self.time = time
        self.epoch = epoch
        self.values = values

    def __getitem__(self, name: str) -> Array:
        return self.values[name]

    def __repr__(self) -> str:
        shapes = ", ".join(f"{k}{list(np.shape(v))}" for k, v in self.values.items())
        return f"<Frame {self.simulation}@{self.offset} step={self.step} {shapes}>"


class Block:
    """A rank's part of a frame: rows ``start`` to ``start + count`` of the decomposed variables.

    Attributes
    ----------
    rank
        The writing process.
    start, count
        Where the block lies on the first axis of the decomposed variables, and its length there.
    step, time, epoch
        As for a frame.
    values
        Name to array; decomposed variables have `count` rows.
    ids
        Global row index of each row, int64 of shape (count,), where ownership migrates between
        ranks; None where rows are contiguous.
    """

    __slots__ = ("count", "epoch", "ids", "rank", "start", "step", "time", "values")

    def __init__(
        self,
        rank: int,
        start: int,
        *,
        count: int,
        step: int,
        time: float,
        epoch: int = 0,
        values: Mapping[str, Array],
        ids: npt.NDArray[np.int64] | None = None,
    ) -> None:
        self.rank = rank
        self.start = start
        self.count = count
        self.step = step
        self.time = time
        self.epoch = epoch
        self.values = values
        self.ids = ids

    def __repr__(self) -> str:
        rows = (
            f"{self.start}:{self.start + self.count}" if self.ids is None else f"{self.count} ids"
        )
        return f"<Block rank={self.rank} step={self.step} rows {rows}>"

    def take(self, start: int, stop: int) -> Block:
        """Return some of the rows, as views, of a block whose values all have them."""
        values = {name: value[start:stop] for name, value in self.values.items()}
        ids = None if self.ids is None else self.ids[start:stop]
        return self._with(self.start + start, stop - start, values, ids)

    def select(self, names: Sequence[str]) -> Block:
        """Return the same rows with the named values only."""
        values = {name: self.values[name] for name in names}
        return self._with(self.start, self.count, values, self.ids)

    def _with(
        self,
        start: int,
        count: int,
        values: Mapping[str, Array],
        ids: npt.NDArray[np.int64] | None,
    ) -> Block:
        return Block(
            self.rank, start, count=count, step=self.step, time=self.time, epoch=self.epoch,
            values=values, ids=ids,
        )  # fmt: skip


class FrameBatch:
    """Frames of one simulation in stream order, as a struct of arrays.

    Arrays may be views of a mapped segment: they are read-only, and valid until the batch that
    the consumer fetched is released. Copy what you keep.

    Parameters
    ----------
    simulation
        Name of the simulation.
    offsets
        int64 of shape (n,), strictly increasing; contiguous unless frames were taken out.
    steps, times, epochs
        int64, float64 and int32 of shape (n,).
    columns
        Name to array of shape (n, ...).
    """

    __slots__ = ("columns", "epochs", "offsets", "simulation", "steps", "times")

    columns: Mapping[str, Array]

    def __init__(
        self,
        simulation: str,
        offsets: npt.NDArray[np.int64],
        *,
        steps: npt.NDArray[np.int64],
        times: npt.NDArray[np.float64],
        epochs: npt.NDArray[np.int32] | None = None,
        columns: Mapping[str, Array],
    ) -> None:
        self.simulation = simulation
        self.offsets = offsets
        self.steps = steps
        self.times = times
        self.epochs = np.zeros(len(offsets), np.int32) if epochs is None else epochs
        self.columns = dict(columns)

    @classmethod
    def from_arrays(
        cls,
        simulation: str,
        columns: Mapping[str, Any],
        *,
        first_offset: int = 0,
        steps: Any = None,
        times: Any = None,
        epochs: Any = None,
    ) -> FrameBatch:
        """Make a batch from stacked arrays; missing steps count from the first offset.

        Raises
        ------
        SchemaError
            If the arrays disagree about the number of frames.
        """
        arrays = {name: np.asarray(value) for name, value in columns.items()}
        lengths = {name: a.shape[0] if a.ndim else None for name, a in arrays.items()}
        if len(set(lengths.values())) > 1 or None in lengths.values():
            raise SchemaError(f"Columns disagree about the number of frames: {lengths}.")
        n = next(iter(lengths.values()), None)
        if n is None:
            n = 0 if steps is None else len(steps)
        offsets = np.arange(first_offset, first_offset + n, dtype=np.int64)
        batch = cls(
            simulation,
            offsets,
            steps=offsets if steps is None else np.asarray(steps, np.int64),
            times=offsets.astype(np.float64) if times is None else np.asarray(times, np.float64),
            epochs=None if epochs is None else np.asarray(epochs, np.int32),
            columns=arrays,
        )
        if not len(batch.steps) == len(batch.times) == len(batch.epochs) == n:
            raise SchemaError(
                f"Steps, times and epochs must have {n} entries as the columns do; they have "
                f"{len(batch.steps)}, {len(batch.times)} and {len(batch.epochs)}."
            )
        return batch

    def __len__(self) -> int:
        return len(self.offsets)

    def __contains__(self, name: object) -> bool:
        return name in self.columns

    def __getitem__(self, name: str) -> Array:
        try:
            return self.columns[name]
        except KeyError:
            raise SchemaError(
                f"The batch of {self.simulation!r} has no column {name!r}; it has: "
                f"{', '.join(self.columns) or 'none'}."
            ) from None

    def __iter__(self) -> Iterator[Frame]:
        for i in range(len(self)):
            yield self.frame(i)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{k}{list(v.shape[1:])}" for k, v in self.columns.items())
        span = f"{self.offsets[0]}..{self.offsets[-1]}" if len(self) else "empty"
        return f"<FrameBatch {self.simulation} {span} n={len(self)} {shapes}>"

    @property
    def first(self) -> int:
        """Offset of the first frame."""
        return int(self.offsets[0])

    @property
    def stop(self) -> int:
        """Offset after the last frame."""
        return int(self.offsets[-1]) + 1

    @property
    def nbytes(self) -> int:
        """Bytes of all columns."""
        return sum(a.nbytes for a in self.columns.values())

    def frame(self, index: int) -> Frame:
        """Return the frame at a position in the batch, as views."""
        return Frame(
            self.simulation,
            int(self.offsets[index]),
            step=int(self.steps[index]),
            time=float(self.times[index]),
            epoch=int(self.epochs[index]),
            values={k: v[index] for k, v in self.columns.items()},
        )

    def take(self, rows: slice | Array) -> FrameBatch:
        """Return the frames at `rows` (a slice gives views; an index or mask array copies)."""
        return FrameBatch(
            self.simulation,
            self.offsets[rows],
            steps=self.steps[rows],
            times=self.times[rows],
            epochs=self.epochs[rows],
            columns={k: v[rows] for k, v in self.columns.items()},
        )

    def select(self, names: Sequence[str]) -> FrameBatch:
        """Return the same frames with the named columns only."""
        return self._with({name: self[name] for name in names})

    def with_columns(self, columns: Mapping[str, Array]) -> FrameBatch:
        """Return the same frames with columns added or replaced.

        Raises
        ------
        SchemaError
            If a column has another number of frames.
        """
        for name, value in columns.items():
            if value.ndim == 0 or value.shape[0] != len(self):
                raise SchemaError(
                    f"Column {name!r} has shape {value.shape}; the batch has {len(self)} frames."
                )
        return self._with_added(columns)

    def is_same(self, other: FrameBatch, name: str) -> bool:
        """Return whether a column is the very one of another batch, by which it need not be read.

        It is not if either has none of that name.
        """
        return name in self.columns and self.columns[name] is other.columns.get(name)

    def copy(self) -> FrameBatch:
        """Return the batch with arrays of its own, which stay valid."""
        return FrameBatch(
            self.simulation,
            self.offsets.copy(),
            steps=self.steps.copy(),
            times=self.times.copy(),
            epochs=self.epochs.copy(),
            columns={k: v.copy() for k, v in self.columns.items()},
        )

    @staticmethod
    def concatenate(batches: Sequence[FrameBatch]) -> FrameBatch:
        """Join batches of one simulation that follow each other."""
        head = batches[0]
        return head if len(batches) == 1 else head._followed_by(batches[1:])

    def _followed_by(self, others: Sequence[FrameBatch]) -> FrameBatch:
        batches = [self, *others]
        return FrameBatch(
            self.simulation,
            np.concatenate([b.offsets for b in batches]),
            steps=np.concatenate([b.steps for b in batches]),
            times=np.concatenate([b.times for b in batches]),
            epochs=np.concatenate([b.epochs for b in batches]),
            columns={k: np.concatenate([b.columns[k] for b in batches]) for k in self.columns},
        )

    def _with_added(self, columns: Mapping[str, Array]) -> FrameBatch:
        return self._with({**self.columns, **columns})

    def _with(self, columns: Mapping[str, Array]) -> FrameBatch:
        return FrameBatch(
            self.simulation,
            self.offsets,
            steps=self.steps,
            times=self.times,
            epochs=self.epochs,
            columns=columns,
        )
