"""Something to analyse: three walkers in a double well, from a thread of this process."""

from __future__ import annotations

import threading

import numpy as np

from analytics.reduction import OnlinePCA
from bridge.pipeline import Context, FrameOperator, Pipeline
from sim_adapters.link import link

WALKERS = ("walker-0", "walker-1", "walker-2")
FRAMES = 2000


class Features(FrameOperator):
    """Powers of the coordinate: runs on the workers, where frames are pulled."""

    def process(self, batch, context: Context):
        x = batch["x"]
        return batch.with_columns({"features": np.stack([x, x**2, x**3], axis=1)})


def make_pipeline() -> Pipeline:
    """Return a pipeline: features on the workers, an embedding that is learned from all walkers."""
    return Pipeline(
        "double-well",
        [
            ("features", Features()),
            ("pca", OnlinePCA(input="features", n_components=2, update_every=500)),
        ],
        outputs=["features", "pca"],
    )


def simulate(address: str) -> threading.Thread:
    """Walk in a thread; each walker is a stream of its own."""

    def walk() -> None:
        rng = np.random.default_rng(1)
        streams = [link(name, stager=address, every=1, units={"x": "nm"}) for name in WALKERS]
        x = np.full(len(WALKERS), -1.0)
        for step in range(FRAMES):
            x += 0.01 * 4 * x * (1 - x**2) + np.sqrt(0.01) * rng.normal(size=len(x))
            for stream, value in zip(streams, x, strict=True):
                stream.put(step, 0.01 * step, x=np.float64(value))
        for stream in streams:
            stream.close()

    thread = threading.Thread(target=walk, name="walkers")
    thread.start()
    return thread
