"""The inference operator: against the bare network, its added latency, and a hot swap.

The network is the convolutional variational autoencoder on contact maps of 35 residues, in batches
of 64, and a multi-layer perceptron (the variational autoencoder on 64 features) in batches of 256;
both sides run one thread in the same process, in turn.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from analytics.inference.operator import Infer
from analytics.learning.model import StreamModel, make_model
from analytics.learning.registry import Registry
from benchmarks.processes import engine_process, stager_process
from benchmarks.report import figure, result
from bridge import FrameBatch, Pipeline, StreamSchema
from bridge.codec import decode_batch
from bridge.pipeline import Context
from bridge.staging import StagerClient
from sim_adapters.link import Link

PERIOD = 0.002
FEATURES = 64
CASES: dict[str, tuple[str, tuple[int, ...], int]] = {
    "CVAE on 35 x 35 contacts, batches of 64": ("cvae", (35, 35), 64),
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


def latencies(pipeline: str, frames: int) -> list[float]:
    """Return ms from each put to its result, at 500 frames/s."""
    x = np.zeros(FEATURES, np.float32)
    put: list[float] = []
    seen: list[float] = []
    clock = time.perf_counter
    with (
        stager_process() as (address, _),
        engine_process(address, f"benchmarks.inference:{pipeline}") as (_, _),
        StagerClient(address, name="watch") as client,
    ):

        def watch() -> None:
            position, topic, last = 0, "results/latency/sim", clock()
            while len(seen) < frames and clock() - last < 60.0:
                with client.fetch({topic: position}, wait=20.0) as got:
                    now = clock()
                    new = sum(len(decode_batch(r.data)[0]) for r in got.records)
                    last = now if new else last
                    seen.extend([now] * new)
                    position = got.positions.get(topic, position)

        reader = threading.Thread(target=watch)
        reader.start()
        link = Link("sim", address=address, schema=StreamSchema.from_arrays({"x": x}))
        due = clock()
        for step in range(frames):
            put.append(clock())
            link.put(step, step * 1.0, x=x)
            due += PERIOD
            time.sleep(max(0.0, due - clock()))
        link.close()
        reader.join(60.0)
    n = min(len(put), len(seen))
    return [1e3 * (b - a) for a, b in zip(put[n // 5 : n], seen[n // 5 : n], strict=True)]


# ------------------------------------------------------------------------ hot swap


def _swap() -> tuple[float, float, int]:
    """Return the longest batches with and without a swap, in usual ones, and rows gone wrong.

    Batches come as fast as they are answered. Rows have gone wrong that have no answer, or one of
    an older version than those before.
    """
    size, shape = 64, (35, 35)
    rng = np.random.default_rng(1)
    values = (rng.random((size, *shape)) < 0.3).astype(np.float32)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        serve(folder, trained("cvae", shape))
        infer = Infer(
            model="model", registry=name, input="x", n_components=3, batch_size=size,
            device="cpu", wait=30.0, poll=0.01,
        )  # fmt: skip
        context = Context("p", "infer", "sim")
        durations: list[float] = []
        versions: list[np.ndarray] = []

        def go_on(count: int) -> list[float]:
            for _ in range(count):
                first = len(durations) * size
                batch = FrameBatch.from_arrays("sim", {"x": values}, first_offset=first)
                began = time.perf_counter()
                out = infer.process(batch, context)
                durations.append(time.perf_counter() - began)
                assert out is not None
                versions.append(out["latent_version"])
            return durations[-count:]

        go_on(50)
        quiet = go_on(200)
        usual = statistics.median(quiet)
        other = trained("cvae", shape, seed=2)
        promoting = threading.Thread(target=serve, args=(folder, other))
        promoting.start()
        busy = []
        while not busy or (versions[-1][-1] < 2 and len(busy) < 5000):
            busy += go_on(1)
        busy += go_on(50)
        promoting.join()
        all_versions = np.concatenate(versions)
        lost = int((all_versions == 0).sum() + (np.diff(all_versions) < 0).sum())
        swapped = int(all_versions[-1] == 2)
        if not swapped:
            raise AssertionError("The new version was never taken up.")
        return max(busy) / usual, max(quiet) / usual, lost


def run(quick: bool) -> dict[str, Any]:
    """Measure; see the module's text."""
    torch.set_num_threads(1)
    figures = []
    for name, (kind, shape, size) in CASES.items():
        ratios = _throughput(kind, shape, size, 3 if quick else 7)
        figures.append(figure(f"operator to bare network, {name}", ratios, "×", target=0.9))
    with tempfile.TemporaryDirectory() as folder:
        serve(Path(folder) / "models", trained("vae", (FEATURES,)))
        before = Path.cwd()
        added, own = [], []
        try:
            os.environ["PYTHONPATH"] = str(before)
            os.chdir(folder)
            for _ in range(1 if quick else 3):
                frames = 2000 if quick else 5000
                alone, together = latencies("plain", frames), latencies("inferring", frames)
                own.append(statistics.median(together))
                added.append(statistics.median(together) - statistics.median(alone))
        finally:
            os.chdir(before)
    figures.append(
        figure("added latency of batches of one, 500 frames/s, median", added, "ms", target=2.0,
               better="lower", in_all=round(statistics.median(own), 3))
    )  # fmt: skip
    swaps = [_swap() for _ in range(1 if quick else 5)]
    figures += [
        figure("hot swap: longest batch beyond a usual one", [s[0] - 1.0 for s in swaps],
               "batch times", target=1.0, better="lower",
               without_swap=round(statistics.median(s[1] for s in swaps) - 1.0, 3)),
        figure("hot swap: rows lost or out of order", [s[2] for s in swaps], "rows", target=0.0,
               better="lower"),
    ]  # fmt: skip
    return result("inference", figures)
