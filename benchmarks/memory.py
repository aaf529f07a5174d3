"""Memory of the stager and of the local engine over a million small frames.

The stager's resident memory counts its mapped segments; the engine's is its private memory, since
the segments that it maps are the stager's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import psutil

from benchmarks.processes import engine_process, receive, stager_process
from benchmarks.report import figure, result
from bridge import Pipeline, StreamSchema
from bridge.staging import Producer, StreamOptions

LIMIT = 256 << 20


def pipeline() -> Pipeline:
    """Return the pipeline of the engine's process."""
    from analytics.features import Distances
    from analytics.reduction import OnlinePCA

    pairs = [[0, 5], [1, 10], [2, 15], [3, 20]]
    return Pipeline(
        "memory",
        [
            ("distances", Distances(pairs=pairs, variable="x")),
            ("pca", OnlinePCA(input="distances", n_components=2, update_every=10_000)),
        ],
    )


def _measure(frames: int) -> tuple[float, float]:
    rng = np.random.default_rng(0)
    x = rng.random((1000, 22, 3), np.float32)
    private: list[float] = []
    with (
        stager_process(LIMIT) as (address, stager),
        engine_process(address, "benchmarks.memory:pipeline") as (pipe, engine),
    ):
        watched = psutil.Process(engine.pid)
        schema = StreamSchema.from_arrays({"x": x[0]})
        with Producer(
            "walker", schema, address=address, options=StreamOptions(capacity=64 << 20),
            timeout=120.0,
        ) as producer:  # fmt: skip
            for step in range(frames):
                producer.put(step, step * 1.0, {"x": x[step % 1000]})
                if step % (frames // 20) == 0:
                    private.append(watched.memory_full_info().uss / 1e6)
            producer.flush(120.0)
        resident = psutil.Process(stager).memory_info().rss / 1e6
        private.append(watched.memory_full_info().uss / 1e6)
        done = receive(pipe, engine)
        if done != frames:
            raise SystemExit(f"The engine analysed {done} of {frames} frames.")
    return resident - LIMIT / 1e6, private[-1] - private[4]


def run(quick: bool) -> dict[str, Any]:
    """Measure; see the module's text."""
    frames = 200_000 if quick else 1_000_000
    pairs = [_measure(frames) for _ in range(1 if quick else 3)]
    return result(
        "memory",
        [
            figure(f"stager's resident memory above its limit, {frames:,} frames",
                   [s for s, _ in pairs], "MB", target=100.0, better="lower"),
            figure("growth of the engine's private memory over the last 80 %",
                   [e for _, e in pairs], "MB", target=20.0, better="lower"),
        ],
    )  # fmt: skip
