"""A stream that a network answers, which is renewed after exact frame counts."""

from __future__ import annotations

import numpy as np

from analytics.inference.operator import Infer
from bridge.frames import FrameBatch
from bridge.pipeline import Context
from bridge.testing.operators import random_stream

__all__ = ["answered", "encoded_stream"]


def answered(batch: FrameBatch, numbers: np.ndarray, operator: Infer) -> FrameBatch:
    """Return a batch with what the given numbers of a model say to its rows."""
    n = len(batch)
    latent, errors = np.zeros((n, 2), np.float32), np.zeros(n, np.float32)
    for number in np.unique(numbers):
        if number:
            rows = numbers == number
            z, e = operator.serving.at(int(number)).encoder(batch["features"][rows])
            latent[rows], errors[rows] = z, e
    columns = {"latent": latent, "latent_version": numbers, "latent_error": errors}
    return batch.with_columns(columns)


def encoded_stream(registry: str, *, every: int = 90, frames: int = 100) -> list[FrameBatch]:
    """Return batches with ``features``, ``positions``, ``latent``, its version and its error.

    The version is 0 for the first 50 frames of all simulations, then 1, and 2 for the rest.
    """
    operator = Infer(model="tiny", registry=registry, input="features", errors=True)
    operator.process(FrameBatch.from_arrays("a", {"features": np.zeros((1, 5))}), Context())
    out, count = [], 0
    for batch in random_stream({"features": (5,), "positions": (4, 3)}, frames=frames, seed=4):
        places = count + np.arange(len(batch))
        numbers = np.minimum((places + every - 50) // every, 2).astype(np.int64)
        out.append(answered(batch, numbers, operator))
        count += len(batch)
    return out
