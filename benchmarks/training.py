"""Several workers that train one network against one, and inference while one trains beside it.

The network is the convolutional variational autoencoder on contact maps of 28 residues, batches of
64; each worker is a process with one thread and samples of its own. Synchronous: gradients are
averaged at each update. Hybrid: each worker is a group of its own, and groups average their
parameters without waiting for each other.
"""

from __future__ import annotations

import os
import socket
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from analytics.learning.buffers import FifoReuse
from analytics.learning.distributed.exchange import Exchange
from analytics.learning.distributed.team import Place, Team
from analytics.learning.trainer import Trainer
from benchmarks.inference import FEATURES, latencies, serve, trained
from benchmarks.processes import receive, spawn
from benchmarks.report import figure, result

RESIDUES, BATCH, LEARN = 28, 64, 2000


def _trainer(seed: int, team: Team | None) -> Trainer:
    torch.set_num_threads(1)
    model = trained("cvae", (RESIDUES, RESIDUES))
    maps = (np.random.default_rng(seed).random((LEARN, RESIDUES, RESIDUES)) < 0.3).astype("f4")
    buffer = FifoReuse(max_samples=LEARN, seed=seed)
    buffer.put(maps)
    return Trainer(
        model, buffer, batch_size=BATCH, seed=seed, reduce=None if team is None else team.reduce
    )


def _worker(pipe: Any, rank: int, size: int, groups: int, port: int, seconds: float) -> None:
    """Train for a while, and send how many samples a second."""
    team = Team(Place(rank=rank, size=size, groups=groups, port=port)) if size > 1 else None
    trainer = _trainer(rank, team)
    exchange = Exchange(team, trainer.parameters) if team and groups > 1 else None
    for _ in range(3):
        trainer.update()
    if team:
        team.total([0.0], everybody=True)
    began, updates, over = time.monotonic(), 0, False
    while not over:
        trainer.update()
        updates += 1
        over = time.monotonic() - began > seconds
        if exchange:
            exchange.step(1, ended=False, stopped=False)
        elif team:
            # All must end after the same update.
            over = not updates % 8 and team.total([float(over)])[0] > 0
    wall = time.monotonic() - began
    while exchange and not exchange.over:
        exchange.step(0, ended=True, stopped=False)
    pipe.send(updates * BATCH / wall)


def _throughput(size: int, groups: int, seconds: float) -> float:
    """Return samples a second of all workers together."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    running = []
    for rank in range(size):
        mine, theirs = spawn.Pipe()
        process = spawn.Process(target=_worker, args=(theirs, rank, size, groups, port, seconds))
        process.start()
        running.append((mine, process))
    total = sum(receive(*one) for one in running)
    for _, process in running:
        process.join(30.0)
    return float(total)


def _beside(pipe: Any) -> None:
    """Train until told to end, giving way as trainers of a run do."""
    os.nice(15)
    trainer = _trainer(0, None)
    pipe.send("ready")
    while not pipe.poll(0):
        trainer.update()


def _tail(frames: int, *, busy: bool) -> float:
    """Return the 99th percentile of put to result, ms."""
    mine, theirs = spawn.Pipe()
    process = spawn.Process(target=_beside, args=(theirs,)) if busy else None
    if process:
        process.start()
        receive(mine, process)
    try:
        return float(np.percentile(latencies("inferring", frames), 99))
    finally:
        if process:
            mine.send("end")
            process.join(30.0)


def run(quick: bool) -> dict[str, Any]:
    """Measure; see the module's text."""
    seconds, repeats = (4.0, 2) if quick else (10.0, 5)
    ways = {"synchronous": (2, 1, 1.7), "hybrid": (2, 2, 1.8)}
    found: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(repeats):
        alone = _throughput(1, 1, seconds)
        for way, (size, groups, _) in ways.items():
            found[way].append(_throughput(size, groups, seconds) / alone)
    figures = [
        figure(f"two workers to one, {way}", found[way], "×", target=target)
        for way, (_, _, target) in ways.items()
    ]
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        serve(Path(folder) / "models", trained("vae", (FEATURES,)))
        path = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = str(before)
        os.chdir(folder)
        try:
            frames = 2000 if quick else 5000
            pairs = [(_tail(frames, busy=False), _tail(frames, busy=True)) for _ in range(repeats)]
        finally:
            os.chdir(before)
            if path is None:
                del os.environ["PYTHONPATH"]
            else:
                os.environ["PYTHONPATH"] = path
    figures.append(
        figure("inference, 99th percentile, with training beside it to without",
               [busy / alone for alone, busy in pairs], "×", target=1.5, better="lower",
               alone_ms=round(statistics.median(a for a, _ in pairs), 2))
    )  # fmt: skip
    return result("training", figures)
