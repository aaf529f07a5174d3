"""Streams to test operators with: random ones, and the same frames cut in another way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bridge.frames import FrameBatch

__all__ = ["cut_again", "freeze", "one_by_one", "random_stream", "simulations_of"]


def freeze(batch: FrameBatch) -> FrameBatch:
    """Return the same batch with read-only views of its arrays, as an engine hands it out."""
    out = batch.take(slice(None))
    arrays: list[np.ndarray[Any, Any]] = [out.offsets, out.steps, out.times, out.epochs]
    for array in [*arrays, *out.columns.values()]:
        array.flags.writeable = False
    return out


def simulations_of(stream: Sequence[FrameBatch]) -> tuple[str, ...]:
    """Return the sorted names of the simulations of a stream."""
    return tuple(sorted({batch.simulation for batch in stream}))


def one_by_one(stream: Sequence[FrameBatch]) -> list[FrameBatch]:
    """Return the same frames in the same order, each in a batch of its own."""
    return [batch.take(slice(i, i + 1)) for batch in stream for i in range(len(batch))]


def cut_again(
    stream: Sequence[FrameBatch], rng: np.random.Generator, *, longest: int = 40
) -> list[FrameBatch]:
    """Return the same frames in the same order, cut at random.

    Neighbouring batches of one simulation are joined; batches of different simulations stay in
    their order, since a global operator may depend on it.
    """
    out: list[FrameBatch] = []
    single = one_by_one(stream)
    at = 0
    while at < len(single):
        stop = at + 1
        want = int(rng.integers(1, longest + 1))
        while (
            stop < len(single)
            and stop - at < want
            and single[stop].simulation == single[at].simulation
        ):
            stop += 1
        out.append(FrameBatch.concatenate(single[at:stop]))
        at = stop
    return out


def random_stream(
    columns: Mapping[str, tuple[int, ...]],
    *,
    simulations: int = 3,
    frames: int = 120,
    dtype: npt.DTypeLike = np.float32,
    restarts: bool = True,
    gaps: bool = True,
    seed: int = 0,
) -> list[FrameBatch]:
    """Make batches of random walks of several simulations, in random turns.

    Parameters
    ----------
    columns
        Name to shape in one frame.
    simulations, frames
        How many simulations, and frames of each.
    dtype
        Floating-point type of the columns.
    restarts
        Begin new epochs now and then, with a jump in the values.
    gaps
        Take a few frames out, as a quarantine does.
    seed
        Of the random numbers.
    """
    rng = np.random.default_rng(seed)
    left = []
    for number in range(simulations):
        jumps = (rng.random(frames) < 0.03) & restarts
        values = {}
        for name, shape in columns.items():
            steps = rng.normal(size=(frames, *shape)) * 0.3
            start = rng.normal(size=(frames, *shape))
            walk = np.cumsum(steps, axis=0)
            # An autoregressive pull to the origin keeps the walk bounded.
            values[name] = np.sin(walk) + 0.2 * start[0] + jumps.reshape(-1, *[1] * len(shape))
        batch = FrameBatch.from_arrays(
            f"walker{number}",
            {name: value.astype(dtype) for name, value in values.items()},
            times=np.arange(frames) * 0.5,
            epochs=np.cumsum(jumps),
        )
        kept = np.flatnonzero((rng.random(frames) > 0.04) | (not gaps))
        left.append(batch.take(kept))
    out = []
    while left:
        which = int(rng.integers(len(left)))
        size = int(rng.integers(1, 13))
        out.append(left[which].take(slice(0, size)).copy())
        left[which] = left[which].take(slice(size, None))
        if not len(left[which]):
            del left[which]
    return out
