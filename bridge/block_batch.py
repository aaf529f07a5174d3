"""Frames in the blocks of the ranks that wrote them, joined only for those who ask for that."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bridge.frames import Block, FrameBatch

__all__ = ["BlockBatch", "JoinBlocks"]

Array = npt.NDArray[Any]
Blocks = tuple[tuple[Block, ...], ...]

JoinBlocks = Callable[[Sequence[int], Blocks], dict[str, Array]]
"""From offsets and the blocks of each frame to the decomposed variables, rows in their order."""


class _Written:
    """What the ranks wrote of some frames; joined once, for all batches that show it."""

    __slots__ = ("blocks", "in_order", "join", "joined", "names", "offsets")

    def __init__(
        self,
        offsets: npt.NDArray[np.int64],
        blocks: Blocks,
        names: tuple[str, ...],
        in_order: bool,
        join: JoinBlocks,
    ) -> None:
        self.offsets = offsets
        self.blocks = blocks
        self.names = names
        self.in_order = in_order
        self.join = join
        self.joined: dict[str, Array] | None = None

    def column(self, name: str) -> Array:
        if self.joined is None:
            self.joined = self.join(self.offsets.tolist(), self.blocks)
        return self.joined[name]

    def take(self, rows: slice | Array) -> _Written:
        chosen = np.arange(len(self.blocks))[rows].tolist()
        blocks = tuple(self.blocks[i] for i in chosen)
        out = _Written(self.offsets[rows], blocks, self.names, self.in_order, self.join)
        if self.joined is not None:
            out.joined = {name: column[rows] for name, column in self.joined.items()}
        return out

    def copy(self) -> _Written:
        blocks = tuple(tuple(map(_copied, frame)) for frame in self.blocks)
        return _Written(self.offsets.copy(), blocks, self.names, self.in_order, self.join)


def _copied(block: Block) -> Block:
    return Block(
        block.rank, block.start, count=block.count, step=block.step, time=block.time,
        epoch=block.epoch, values={name: value.copy() for name, value in block.values.items()},
        ids=None if block.ids is None else block.ids.copy(),
    )  # fmt: skip


class _Columns(Mapping[str, Array]):
    """Columns of a batch, some of which are joined when they are looked at."""

    __slots__ = ("names", "ready", "written")

    def __init__(self, names: tuple[str, ...], ready: dict[str, Array], written: _Written) -> None:
        self.names = names
        self.ready = ready
        self.written = written

    def __getitem__(self, name: str) -> Array:
        found = self.ready.get(name)
        if found is not None:
            return found
        if name not in self.names:
            raise KeyError(name)
        return self.written.column(name)

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


class BlockBatch(FrameBatch):
    """A batch whose decomposed variables lie in the blocks that ranks wrote.

    It is used as any other batch: a decomposed variable is joined, rows in the order of the whole
    frame, when somebody asks for it, and once. An operator that works on blocks
    (`bridge.pipeline.BlockOperator`) is given them as they are. That every row is in one block is
    seen when they are joined.

    Parameters
    ----------
    simulation, offsets, steps, times, epochs
        As for `FrameBatch`.
    names
        All columns, in their order.
    whole
        Those that are not written in blocks.
    blocks
        Of each frame the blocks of all ranks, in the order of these; their values are the other
        columns.
    in_order
        In each frame, blocks follow each other in the order of the ranks.
    join
        Joins them.
    """

    __slots__ = ()

    columns: _Columns

    def __init__(
        self,
        simulation: str,
        offsets: npt.NDArray[np.int64],
        *,
        steps: npt.NDArray[np.int64],
        times: npt.NDArray[np.float64],
        epochs: npt.NDArray[np.int32],
        names: Sequence[str],
        whole: Mapping[str, Array],
        blocks: Sequence[Sequence[Block]],
        in_order: bool,
        join: JoinBlocks,
    ) -> None:
        rows = tuple(name for name in names if name not in whole)
        written = _Written(offsets, tuple(map(tuple, blocks)), rows, in_order, join)
        self._fill(simulation, offsets, steps, times, epochs, tuple(names), dict(whole), written)

    def _fill(
        self,
        simulation: str,
        offsets: npt.NDArray[np.int64],
        steps: npt.NDArray[np.int64],
        times: npt.NDArray[np.float64],
        epochs: npt.NDArray[np.int32],
        names: tuple[str, ...],
        ready: dict[str, Array],
        written: _Written,
    ) -> None:
        self.simulation = simulation
        self.offsets = offsets
        self.steps = steps
        self.times = times
        self.epochs = epochs
        self.columns = _Columns(names, ready, written)

    def _like(
        self,
        names: tuple[str, ...],
        ready: dict[str, Array],
        written: _Written,
        rows: slice | Array | None = None,
    ) -> BlockBatch:
        out = BlockBatch.__new__(BlockBatch)
        heads = (self.offsets, self.steps, self.times, self.epochs)
        if rows is not None:
            heads = (heads[0][rows], heads[1][rows], heads[2][rows], heads[3][rows])
        out._fill(self.simulation, *heads, names, ready, written)
        return out

    def __repr__(self) -> str:
        span = f"{self.offsets[0]}..{self.offsets[-1]}" if len(self) else "empty"
        names = ", ".join(self.columns)
        return f"<BlockBatch {self.simulation} {span} n={len(self)} of {names}>"

    @property
    def in_blocks(self) -> tuple[str, ...]:
        """Columns that are as the ranks wrote them; not those that an operator replaced."""
        columns = self.columns
        return tuple(
            n for n in columns.written.names if n in columns.names and n not in columns.ready
        )

    @property
    def replaced(self) -> tuple[str, ...]:
        """Columns of which the blocks say something else, because an operator replaced them."""
        return tuple(n for n in self.columns.written.names if n in self.columns.ready)

    @property
    def in_order(self) -> bool:
        """Whether blocks follow each other in the order of the ranks, in each frame."""
        return self.columns.written.in_order

    @property
    def nbytes(self) -> int:
        """Bytes of all columns."""
        size = sum(a.nbytes for a in self.columns.ready.values())
        names = self.in_blocks
        return size + sum(
            block.values[name].nbytes
            for frame in self.columns.written.blocks
            for block in frame
            for name in names
        )

    def blocks(self, index: int) -> list[Block]:
        """Return the blocks of one frame, with the columns of `in_blocks`."""
        names = self.in_blocks
        return [block.select(names) for block in self.columns.written.blocks[index]]

    def rest(self, index: int) -> FrameBatch:
        """Return one frame with the columns that are not in blocks."""
        one = slice(index, index + 1)
        return FrameBatch(
            self.simulation,
            self.offsets[one],
            steps=self.steps[one],
            times=self.times[one],
            epochs=self.epochs[one],
            columns={name: column[one] for name, column in self.columns.ready.items()},
        )

    def is_same(self, other: FrameBatch, name: str) -> bool:
        """See `FrameBatch.is_same`."""
        if name in self.in_blocks and isinstance(other, BlockBatch) and name in other.in_blocks:
            return self.columns.written.blocks is other.columns.written.blocks
        return FrameBatch.is_same(self, other, name)

    def take(self, rows: slice | Array) -> FrameBatch:
        """Return the frames at `rows`; blocks are shared."""
        ready = {name: column[rows] for name, column in self.columns.ready.items()}
        return self._like(self.columns.names, ready, self.columns.written.take(rows), rows)

    def select(self, names: Sequence[str]) -> FrameBatch:
        """Return the same frames with the named columns only."""
        if any(name not in self.columns for name in names):
            return FrameBatch.select(self, names)
        ready = {name: self.columns.ready[name] for name in names if name in self.columns.ready}
        return self._like(tuple(names), ready, self.columns.written)

    def copy(self) -> FrameBatch:
        """Return the batch with blocks of its own, which stay valid."""
        ready = {name: column.copy() for name, column in self.columns.ready.items()}
        written = self.columns.written.copy()
        out = self._like(self.columns.names, ready, written)
        out.offsets, out.steps = written.offsets, self.steps.copy()
        out.times, out.epochs = self.times.copy(), self.epochs.copy()
        return out

    def _with_added(self, columns: Mapping[str, Array]) -> FrameBatch:
        names = (*self.columns.names, *(n for n in columns if n not in self.columns.names))
        return self._like(names, {**self.columns.ready, **columns}, self.columns.written)

    def _followed_by(self, others: Sequence[FrameBatch]) -> FrameBatch:
        mine = self.columns
        fits = all(
            isinstance(b, BlockBatch)
            and b.columns.names == mine.names
            and b.in_blocks == self.in_blocks
            for b in others
        )
        if not fits:
            return FrameBatch._followed_by(self, others)
        batches: list[Any] = [self, *others]
        offsets = np.concatenate([b.offsets for b in batches])
        written = _Written(
            offsets,
            tuple(frame for b in batches for frame in b.columns.written.blocks),
            mine.written.names,
            all(b.in_order for b in batches),
            mine.written.join,
        )
        out = BlockBatch.__new__(BlockBatch)
        out._fill(
            self.simulation,
            offsets,
            np.concatenate([b.steps for b in batches]),
            np.concatenate([b.times for b in batches]),
            np.concatenate([b.epochs for b in batches]),
            mine.names,
            {n: np.concatenate([b.columns.ready[n] for b in batches]) for n in mine.ready},
            written,
        )
        return out
