"""Values that are not finite: found fast, taken out by whole frames, and told of."""

from __future__ import annotations

import cmath
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from bridge.block_batch import BlockBatch
from bridge.commands import Event
from bridge.frames import FrameBatch

__all__ = [
    "MAX_NAMED",
    "find_bad_frames",
    "find_bad_rows",
    "is_finite",
    "quarantine_event",
    "screen",
]

MAX_NAMED = 32
"""At most so many offsets and steps are named in one event."""

Array = npt.NDArray[Any]


def is_finite(array: Array) -> bool:
    """Return False if a value may not be finite, True only if all of them are.

    One sum over the array: a value that is not finite makes it so, and nothing takes that back.
    The sum of finite values may overflow, so a False must be looked into.
    """
    kind = array.dtype.kind
    if kind == "f":
        return math.isfinite(np.add.reduce(array, axis=None))
    if kind == "c":
        return cmath.isfinite(np.add.reduce(array, axis=None))
    return True


def find_bad_rows(array: Array) -> npt.NDArray[np.bool_]:
    """Return for each row whether it holds a value that is not finite.

    Rows are summed first; only those whose sum is not finite are looked at value by value.
    """
    bad = np.zeros(len(array), np.bool_)
    rows = array.reshape(len(array), -1)
    for i in np.flatnonzero(~np.isfinite(np.add.reduce(rows, axis=1))):
        bad[i] = not np.isfinite(rows[i]).all()
    return bad


def find_bad_frames(batch: BlockBatch, name: str) -> npt.NDArray[np.bool_]:
    """Return for each frame whether one of its blocks holds a value that is not finite."""
    out = np.zeros(len(batch), np.bool_)
    for i in range(len(batch)):
        for block in batch.blocks(i):
            value = block.values[name]
            out[i] |= not is_finite(value) and bool(find_bad_rows(value[None]).any())
    return out


def screen(
    batch: FrameBatch, names: Iterable[str]
) -> tuple[FrameBatch, dict[str, npt.NDArray[np.bool_]]]:
    """Take out the frames in which one of the named columns is not finite.

    Returns
    -------
    batch
        The same object if all is well.
    bad
        Column to mask of the rows of the given batch; empty if all is well.
    """
    found: dict[str, npt.NDArray[np.bool_]] = {}
    with np.errstate(over="ignore", invalid="ignore"):
        blocks = set(batch.in_blocks) if isinstance(batch, BlockBatch) else set()
        for name in names:
            if isinstance(batch, BlockBatch) and name in blocks:
                bad = find_bad_frames(batch, name)
                if bad.any():
                    found[name] = bad
                continue
            column = batch.columns[name]
            if not is_finite(column):
                bad = find_bad_rows(column)
                if bad.any():
                    found[name] = bad
    if not found:
        return batch, found
    return batch.take(~np.logical_or.reduce(list(found.values()))), found


def quarantine_event(
    batch: FrameBatch, bad: dict[str, npt.NDArray[np.bool_]], source: str, where: str
) -> Event:
    """Make the event that names the frames, their steps and the variables.

    Parameters
    ----------
    batch, bad
        As given to, and returned by, `screen`.
    source
        Who tells.
    where
        What the variables are, such as ``"the input"``, for the sentence.
    """
    rows = np.flatnonzero(np.logical_or.reduce(list(bad.values())))
    offsets = batch.offsets[rows].tolist()
    steps = batch.steps[rows].tolist()
    names = sorted(bad)
    more = "" if len(rows) <= MAX_NAMED else f" and {len(rows) - MAX_NAMED} more"
    plural = "" if len(rows) == 1 else "s"
    listed = ", ".join(str(o) for o in offsets[:MAX_NAMED])
    return Event(
        "quarantined",
        f"Set aside {len(rows)} frame{plural} of {batch.simulation!r}: "
        f"{', '.join(map(repr, names))} of {where} is not finite at offset{plural} {listed}{more} "
        f"(from step {steps[0]}).",
        simulation=batch.simulation,
        source=source,
        level="warning",
        data={
            "count": len(rows),
            "variables": {n: int(bad[n].sum()) for n in names},
            "offsets": offsets[:MAX_NAMED],
            "steps": steps[:MAX_NAMED],
        },
    )
