"""Several workers that train one network against one, and inference while one trains beside it.

The network is the convolutional variational autoencoder on contact maps of 28 residues, batches of
64; each worker is a process with one thread and samples of its own. Synchronous: gradients are
averaged at each update. Hybrid: each worker is a group of its own, and groups average their
parameters without waiting for each other. Each worker's batch is 64 in any case, so that two learn
from twice as many samples in an update; samples a second are compared, once all is warm.

One worker, two and two groups are there at once, and train in turn, a short piece at a time; so do
the frames that are answered with training beside them and without: once where the trainer has a
core of its own (``processors = 1`` in its table), and once where it only gives way. What else the
machine does falls on both sides of a ratio alike; the medians of the ratios are told. Beside them
stands what they would be if nobody ever waited, by the clocks of the processors alone.
"""

from __future__ import annotations

import contextlib
import socket
import statistics
import tempfile
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from analytics.learning.buffers import FifoReuse
from analytics.learning.distributed.exchange import Exchange
from analytics.learning.distributed.team import Place, Team
from analytics.learning.trainer import Trainer
from benchmarks.inference import FEATURES, serve, streaming, trained, working_in
from benchmarks.processes import receive, spawn
from benchmarks.report import figure, result
from bridge.priority import give_way
from bridge.runs.placement import Placement, kept_to

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


def _worker(pipe: Any, rank: int, size: int, groups: int, port: int) -> None:
    """Train for as many seconds as is asked, each time; send updates, seconds, and those of CPU."""
    team = Team(Place(rank=rank, size=size, groups=groups, port=port)) if size > 1 else None
    trainer = _trainer(rank, team)
    exchange = Exchange(team, trainer.parameters) if team and groups > 1 else None
    for _ in range(3):
        trainer.update()
    pipe.send("ready")
    while seconds := pipe.recv():
        if team and not exchange:
            team.total([0.0])
        began, worked, updates, over = time.monotonic(), time.process_time(), 0, False
        while not over:
            trainer.update()
            updates += 1
            over = time.monotonic() - began > seconds
            if exchange:
                exchange.step(1, ended=False, stopped=False)
            elif team:
                # All end after the same update; workers of a run agree as often.
                over = not updates % 8 and team.total([float(over)])[0] > 0
        pipe.send((updates, time.monotonic() - began, time.process_time() - worked))
    while exchange and not exchange.over:
        exchange.step(0, ended=True, stopped=False)
    if team:
        team.close()


class _Workers:
    """Workers that wait until they are told to train for a while."""

    def __init__(self, size: int, groups: int) -> None:
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        self._running = []
        for rank in range(size):
            mine, theirs = spawn.Pipe()
            process = spawn.Process(target=_worker, args=(theirs, rank, size, groups, port))
            process.start()
            self._running.append((mine, process))
        for one in self._running:
            receive(*one)

    def train(self, seconds: float) -> tuple[float, float]:
        """Return samples a second, of all together, and those a second of processor."""
        for mine, _ in self._running:
            mine.send(seconds)
        told = [receive(*one) for one in self._running]
        rate = sum(updates * BATCH / wall for updates, wall, _ in told)
        return rate, BATCH * sum(t[0] for t in told) / sum(t[2] for t in told)

    def end(self) -> None:
        """End them."""
        for mine, _ in self._running:
            with contextlib.suppress(OSError):
                mine.send(0.0)
        for _, process in self._running:
            process.join(30.0)
            if process.is_alive():
                process.kill()
                process.join()


def _scaling(seconds: float, rounds: int) -> list[dict[str, Any]]:
    """Return the figures of two workers to one."""
    ways = {"synchronous": (2, 1, 1.7), "hybrid": (2, 2, 1.8)}
    with contextlib.ExitStack() as stack:
        workers = {"alone": _Workers(1, 1)}
        stack.callback(workers["alone"].end)
        for way, (size, groups, _) in ways.items():
            workers[way] = _Workers(size, groups)
            stack.callback(workers[way].end)
        rates: dict[str, list[float]] = {way: [] for way in workers}
        worked: dict[str, list[float]] = {way: [] for way in workers}
        order = list(workers)
        for _ in range(rounds):
            for way in order:
                rate, per_processor = workers[way].train(seconds)
                rates[way].append(rate)
                worked[way].append(per_processor)
            order.reverse()
    figures = []
    for way, (size, _, target) in ways.items():
        ratios = [a / b for a, b in zip(rates[way], rates["alone"], strict=True)]
        unwaiting = [size * a / b for a, b in zip(worked[way], worked["alone"], strict=True)]
        figures.append(
            figure(f"two workers to one, {way}", ratios, "×", target=target,
                   if_nobody_waited=round(statistics.median(unwaiting), 3))
        )  # fmt: skip
    return figures


def _beside(pipe: Any) -> None:
    """Train from one word to the next, giving way as trainers of a run do."""
    give_way(15)
    trainer = _trainer(0, None)
    pipe.send("ready")
    while (word := pipe.recv()) != "end":
        while word == "train" and not pipe.poll(0):
            trainer.update()


@contextlib.contextmanager
def _beside_training(processors: Collection[int] | None) -> Iterator[Any]:
    """Give a pipe to which ``train``, ``rest`` and, by itself, ``end`` are sent.

    The trainer is kept to some processors, or to none.
    """
    mine, theirs = spawn.Pipe()
    process = spawn.Process(target=_beside, args=(theirs,))
    with kept_to(processors):
        process.start()
    try:
        receive(mine, process)
        yield mine
    finally:
        mine.send("end")
        process.join(30.0)
        if process.is_alive():
            process.kill()
            process.join()


def _tails(pairs: int, own: int) -> dict[str, Any]:
    """Return the figure of inference beside training to inference alone.

    Pieces of both sides take turns, on, off, off, on. A few moments in which the machine did
    something else make a piece's percentile; the median of many pairs does not see them.

    Parameters
    ----------
    own
        Processors that the trainer has for itself, as a run's has with ``processors``: stager,
        engine, and who puts frames and reads results keep to the others, with training and without.
    """
    frames = 1000
    alone: list[float] = []
    beside: list[float] = []
    placement = Placement({"trainer": own})
    with (
        kept_to(placement.others),
        streaming("inferring") as put,
        _beside_training(placement.own.get("trainer")) as trainer,
    ):
        for number in range(2 * pairs):
            training = number % 4 in (0, 3)
            if training:
                trainer.send("train")
            piece = float(np.percentile(put(frames), 99))
            (beside if training else alone).append(piece)
            if training:
                trainer.send("rest")
    ratios = [b / a for a, b in zip(alone, beside, strict=True)]
    name = "inference, 99th percentile, with training beside it to without"
    facts = {
        "alone_ms": round(statistics.median(alone), 2),
        "beside_ms": round(statistics.median(beside), 2),
        "results_each": frames,
    }
    if own:
        name += ": training on another core"
        return figure(name, ratios, "×", target=1.5, better="lower", **facts)
    return figure(f"{name}: training gives way", ratios, "×", better="lower", **facts)


def run(quick: bool) -> dict[str, Any]:
    """Measure; see the module's text."""
    figures = _scaling(1.0, 6) if quick else _scaling(2.0, 15)
    with tempfile.TemporaryDirectory() as folder:
        serve(Path(folder) / "models", trained("vae", (FEATURES,)))
        with working_in(folder):
            pairs = 10 if quick else 40
            figures += [_tails(pairs, 1), _tails(pairs, 0)]
    return result("training", figures)
