"""Workers that train together as tasks of a Spark cluster, by its `TorchDistributor`."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec

from bridge.errors import NobodyListening
from bridge.extras import needs
from bridge.runs.keyfiles import client_keys
from bridge.runs.team import TeamPlan
from bridge.runs.training import TrainingReport
from bridge.runs.worker import work
from bridge.staging.client_like import ClientLike
from bridge.staging.spread import connect

__all__ = ["train_on_spark"]


def train_on_spark(plan: TeamPlan, output: Path, *, local: bool = False) -> TrainingReport:
    """Run a team as one Spark job, and return what it came to; blocks until its end.

    Each worker is a process beside an executor's task, which reads its share of the simulations
    straight from the stager; Spark starts and ends them, all or none (barrier execution). They need
    torch and Headrace in the executors' environment. To be called with a Spark session at hand.

    Parameters
    ----------
    plan
        Who learns what; ``host`` and ``port`` are found by the workers themselves.
    output
        Folder of the checkpoints, which all executors see.
    local
        Start the workers beside the driver instead.

    Raises
    ------
    MissingExtra
        If PySpark is not installed.
    """
    with needs("spark", "training on a Spark cluster"):
        from pyspark.ml.torch.distributor import TorchDistributor
    gpu = any(table.get("device") == "cuda" for table in plan.training.table.operators)
    distributor = TorchDistributor(num_processes=plan.size, local_mode=local, use_gpu=gpu)
    # Plain data goes to the workers, and comes back.
    said = distributor.run(
        _worker, msgspec.json.encode(plan).decode(), str(output), uuid4().hex, local
    )
    return msgspec.json.decode(said, type=TrainingReport)


def _worker(encoded: str, output: str, job: str, local: bool) -> str:
    """Be one worker; torchrun says which one. All return what worker 0 has to report."""
    plan = msgspec.json.decode(encoded.encode(), type=TeamPlan)
    rank = int(os.environ["RANK"])
    host = "127.0.0.1" if local else socket.gethostbyname(os.environ["MASTER_ADDR"])
    plan = msgspec.structs.replace(plan, host=host, port=_meet(plan, rank, host, job))
    report = work(plan, rank, Path(output))
    return _agree(plan, rank, job, msgspec.json.encode(report)).decode()


def _agree(plan: TeamPlan, rank: int, job: str, report: bytes) -> bytes:
    """Return what worker 0 reports, to all of them.

    Workers beside the driver write what they return into one file of the distributor, one over the
    other: so they had better return the same.
    """
    with connect(plan.stager, name=f"report {rank}", keys=client_keys(plan.keys)) as client:
        if rank == 0:
            client.append(_topic(plan, job), [report])
            return report
        return _await(client, plan, rank, job, 1, "to report")


def _topic(plan: TeamPlan, job: str) -> str:
    return f"training/{plan.training.name}/{job}"


def _await(
    client: ClientLike, plan: TeamPlan, rank: int, job: str, offset: int, what: str
) -> bytes:
    """Return what worker 0 said, first or second; blocks."""
    topic = _topic(plan, job)
    deadline = time.monotonic() + plan.timeout
    while time.monotonic() < deadline:
        with client.fetch({topic: offset}, wait=1.0) as fetched:
            if fetched.records:
                return bytes(fetched.records[0].data)
    raise NobodyListening(
        f"Worker {rank} waited {plan.timeout:g} s for worker 0 of the training "
        f"{plan.training.name!r} {what}; look at the log of its executor."
    )


def _meet(plan: TeamPlan, rank: int, host: str, job: str) -> int:
    """Return the port of worker 0, which tells it to the others through the stager.

    That which torchrun names is in use by torchrun.
    """
    with connect(plan.stager, name=f"meet {rank}", keys=client_keys(plan.keys)) as client:
        if rank == 0:
            with socket.socket() as found:
                found.bind((host, 0))
                port: Any = found.getsockname()[1]
            client.append(_topic(plan, job), [str(port).encode()])
            return int(port)
        return int(_await(client, plan, rank, job, 0, "to say where it is"))
