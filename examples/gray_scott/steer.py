"""Run the reaction on two ranks, learn its components and go through feed rates: python steer.py

Stager, engine and policy are in this process; the ranks are started with ``mpiexec``.
"""

from __future__ import annotations

import argparse
import sys
import threading
from pathlib import Path

from bridge.config import read_toml
from bridge.engines import LocalEngine
from bridge.engines.configure import pipeline_from_table
from bridge.errors import MemberFailed
from bridge.staging import Stager, StagerClient
from bridge.steering import read_ledger
from sim_adapters.mpi_launch import launch

HERE = Path(__file__).parent


def simulate(ranks: int, command: list[str], engine: LocalEngine) -> None:
    """Run the ranks to their end; if that is a bad one, the engine has nothing to wait for."""
    try:
        environment = {"HEADRACE_MEMBER": "gray-scott"}
        launch(ranks, command, what="gray-scott", environment=environment)
    except MemberFailed as error:
        print(error, file=sys.stderr)
        engine.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=40_000)
    chosen = parser.parse_args()
    table = read_toml(HERE / "run.toml")
    pipeline = pipeline_from_table(table["pipeline"])
    with Stager("tcp://127.0.0.1:0").start() as stager, StagerClient(stager.address) as client:
        options = {"--size": chosen.size, "--steps": chosen.steps, "--every": 50}
        options["--stager"] = stager.address
        command = [sys.executable, str(HERE / "gray_scott.py")]
        command += [str(word) for pair in options.items() for word in pair]
        engine = LocalEngine(pipeline, client)
        ranks = threading.Thread(target=simulate, args=(chosen.ranks, command, engine))
        ranks.start()
        told = engine.run()
        ranks.join()
        print(f"{told.frames} frames of {chosen.size}³ cells from {chosen.ranks} ranks.")
        for line in read_ledger(client).lines():
            print(f"  step {line.step}: {line.what} ({line.outcome}). {line.why}")


if __name__ == "__main__":
    main()
