"""Simulated time over all walkers to the first event, steered in spaces that networks learn.

As `benchmarks.steering`, with the walkers, the pipeline that steers and the one that trains in one
process: both see each frame before the next, and a version that is promoted is in service from the
next frame on. The pipelines are those of the examples ``alanine_vampnet`` and ``alanine_cvae``.
Plain runs and random restarts are those of `benchmarks.steering`: no network has a part in them.
"""

from __future__ import annotations

import tempfile
import tomllib
from collections.abc import Mapping
from typing import Any

import torch

from benchmarks.processes import spawn
from benchmarks.report import figure, result
from benchmarks.steering import EXAMPLES, alanine, compare_arms, explore_alanine
from bridge import FrameBatch
from bridge.engines import pipeline_from_table
from bridge.engines.outcome import Outcome
from bridge.engines.runner import Runner

NETWORKS = {"VAMPnet": "alanine_vampnet", "CVAE": "alanine_cvae"}


class Learning:
    """A runner that steers, beside one that trains; see `bridge.engines.runner.Runner`.

    Parameters
    ----------
    table
        The file ``run.toml``.
    seed
        Of restarts and of the training.
    registry
        Folder for versions.
    """

    def __init__(self, table: Mapping[str, Any], seed: int, registry: str) -> None:
        defaults = {"seed": seed, "registry": registry}
        ((name, training),) = table["training"].items()
        steering = pipeline_from_table(table["pipeline"], defaults=defaults)
        self._steers = Runner(steering)
        # Only the pipeline: priorities and the like are for a process of its own.
        learning = {"name": name, "operators": training["operators"]}
        self._trains = Runner(pipeline_from_table(learning, defaults=defaults))
        (self._infers,) = (o["name"] for o in table["pipeline"]["operators"] if o["use"] == "infer")
        self.swaps = 0

    def process(self, batch: FrameBatch, names: tuple[str, ...]) -> Outcome:
        """Learn from a batch, then steer by it; return what the steering came to."""
        learned = self._trains.process(batch, names)
        if any(e.kind in ("first_model", "promoted", "rolled_back") for e in learned.events):
            # Loaded beside in a run; here it is waited for, so that a seed gives one answer.
            self._steers.operator(self._infers).serving.settle()
            self.swaps += 1
        return self._steers.process(batch, names)


def steered(job: tuple[str, int, int]) -> tuple[float, bool, int]:
    """Return picoseconds to the event, whether it came, and versions that were in service."""
    example, seed, limit = job
    torch.set_num_threads(1)
    table = tomllib.loads((EXAMPLES / example / "run.toml").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        runner = Learning(table, seed, folder)
        time, found = explore_alanine(runner, seed, limit)
    return time, found, runner.swaps


def run(quick: bool) -> dict[str, Any]:
    """Measure; see the module's text. In full it takes about 25 minutes on two idle cores."""
    # Settings of the examples were chosen with other seeds.
    seeds = range(101, 105) if quick else range(101, 113)
    with spawn.Pool(2) as pool:
        networks = {
            name: pool.map_async(steered, [(example, s, 3000) for s in seeds], 1)
            for name, example in NETWORKS.items()
        }
        controls = {
            "random": [] if quick else [("random", s, 1000) for s in seeds],
            "plain": [("plain", s, 500 if quick else 6000) for s in seeds],
        }
        told = {arm: pool.map_async(alanine, jobs, 1) for arm, jobs in controls.items()}
        found = {name: pending.get() for name, pending in networks.items()}
        others = {arm: pending.get() for arm, pending in told.items()}
    figures = []
    for name, runs in found.items():
        arms = {"steered": [(time, event) for time, event, _ in runs], **others}
        figures += compare_arms(f"alanine dipeptide, {name}", "ns", 1000.0, 10.0, arms)
        figures.append(figure(f"{name}: versions in service", [swaps for *_, swaps in runs], ""))
        # Both networks are held against the same controls, which are told of once.
        others = {"plain": others["plain"]}
    return result("learned", figures)
