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
    """Be one worker; torchrun says which one. What that of rank 0 returns is what the job does."""
    plan = msgspec.json.decode(encoded.encode(), type=TeamPlan)
    rank = int(os.environ["RANK"])
    host = "127.0.0.1" if local else socket.gethostbyname(os.environ["MASTER_ADDR"])
    plan = msgspec.structs.replace(plan, host=host, port=_meet(plan, rank, host, job))
    report = work(plan, rank, Path(output))
    return msgspec.json.encode(report).decode()


def _meet(plan: TeamPlan, rank: int, host: str, job: str) -> int:
    """Return the port of worker 0, which tells it to the others through the stager.

    That which torchrun names is in use by torchrun.
    """
    topic = f"training/{plan.training.name}/{job}"
    with connect(plan.stager, name=f"meet {rank}", keys=client_keys(plan.keys)) as client:
        if rank == 0:
            with socket.socket() as found:
                found.bind((host, 0))
                port: Any = found.getsockname()[1]
            client.append(topic, [str(port).encode()])
            return int(port)
        deadline = time.monotonic() + plan.timeout
        while time.monotonic() < deadline:
            with client.fetch({topic: 0}, wait=1.0) as fetched:
                if fetched.records:
                    return int(bytes(fetched.records[0].data))
    raise NobodyListening(
        f"Worker {rank} waited {plan.timeout:g} s for worker 0 of the training "
        f"{plan.training.name!r} to say where it is; look at the log of its executor."
    )
