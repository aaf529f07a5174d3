"""From a frame's put to the decision that it caused being applied in the simulation.

Three processes: stager, local engine, simulation. The simulation puts a small frame each 2 ms and
takes commands at each step; a policy commands something for every tenth frame.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.processes import engine_process, stager_process
from benchmarks.report import figure, result
from bridge import Capability, FrameBatch, GlobalOperator, Pipeline, StreamSchema
from bridge.pipeline import Context
from sim_adapters.link import Link

EVERY = 10
PERIOD = 0.002


class EachTenth(GlobalOperator):
    """Sets a parameter to the step of every tenth frame."""

    def process(self, batch: FrameBatch, context: Context) -> FrameBatch:
        for offset, step in zip(batch.offsets, batch.steps, strict=True):
            if offset % EVERY == 0:
                context.command(
                    "set", batch.simulation, reason="The benchmark asks for it.",
                    parameter="step", value=float(step), at=int(offset),
                )  # fmt: skip
        return batch

    def restore(self, state: Mapping[str, Any]) -> None:
        """There is no state."""


def pipeline() -> Pipeline:
    """Return the pipeline of the engine's process."""
    return Pipeline("latency", [("policy", EachTenth())])


def _measure(frames: int) -> tuple[float, float]:
    x = np.zeros((22, 3), np.float32)
    put: dict[int, float] = {}
    latencies: list[float] = []
    clock = time.perf_counter
    with (
        stager_process() as (address, _),
        engine_process(address, "benchmarks.latency:pipeline") as (_, _),
    ):
        link = Link(
            "walker", address=address, schema=StreamSchema.from_arrays({"x": x}),
            capabilities=[Capability("set", "step")],
        )  # fmt: skip
        link.on("set", "step", lambda value: latencies.append(clock() - put[int(value)]))
        due = clock()
        for step in range(frames):
            put[step] = clock()
            link.put(step, step * 1.0, x=x)
            due += PERIOD
            # A step of the simulation: it looks for commands 4 times in a period.
            for part in range(4):
                left = due - (3 - part) * PERIOD / 4 - clock()
                if left > 0:
                    time.sleep(left)
                link.service(step, step * 1.0)
        for _ in range(200):
            link.service(frames, float(frames))
            time.sleep(PERIOD)
        link.close()
    settled = latencies[len(latencies) // 10 :]
    return float(np.median(settled)) * 1e3, float(np.percentile(settled, 99)) * 1e3


def run(quick: bool) -> dict[str, Any]:
    """Measure; see the module's text."""
    pairs = [_measure(4000 if quick else 20_000) for _ in range(2 if quick else 5)]
    return result(
        "latency",
        [
            figure("put to applied, median", [m for m, _ in pairs], "ms", target=5.0,
                   better="lower"),
            figure("put to applied, 99th percentile", [p for _, p in pairs], "ms", target=25.0,
                   better="lower"),
        ],
    )  # fmt: skip
