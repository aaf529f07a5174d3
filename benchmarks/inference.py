"""The inference operator: against the bare network, its added latency, and a hot swap.

The network is the convolutional variational autoencoder on contact maps of 35 residues, in batches
of 64, and a multi-layer perceptron (the variational autoencoder on 64 features) in batches of 256;
both sides run one thread in the same process, in turn. What is compared with something else is
measured in many short pieces, both sides in turn, and the median of the ratios or differences is
told: what else the machine does falls on both alike.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from analytics.inference.operator import Infer
from analytics.learning.model import StreamModel, make_model
from analytics.learning.registry import Registry
from benchmarks.processes import engine_process, receive, spawn, stager_process
from benchmarks.report import figure, result
from bridge import FrameBatch, Pipeline, StreamSchema
from bridge.codec import decode_batch
from bridge.pipeline import Context
from bridge.staging import StagerClient
from sim_adapters.link import Link

PERIOD = 0.002
FEATURES = 64
MAPS = (35, 35)
CASES: dict[str, tuple[str, tuple[int, ...], int]] = {
    "CVAE on 35 x 35 contacts, batches of 64": ("cvae", MAPS, 64),
    "VAE on 64 features, batches of 256": ("vae", (FEATURES,), 256),
}


def serve(folder: Path, model: StreamModel, name: str = "model") -> None:
    """Put a model into a registry and serve it."""
    registry = Registry(folder)
    card = registry.add(name, model, alignment=None, metrics={}, trained_on={})
    registry.promote(name, card.version, reason="benchmark")


def trained(kind: str, shape: tuple[int, ...], seed: int = 0) -> StreamModel:
    """Return a model with random weights that knows how its inputs are scaled."""
    torch.manual_seed(seed)
    model = make_model(kind, shape, {"latent": 3})
    generator = torch.Generator().manual_seed(seed)
    if kind == "cvae":
        upper = (torch.rand(256, *shape, generator=generator) < 0.3).triu(1).float()
        x = upper + upper.transpose(-1, -2)
    else:
        x = torch.randn(256, *shape, generator=generator)
    with torch.no_grad():
        model.prepare(x)
    return model.eval()


def _throughput(kind: str, shape: tuple[int, ...], size: int, repeats: int) -> list[float]:
    """Return ratios of the operator's frames/s to the bare network's."""
    model = trained(kind, shape)
    rng = np.random.default_rng(1)
    values = (rng.random((size, *shape)) < 0.3).astype(np.float32)
    batch = FrameBatch.from_arrays("sim", {"x": values})
    x = torch.from_numpy(values)
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        serve(Path(folder), model)
        infer = Infer(
            model="model", registry=folder, input="x", n_components=3, batch_size=size,
            device="cpu", wait=30.0,
        )  # fmt: skip
        infer.process(batch, Context("p", "infer", "sim"))
        context = Context("p", "infer", "sim")

        def bare() -> None:
            with torch.inference_mode():
                model.encode(x).numpy()

        def operator() -> None:
            infer.process(batch, context)

        calls = max(3, int(0.3 / _seconds(bare, 5)))
        for _ in range(repeats):
            one, other = _seconds(bare, calls), _seconds(operator, calls)
            ratios.append(one / other)
    return ratios


def _seconds(work: Any, calls: int) -> float:
    began = time.perf_counter()
    for _ in range(calls):
        work()
    return (time.perf_counter() - began) / calls


# ------------------------------------------------------------------- added latency


def plain() -> Pipeline:
    """Return a pipeline that hands frames on."""
    from analytics.statistics.moments import Moments

    return Pipeline("latency", [("moments", Moments(input="x"))])


def inferring() -> Pipeline:
    """Return the same with a network behind it; its registry is beside the working directory."""
    infer = Infer(
        model="model", registry="models", input="x", n_components=3, device="cpu", threads=1,
        wait=30.0,
    )  # fmt: skip
    from analytics.statistics.moments import Moments

    return Pipeline("latency", [("moments", Moments(input="x")), ("infer", infer)])


@contextlib.contextmanager
def streaming(pipeline: str) -> Iterator[Callable[[int], list[float]]]:
    """Give what puts some frames, 500 a second, and returns ms from each put to its result."""
    x = np.zeros(FEATURES, np.float32)
    seen: list[float] = []
    clock = time.perf_counter
    over = threading.Event()
    with (
        stager_process() as (address, _),
        engine_process(address, f"benchmarks.inference:{pipeline}") as (_, _),
        StagerClient(address, name="watch") as client,
    ):

        def watch() -> None:
            position, topic = 0, "results/latency/sim"
            while not over.is_set():
                with client.fetch({topic: position}, wait=1.0) as got:
                    now = clock()
                    seen.extend([now] * sum(len(decode_batch(r.data)[0]) for r in got.records))
                    position = got.positions.get(topic, position)

        link = Link("sim", address=address, schema=StreamSchema.from_arrays({"x": x}))
        steps = 0

        def put(frames: int) -> list[float]:
            nonlocal steps
            first, begun, due = steps, [], clock()
            for _ in range(frames):
                begun.append(clock())
                link.put(steps, steps * 1.0, x=x)
                steps += 1
                due += PERIOD
                time.sleep(max(0.0, due - clock()))
            deadline = clock() + 60.0
            while len(seen) < steps:
                if clock() > deadline:
                    raise AssertionError(f"{steps - len(seen)} results have not come.")
                time.sleep(0.01)
            return [1e3 * (b - a) for a, b in zip(begun, seen[first:steps], strict=True)]

        reader = threading.Thread(target=watch)
        reader.start()
        try:
            put(500)
            yield put
        finally:
            link.close()
            over.set()
            reader.join(60.0)


@contextlib.contextmanager
def working_in(folder: str) -> Iterator[None]:
    """Work in a folder, from which processes that are started find the benchmarks all the same."""
    before, path = Path.cwd(), os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(before)
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
        if path is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = path


def _added(pieces: int) -> tuple[list[float], float]:
    """Return what a network adds to the median latency, ms, piece by piece, and what it is."""
    added, own = [], []
    with streaming("plain") as alone, streaming("inferring") as together:
        for _ in range(pieces):
            without, with_network = statistics.median(alone(500)), together(500)
            own.append(statistics.median(with_network))
            added.append(own[-1] - without)
    return added, statistics.median(own)


# ------------------------------------------------------------------------ hot swap


def _promoter(pipe: Any, folder: str) -> None:
    """Add a version when its seed comes, and promote it at the next word, as a trainer does."""
    torch.set_num_threads(1)
    registry = Registry(Path(folder))
    while (seed := pipe.recv()) is not None:
        model = trained("cvae", MAPS, seed=seed)
        card = registry.add("model", model, alignment=None, metrics={}, trained_on={})
        pipe.send("added")
        pipe.recv()
        registry.promote("model", card.version, reason="benchmark")


def swaps(count: int) -> tuple[list[float], list[float], int]:
    """Return the longest batches around swaps, and without one, and how many rows went wrong.

    Batches come as fast as they are answered. From each promotion on until some batches after its
    version was taken up, then as many without a swap; both in usual batches (the median of those
    without), beyond one. Rows have gone wrong that have no answer, or one of an older version than
    those before.
    """
    size = 64
    rng = np.random.default_rng(1)
    values = (rng.random((size, *MAPS)) < 0.3).astype(np.float32)
    with tempfile.TemporaryDirectory() as name:
        serve(Path(name), trained("cvae", MAPS))
        mine, theirs = spawn.Pipe()
        promoter = spawn.Process(target=_promoter, args=(theirs, name), daemon=True)
        promoter.start()
        infer = Infer(
            model="model", registry=name, input="x", n_components=3, batch_size=size,
            device="cpu", wait=30.0, poll=0.01,
        )  # fmt: skip
        context = Context("p", "infer", "sim")
        versions: list[np.ndarray] = []

        def go_on(batches: int) -> list[float]:
            durations = []
            for _ in range(batches):
                batch = FrameBatch.from_arrays(
                    "sim", {"x": values}, first_offset=len(versions) * size
                )
                began = time.perf_counter()
                out = infer.process(batch, context)
                durations.append(time.perf_counter() - began)
                assert out is not None
                versions.append(out["latent_version"])
            return durations

        go_on(50)
        around, without = [], []
        for number in range(2, count + 2):
            mine.send(number)
            receive(mine, promoter)
            mine.send("promote")
            durations: list[float] = []
            deadline = time.monotonic() + 60.0
            while versions[-1][-1] < number:
                durations += go_on(1)
                if time.monotonic() > deadline:
                    raise AssertionError("The new version was never taken up.")
            durations += go_on(10)
            quiet = go_on(len(durations))
            usual = statistics.median(quiet)
            around.append(max(durations) / usual - 1.0)
            without.append(max(quiet) / usual - 1.0)
        mine.send(None)
        promoter.join(30.0)
        answered = np.concatenate(versions)
        wrong = int((answered == 0).sum() + (np.diff(answered) < 0).sum())
        return around, without, wrong


def run(quick: bool) -> dict[str, Any]:
    """Measure; see the module's text."""
    torch.set_num_threads(1)
    figures = []
    for name, (kind, shape, size) in CASES.items():
        ratios = _throughput(kind, shape, size, 3 if quick else 7)
        figures.append(figure(f"operator to bare network, {name}", ratios, "×", target=0.9))
    with tempfile.TemporaryDirectory() as folder:
        serve(Path(folder) / "models", trained("vae", (FEATURES,)))
        with working_in(folder):
            added, own = _added(4 if quick else 20)
    figures.append(
        figure("added latency of batches of one, 500 frames/s, median", added, "ms", target=2.0,
               better="lower", in_all=round(own, 3))
    )  # fmt: skip
    around, without, wrong = swaps(20 if quick else 100)
    figures += [
        figure("hot swap: longest batch around it, beyond the longest of as many without",
               [a - b for a, b in zip(around, without, strict=True)], "batch times", target=1.0,
               better="lower", around=round(statistics.median(around), 3),
               without=round(statistics.median(without), 3)),
        figure("hot swap: rows lost or out of order", [wrong], "rows", target=0.0,
               better="lower"),
    ]  # fmt: skip
    return result("inference", figures)
