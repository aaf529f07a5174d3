"""The same walkers, staging and policy in one process; the engine is asked after each frame."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np

from bridge.commands import Capability
from bridge.engines import LocalEngine, pipeline_from_table
from bridge.schema import StreamSchema
from bridge.staging import Stager, StagerClient
from sim_adapters.link import Link
from sim_adapters.muller_brown import MINIMA, Walkers

RUN = Path(__file__).with_name("run.toml")
MEMBERS = 8
EVERY = 10
LAST = 200_000


def main() -> None:
    pipeline = pipeline_from_table(tomllib.loads(RUN.read_text(encoding="utf-8"))["pipeline"])
    schema = StreamSchema.from_arrays({"positions": np.zeros(2)})
    capabilities = [Capability("restart"), Capability("stop")]
    walkers = Walkers(np.tile(MINIMA[0], (MEMBERS, 1)), kT=10.0, seed=1)
    with Stager("memory://muller-brown").start() as stager, StagerClient(stager.address) as client:
        engine = LocalEngine(pipeline, client)
        links = [
            Link(
                f"walker-{i}",
                address=stager.address,
                schema=schema,
                every=EVERY,
                capabilities=capabilities,
            )
            for i in range(MEMBERS)
        ]
        for row, link in enumerate(links):
            link.on_restart(
                lambda arrays, command, row=row: walkers.place(row, arrays["positions"]),
                {"positions": (2,)},
            )
        restarts = run(walkers, links, engine)
        for link in links:
            link.close()
        told = engine.statistics()
    print(f"{walkers.steps * MEMBERS:,} steps over {MEMBERS} walkers, {restarts} restarts.")
    print(f"{told.frames} frames analysed, {told.decisions} decisions.")


def run(walkers: Walkers, links: list[Link], engine: LocalEngine) -> int:
    """Walk until the pipeline stops the walkers; return how many restarts were applied."""
    frames = 0
    while walkers.steps < LAST and not all(link.stopped for link in links):
        walkers.step(EVERY)
        for row, link in enumerate(links):
            if not link.stopped:
                link.put(walkers.steps, walkers.time, positions=walkers.positions[row].copy())
                frames += 1
        while engine.statistics().frames < frames:
            engine.step(0.1)
        take_commands(links, engine.statistics().sent, walkers)
    return sum(link.epoch for link in links)


def take_commands(links: list[Link], sent: int, walkers: Walkers) -> None:
    """Apply what the engine has sent, all of it before the next step."""
    while True:
        for link in links:
            link.service(walkers.steps, walkers.time)
        told = [link.statistics() for link in links]
        if sum(t.delivered for t in told if t is not None) >= sent:
            return
        links[0].wait(0.001)


if __name__ == "__main__":
    main()
