"""OpenMM, alanine dipeptide, a frame each 50 steps: streaming against a reporter that copies.

One simulation, in turn with the one and the other reporter, in random order within each pair; the
stager is a process of its own.
"""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.processes import stager_process
from benchmarks.report import figure, result
from bridge.staging import StreamOptions
from sim_adapters.link import Link
from sim_adapters.openmm import HeadraceReporter
from sim_adapters.openmm_schema import describe
from sim_adapters.openmm_system import SystemTable, build_simulation, read_structure

FOLDER = Path(__file__).parents[1] / "examples" / "alanine_dipeptide"
TABLE = SystemTable(
    prmtop="alanine-dipeptide.prmtop", coordinates="alanine-dipeptide.crd",
    implicit_solvent="OBC2", hydrogen_mass=3.0, timestep=0.004, platform="Reference",
)  # fmt: skip
EVERY = 50


class Copies:
    """The bare reporter: copies the positions and keeps the newest."""

    def __init__(self) -> None:
        self.frame = np.zeros((22, 3), np.float32)

    def describeNextReport(self, simulation: Any) -> dict[str, Any]:  # noqa: N802
        steps = EVERY - simulation.currentStep % EVERY
        return {"steps": steps, "periodic": False, "include": ["positions"]}

    def report(self, simulation: Any, state: Any) -> None:
        self.frame = np.array(state.getPositions(asNumpy=True)._value, np.float32)


def run(quick: bool) -> dict[str, Any]:
    """Measure; see the module's text."""
    steps, pairs = (10_000, 14) if quick else (25_000, 40)
    simulation = build_simulation(read_structure(TABLE, FOLDER), TABLE, 1)
    ratios = []
    with stager_process() as (address, _):
        schema = describe(simulation.topology, simulation.system)
        link = Link(
            "walker", address=address, every=EVERY, schema=schema,
            options=StreamOptions(when_full="drop_oldest", capacity=8 << 20),
        )  # fmt: skip
        reporters = {"bare": Copies(), "streaming": HeadraceReporter(link, simulation)}
        order = list(reporters)
        for _ in range(pairs):
            took = {}
            random.shuffle(order)
            for name in order:
                simulation.reporters[:] = [reporters[name]]
                began = time.perf_counter()
                simulation.step(steps)
                took[name] = time.perf_counter() - began
            ratios.append(took["streaming"] / took["bare"])
        simulation.reporters.clear()
        link.close()
    return result(
        "overhead",
        [figure("wall time, streaming to bare reporter", ratios, "×", target=1.10, better="lower")],
    )
