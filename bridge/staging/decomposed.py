"""Decomposed frames as they were written: a block of each rank, not joined.

Of a frame that several workers share, each reads the blocks of its *share* alone. What ranks do not
write in blocks (boxes, energies) is rank 0's, and everybody is given that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bridge.block_batch import BlockBatch
from bridge.errors import CorruptSegment
from bridge.frames import Block, FrameBatch
from bridge.schema import StreamSchema
from bridge.staging.assembly import Locate, block_of, head_of, join_rows
from bridge.staging.block_share import BlockShare, share_of
from bridge.staging.messages import HEAD_ONLY, NOT_SENT, Entry
from bridge.staging.row_order import RowOrders

__all__ = ["MANY_BYTES", "DecomposedFrame", "batch_blocks", "read_decomposed"]

MANY_BYTES = 256 << 10
"""Bytes of a frame from which on it is worth a call for each block not to join them (four ranks,
migrating: 72 kB cost a third more so, 3.6 MB a fifth less)."""


class DecomposedFrame:
    """One frame in blocks; arrays are views, valid until the fetch that brought it is released.

    Attributes
    ----------
    head
        A batch of this one frame with the variables that are not written in blocks. The checksum
        of rank 0's block, which they are part of, is made by who reads that block.
    blocks
        Rank to block, of those that were asked for; their values are the decomposed variables.
    in_order
        The ranks' rows follow each other, in the order of the ranks.
    put
        Unix time in seconds at which the frame was put.
    """

    __slots__ = ("_schema", "_topic", "blocks", "head", "in_order", "put")

    def __init__(
        self,
        topic: str,
        schema: StreamSchema,
        head: FrameBatch,
        blocks: Mapping[int, Block],
        *,
        in_order: bool,
        put: float,
    ) -> None:
        self._topic = topic
        self._schema = schema
        self.head = head
        self.blocks = blocks
        self.in_order = in_order
        self.put = put

    def __repr__(self) -> str:
        ranks = ", ".join(map(str, self.blocks))
        return f"<DecomposedFrame {self.head.simulation}@{self.offset} of rank(s) {ranks}>"

    @property
    def offset(self) -> int:
        """Position in the stream."""
        return self.head.first

    @property
    def ranks(self) -> int:
        """How many ranks write a block of each frame."""
        return self._schema.n_ranks

    @property
    def nbytes(self) -> int:
        """Bytes that were read."""
        return self.head.nbytes + sum(
            sum(value.nbytes for value in block.values.values())
            + (0 if block.ids is None else block.ids.nbytes)
            for block in self.blocks.values()
        )

    def at_hand(self, share: BlockShare) -> list[Block]:
        """Return what a share has of this frame, of which its ranks' blocks were read."""
        blocks = [self.blocks[rank] for rank in range(share.first, share.stop)]
        if share.parts == 1:
            return blocks
        (block,) = blocks
        start = share.part * block.count // share.parts
        return [block.take(start, (share.part + 1) * block.count // share.parts)]

    def assembled(self) -> FrameBatch:
        """Return the frame in one piece, rows in the order of their ids; needs all blocks.

        Raises
        ------
        CorruptSegment
            If the blocks do not have each row once.
        """
        total = next(v.shape[0] for v in self._schema.variables if v.decomposed)
        columns: dict[str, npt.NDArray[Any]] = {}
        for v in self._schema.variables:
            if v.decomposed:
                columns[v.name] = np.empty((1, *v.shape), v.numpy_dtype)
            else:
                columns[v.name] = self.head[v.name]
        out = {v.name: columns[v.name][0] for v in self._schema.variables if v.decomposed}
        join_rows(self._topic, self.offset, total, self.blocks.values(), out)
        return FrameBatch(
            self.head.simulation,
            self.head.offsets,
            steps=self.head.steps,
            times=self.head.times,
            epochs=self.head.epochs,
            columns=columns,
        )


def read_decomposed(
    topic: str,
    entries: Sequence[Entry],
    schema: StreamSchema,
    locate: Locate,
    share: BlockShare,
) -> list[DecomposedFrame]:
    """Return decomposed frames with the blocks of some ranks; bytes of others are not touched.

    Parameters
    ----------
    share
        Whose blocks are to be read.

    Raises
    ------
    CorruptSegment
        If bytes of those blocks do not match their checksums.
    """
    small = [v.name for v in schema.variables if not v.decomposed]
    out = []
    for entry in entries:
        blocks: dict[int, Block] = {}
        values: dict[str, Any] = {}
        for rank, part in enumerate(entry.parts):
            if rank in share:
                if part.segment in (NOT_SENT, HEAD_ONLY):
                    raise CorruptSegment(
                        f"The stager did not send the block of rank {rank} of frame {entry.offset} "
                        f"of {topic}."
                    )
                block = block_of(topic, entry, part, schema, locate)
                if rank == 0:
                    values = {name: block.values[name] for name in small}
                    values |= {"step": block.step, "time": block.time, "epoch": block.epoch}
                block.values = {k: v for k, v in block.values.items() if k not in small}
                blocks[rank] = block
            elif rank == 0:
                values = head_of(topic, entry, part, schema, locate)
        out.append(
            DecomposedFrame(
                topic,
                schema,
                FrameBatch(
                    topic.partition("/")[2],
                    np.array([entry.offset], np.int64),
                    steps=np.array([values["step"]], np.int64),
                    times=np.array([values["time"]], np.float64),
                    epochs=np.array([values["epoch"]], np.int32),
                    columns={name: np.asarray(values[name])[None] for name in small},
                ),
                blocks,
                in_order=_follow(entry),
                put=entry.stamp,
            )
        )
    return out


def batch_blocks(
    topic: str,
    entries: Sequence[Entry],
    schema: StreamSchema,
    locate: Locate,
    orders: RowOrders,
) -> BlockBatch:
    """Return decomposed frames as a batch that is joined where somebody asks for it.

    Parameters
    ----------
    orders
        What the caller remembers of the order of rows from call to call.

    Raises
    ------
    CorruptSegment
        If bytes do not match their checksums.
    """
    frames = read_decomposed(topic, entries, schema, locate, share_of(0, 1, schema.n_ranks))
    heads = FrameBatch.concatenate([frame.head for frame in frames])
    rows = {v.name: v for v in schema.variables if v.decomposed}
    total = next(v.shape[0] for v in rows.values())

    def join(
        offsets: Sequence[int], blocks: Sequence[Sequence[Block]]
    ) -> dict[str, npt.NDArray[Any]]:
        names = blocks[0][0].values if blocks else rows
        columns = {n: np.empty((len(blocks), *rows[n].shape), rows[n].numpy_dtype) for n in names}
        for i, (offset, frame) in enumerate(zip(offsets, blocks, strict=True)):
            out = {name: column[i] for name, column in columns.items()}
            join_rows(topic, offset, total, frame, out, orders)
        return columns

    return BlockBatch(
        heads.simulation,
        heads.offsets,
        steps=heads.steps,
        times=heads.times,
        epochs=heads.epochs,
        names=[v.name for v in schema.variables],
        whole=heads.columns,
        blocks=[list(frame.blocks.values()) for frame in frames],
        in_order=all(frame.in_order for frame in frames),
        join=join,
    )


def _follow(entry: Entry) -> bool:
    at = 0
    for part in entry.parts:
        # A rank without rows is anywhere.
        if part.ids or (part.lead and part.start != at):
            return False
        at += max(part.lead, 0)
    return True
