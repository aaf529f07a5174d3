"""From what the stager tells to arrays: views of mapped chunks, checked, and blocks joined."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bridge.errors import CorruptSegment
from bridge.frames import Block, FrameBatch
from bridge.schema import StreamSchema
from bridge.staging.layout import Chunk, chunk_layout
from bridge.staging.messages import Entry, Part

__all__ = ["blocks_of", "join_blocks", "view_batches"]

Locate = Callable[[Part], tuple[memoryview, int]]
Array = npt.NDArray[Any]


def _checked(
    topic: str,
    entry: Entry,
    part: Part,
    schema: StreamSchema,
    locate: Locate,
    cache: dict[Any, Chunk],
) -> Chunk:
    key = (part.segment, part.position, part.capacity, part.lead, part.ids)
    chunk = cache.get(key) if part.segment >= 0 else None
    if chunk is None:
        layout = chunk_layout(schema, part.capacity, lead=part.lead, ids=part.ids)
        chunk = Chunk(layout, *locate(part))
        cache[key] = chunk
    if chunk.checksum(part.row, part.count) != part.checksum:
        raise CorruptSegment(
            f"Frames {entry.offset} to {entry.offset + entry.count - 1} of {topic} are damaged: "
            "their bytes do not match the checksum that the producer made. Restore the segment "
            "from a copy, or read on from the next offset."
        )
    return chunk


def view_batches(
    topic: str,
    entries: Sequence[Entry],
    position: int,
    schema: StreamSchema,
    locate: Locate,
    stop: int,
) -> list[FrameBatch]:
    """Return whole frames as batches of views, rows that follow each other in one chunk together.

    Raises
    ------
    CorruptSegment
        If bytes do not match their checksum.
    """
    simulation = topic.partition("/")[2]
    out: list[FrameBatch] = []
    run: list[Any] | None = None
    cache: dict[Any, Chunk] = {}
    for entry in entries:
        part = entry.parts[0]
        chunk = _checked(topic, entry, part, schema, locate, cache)
        if run is not None and run[0] is chunk and run[2] == part.row:
            run[2] += part.count
            continue
        if run is not None:
            out.append(_view(simulation, schema, run, position, stop))
        run = [chunk, part.row, part.row + part.count, entry.offset]
        if len(cache) > 8:
            cache.clear()
    if run is not None:
        out.append(_view(simulation, schema, run, position, stop))
    return [b for b in out if len(b)]


def _view(
    simulation: str, schema: StreamSchema, run: list[Any], position: int, stop: int
) -> FrameBatch:
    chunk, begin, end, offset = run
    skip = max(0, position - offset)
    surplus = max(0, offset + (end - begin) - stop)
    rows = slice(begin + skip, end - surplus)
    arrays = chunk.arrays
    count = max(0, rows.stop - rows.start)
    return FrameBatch(
        simulation,
        np.arange(offset + skip, offset + skip + count, dtype=np.int64),
        steps=arrays["step"][rows],
        times=arrays["time"][rows],
        epochs=arrays["epoch"][rows],
        columns={v.name: arrays[v.name][rows] for v in schema.variables},
    )


def blocks_of(topic: str, entry: Entry, schema: StreamSchema, locate: Locate) -> list[Block]:
    """Return the blocks of one step, in the order of their ranks, as views."""
    out = []
    for part in entry.parts:
        chunk = _checked(topic, entry, part, schema, locate, {})
        arrays = {k: a[part.row] for k, a in chunk.arrays.items()}
        step, time, epoch = int(arrays.pop("step")), float(arrays.pop("time")), arrays.pop("epoch")
        ids = arrays.pop("ids", None)
        out.append(
            Block(
                part.rank, part.start, count=max(part.lead, 0), step=step, time=time,
                epoch=int(epoch), values=arrays, ids=ids,
            )
        )  # fmt: skip
    return out


def join_blocks(
    topic: str, entries: Sequence[Entry], schema: StreamSchema, locate: Locate
) -> FrameBatch:
    """Return decomposed frames as one batch: rows in global order, whoever wrote them.

    Raises
    ------
    CorruptSegment
        If bytes do not match their checksum, or the blocks of a step do not have each row once.
    """
    n = len(entries)
    total = next((v.shape[0] for v in schema.variables if v.decomposed), 0)
    seen = np.empty(total, np.bool_)
    columns: dict[str, Array] = {
        v.name: np.empty((n, *v.shape), v.numpy_dtype) for v in schema.variables
    }
    steps, times = np.empty(n, np.int64), np.empty(n, np.float64)
    epochs = np.empty(n, np.int32)
    for i, entry in enumerate(entries):
        seen[:] = False
        for rank, block in enumerate(blocks_of(topic, entry, schema, locate)):
            rows: Any = block.ids
            if rows is None:
                rows = slice(block.start, block.start + block.count)
            elif rows.max(initial=0) >= total:
                raise CorruptSegment(
                    f"The block of rank {block.rank} at step {block.step} of {topic} has row "
                    f"{rows.max()}; the rows of a frame count from 0 to {total - 1}."
                )
            seen[rows] = True
            for v in schema.variables:
                if v.decomposed:
                    _place(columns[v.name][i], rows, block.values[v.name])
                elif rank == 0:
                    columns[v.name][i] = block.values[v.name]
            steps[i], times[i], epochs[i] = block.step, block.time, block.epoch
        if not seen.all():
            # The stager has counted the rows: where one is missing, another came twice.
            missing = int(np.argmin(seen))
            raise CorruptSegment(
                f"The blocks of step {steps[i]} of {topic}, offset {entry.offset}, do not have "
                f"each row once: row {missing} is in none. The ranks' ids are wrong; read on from "
                "the next offset."
            )
    offsets = np.array([e.offset for e in entries], np.int64)
    return FrameBatch(
        topic.partition("/")[2], offsets, steps=steps, times=times, epochs=epochs, columns=columns
    )


def _place(out: Array, rows: Any, values: Array) -> None:
    """Write a block's rows where they belong, in ``out[rows] = values``."""
    width = out[:1].nbytes
    if isinstance(rows, slice) or not width:
        out[rows] = values
        return
    # Each row as one opaque item: ten times quicker than a scatter of rows (a million rows of 12
    # bytes in no order: 2.5 ms instead of 27).
    items = np.dtype((np.void, width))
    flat = np.ascontiguousarray(values).reshape(-1).view(np.uint8).view(items)
    np.put(out.reshape(-1).view(np.uint8).view(items), rows, flat)
