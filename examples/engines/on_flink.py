"""A pipeline on Apache Flink, on this machine: python examples/engines/on_flink.py

Needs the extra ``flink`` (make setup-flink; then .venv-flink/bin/python …).
"""

from __future__ import annotations

from streams import WALKERS, make_pipeline, simulate

from bridge.engines.flink import FlinkEngine
from bridge.engines.job import Job
from bridge.engines.results import read_results
from bridge.staging import Stager, StagerClient


def main() -> None:
    with Stager("tcp://127.0.0.1:0") as stager:
        stager.start()
        walkers = simulate(stager.address)
        job = Job(make_pipeline(), stager.address, expected=WALKERS)
        # cluster="http://HOST:8081" for a cluster that is there already.
        statistics = FlinkEngine(job, parallelism=2).run()
        walkers.join()
        print(f"{statistics.state}: {statistics.frames} frames on Flink")
        with StagerClient(stager.address) as client:
            for name in WALKERS:
                results = read_results(client, "double-well", name)
                print(name, len(results), "rows; last embedding", results["pca"][-1])


if __name__ == "__main__":
    main()
