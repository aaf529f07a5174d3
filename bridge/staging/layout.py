"""How frames lie in a segment: a chunk of rows, one column after the other.

A *chunk* holds up to ``capacity`` frames of one schema as a struct of arrays. Its columns are, in
this order, ``step`` (i8), ``time`` (f8), ``epoch`` (i4), with blocks of migrating particles
``ids`` (i8), then the schema's variables; each column begins at a multiple of 64 bytes. Rows are
filled from the first on and committed in ranges, each with the XXH3-64 checksum of its bytes,
column after column. Given the schema, the capacity and, for a rank's block, the number of its rows
on the decomposed axis, the layout is fixed, so that only these numbers travel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from bridge.codec import aligned
from bridge.schema import StreamSchema

__all__ = ["Chunk", "ChunkLayout", "chunk_layout", "rows_for"]

CHUNK_BYTES = 1 << 20
"""Chunks of small frames are about this large: small enough to be hashed while in cache."""

MAX_ROWS = 4096

Array = npt.NDArray[Any]


class ChunkLayout:
    """Where each column of a chunk lies.

    Attributes
    ----------
    capacity
        Rows that the chunk has room for.
    columns
        Name, dtype, shape of one row, bytes of one row, position of the column.
    nbytes
        Bytes of the chunk.
    row_nbytes
        Bytes of one row, over all columns.
    """

    __slots__ = ("capacity", "columns", "nbytes", "row_nbytes")

    def __init__(self, schema: StreamSchema, capacity: int, lead: int, ids: bool) -> None:
        self.capacity = capacity
        rows: list[tuple[str, np.dtype[Any], tuple[int, ...]]] = [
            ("step", np.dtype("<i8"), ()),
            ("time", np.dtype("<f8"), ()),
            ("epoch", np.dtype("<i4"), ()),
        ]
        if ids:
            rows.append(("ids", np.dtype("<i8"), (lead,)))
        for variable in schema.variables:
            shape = variable.shape
            if variable.decomposed and lead >= 0:
                shape = (lead, *shape[1:])
            rows.append((variable.name, variable.numpy_dtype, shape))
        position = 0
        columns: list[tuple[str, np.dtype[Any], tuple[int, ...], int, int]] = []
        for name, dtype, shape in rows:
            size = dtype.itemsize
            for n in shape:
                size *= n
            columns.append((name, dtype, shape, size, position))
            position = aligned(position + size * capacity)
        self.columns = tuple(columns)
        self.nbytes = position
        self.row_nbytes = sum(size for _, _, _, size, _ in columns)


# By the identity of the schema, as its topology takes long to hash; what has a place here stays
# alive, so that no other schema gets its identity.
_LAYOUTS: dict[tuple[int, int, int, bool], tuple[StreamSchema, ChunkLayout]] = {}
_MOST = 1024


def chunk_layout(
    schema: StreamSchema, capacity: int, *, lead: int = -1, ids: bool = False
) -> ChunkLayout:
    """Return the layout of a chunk.

    Parameters
    ----------
    capacity
        Rows that the chunk has room for.
    lead
        Rows of the decomposed variables in a rank's block; -1 for whole frames.
    ids
        The block says which global rows its rows are.
    """
    key = id(schema), capacity, lead, ids
    found = _LAYOUTS.get(key)
    if found is None:
        if len(_LAYOUTS) >= _MOST:
            _LAYOUTS.clear()
        found = _LAYOUTS[key] = schema, ChunkLayout(schema, capacity, lead, ids)
    return found[1]


def rows_for(schema: StreamSchema, limit: int) -> int:
    """Return how many frames a chunk should have room for, in a segment of `limit` bytes."""
    row = schema.frame_nbytes + 20
    rows = max(1, min(MAX_ROWS, CHUNK_BYTES // row))
    while rows > 1 and chunk_layout(schema, rows).nbytes > limit:
        rows //= 2
    return rows


class Chunk:
    """A chunk over bytes that somebody else owns: a mapped segment, or memory.

    Parameters
    ----------
    buffer
        The bytes, of which the chunk takes ``layout.nbytes`` from `position` on.
    """

    __slots__ = ("arrays", "buffer", "layout", "position")

    def __init__(self, layout: ChunkLayout, buffer: memoryview, position: int = 0) -> None:
        self.layout = layout
        self.buffer = buffer
        self.position = position
        n = layout.capacity
        self.arrays: dict[str, Array] = {
            name: np.ndarray((n, *shape), dtype, buffer, position + start)
            for name, dtype, shape, _, start in layout.columns
        }

    def checksum(self, row: int, count: int) -> int:
        """Return the XXH3-64 of rows ``row`` to ``row + count``, column after column."""
        digest = xxhash.xxh3_64()
        buffer, position = self.buffer, self.position
        for _, _, _, size, start in self.layout.columns:
            begin = position + start + row * size
            digest.update(buffer[begin : begin + count * size])
        return digest.intdigest()

    def pack(self, row: int, count: int) -> memoryview:
        """Return the rows as a chunk of capacity `count`: a view where possible, else a copy."""
        if row == 0 and count == self.layout.capacity:
            return self.buffer[self.position : self.position + self.layout.nbytes]
        packed = bytearray()
        buffer, position = self.buffer, self.position
        for _, _, _, size, start in self.layout.columns:
            begin = position + start + row * size
            packed += buffer[begin : begin + count * size]
            packed += bytes(aligned(len(packed)) - len(packed))
        return memoryview(packed)
