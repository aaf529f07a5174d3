"""Simulations of several ranks, for the tests of engines."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np

from bridge.frames import FrameBatch
from bridge.schema import StreamSchema, Variable
from bridge.staging import Producer


def play_ranks(
    address: str,
    frames: FrameBatch,
    ranks: int,
    *,
    decomposed: Sequence[str],
    migrating: bool,
    even: bool = False,
) -> None:
    """Put whole frames as the blocks of some ranks, which differ from step to step, and the end.

    Parameters
    ----------
    decomposed
        Columns that ranks write in blocks; rank 0 writes the others.
    migrating
        Rows change their ranks with each step, and have ids.
    even
        Each rank has as many rows as another.
    """
    rng = np.random.default_rng(5)
    schema = StreamSchema(
        tuple(
            Variable(name, column.dtype.str, column.shape[1:], decomposed=name in decomposed)
            for name, column in frames.columns.items()
        ),
        n_ranks=ranks,
    )
    rows = frames[decomposed[0]].shape[1]
    with ExitStack() as stack:
        producers = [
            stack.enter_context(Producer(frames.simulation, schema, address=address, rank=rank))
            for rank in range(ranks)
        ]
        for frame in frames:
            order = rng.permutation(rows) if migrating else np.arange(rows)
            cuts = np.arange(1, ranks) * rows // ranks
            if not even:
                cuts = np.sort(np.minimum(rows, cuts + rng.integers(-3, 4, ranks - 1)))
            for rank, ids in enumerate(np.split(order, cuts)):
                values = {
                    name: value[ids] if name in decomposed else value
                    for name, value in frame.values.items()
                    if name in decomposed or not rank
                }
                start = 0 if migrating else int([0, *cuts][rank])
                producers[rank].put_block(
                    frame.step, frame.time, start, values, ids=ids if migrating else None
                )
