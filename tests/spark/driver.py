"""A driver in a process of its own, so that it, or its executors, can be killed."""

from __future__ import annotations

import sys

from bridge.engines.job import Job
from bridge.engines.options import JobOptions
from bridge.engines.spark import SparkEngine
from bridge.steering import GuardMaker
from tests.bridge.engines.pipelines import EachTenth, make_pipeline


def make_job(address: str) -> Job:
    """Return the job of the tests of faults: all three scopes, and commands."""
    options = JobOptions(save_every=0.3, checkpoint_every=0.3, status_every=0.2)
    pipeline = make_pipeline(("tenth", EachTenth()))
    return Job(pipeline, address, options=options, guard=GuardMaker())


def main(address: str, checkpoint: str, cluster: str) -> None:
    """Run the job to its end."""
    settings = {"headrace.lease": "1.0"}
    if cluster.startswith("local-cluster"):
        settings["spark.executor.memory"] = "600m"
    SparkEngine(make_job(address), cluster=cluster, checkpoint=checkpoint, settings=settings).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
