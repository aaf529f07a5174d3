"""Whether the blocks of a step have each row of the frame once."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from bridge.errors import SchemaError

__all__ = ["check_rows"]


def check_rows(
    topic: str, step: int, total: int, blocks: Mapping[int, npt.NDArray[np.int64] | range]
) -> None:
    """Raise unless the blocks of a step have each row once.

    Parameters
    ----------
    topic, step
        Of the blocks, for messages.
    total
        Rows of the frame.
    blocks
        Rank to the rows of its block: as many as `total` together.

    Raises
    ------
    SchemaError
        With a row that comes twice and the ranks that have it, and one that is in none.
    """
    seen = np.zeros(total, np.bool_)
    for rank, rows in blocks.items():
        low, high = (int(np.min(rows)), int(np.max(rows))) if len(rows) else (0, -1)
        if low < 0 or high >= total:
            raise SchemaError(
                f"The block of rank {rank} at step {step} of {topic} has rows from {low} to "
                f"{high}; the rows of a frame count from 0 to {total - 1}. The step is dropped."
            )
        seen[slice(rows.start, rows.stop) if isinstance(rows, range) else rows] = True
    if seen.all():
        # None is missing, and there are no more than all: so none comes twice.
        return
    missing = int(np.argmin(seen))
    twice = int(np.argmax(sum(np.bincount(rows, minlength=total) for rows in blocks.values())))
    those = [str(rank) for rank, rows in blocks.items() if twice in rows]
    who = f"ranks {' and '.join(those)}" if len(those) > 1 else f"rank {those[0]} twice"
    raise SchemaError(
        f"The blocks of step {step} of {topic} do not have each row once: row {twice} is in that "
        f"of {who}, row {missing} in none. Ids, and first rows, are those of the whole frame, "
        "counted from 0 over all ranks. The step is dropped."
    )
