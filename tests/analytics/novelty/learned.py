"""A stream in a space that seems to be learned: its model changes after exact frame counts."""

from __future__ import annotations

import numpy as np

from bridge.frames import FrameBatch
from bridge.testing.operators import random_stream


def learned_stream(
    *, every: int = 90, k: int = 2, frames: int = 160, seed: int = 4
) -> list[FrameBatch]:
    """Return batches with ``features`` (5), ``y``, ``y_version``, ``y_model`` and ``positions``.

    The version is 0 for the first 50 frames of all simulations, and grows each `every` frames,
    in the middle of batches too.
    """
    rng = np.random.default_rng(seed)
    models = rng.normal(size=(1 + 3 * frames // every, 6, k))
    models[0] = 0.0
    out, count = [], 0
    shapes = {"features": (5,), "positions": (4, 3)}
    for batch in random_stream(shapes, frames=frames, seed=seed):
        versions = np.array([(count + i + every - 50) // every for i in range(len(batch))])
        model = models[versions]
        features = batch["features"].astype(np.float64)
        y = np.stack([f @ m[:-1] + m[-1] for f, m in zip(features, model, strict=True)])
        out.append(
            batch.with_columns(
                {"y": y, "y_version": versions, "y_model": model, "score": np.abs(y[:, 0])}
            )
        )
        count += len(batch)
    return out
