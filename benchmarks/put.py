"""Time that a put takes from the simulation's thread, against the memory copy of the frame.

A consumer in another process reads everything, so that puts never wait for room. The copies of
comparison go round a buffer of the size of the stream's working set, as puts do.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np

from benchmarks.processes import receive, spawn, stager_process
from benchmarks.report import figure, result
from bridge import StreamSchema
from bridge.staging import Producer, StagerClient

SIZES = {"264 B": 22, "36 kB": 3000, "1.2 MB": 100_000}
WARM = 64 << 20


def _consume(address: str, pipe: Any) -> None:
    with StagerClient(address) as client:
        positions: dict[str, int] = {}
        pipe.send("ready")
        finished = False
        while not finished:
            with client.fetch(positions, follow="frames/", group="g", commit=positions) as got:
                positions.update(got.positions)
                finished = bool(got.finished)


def _measure(atoms: int, count: int, pause: float) -> tuple[float, float]:
    frame = np.random.default_rng(0).random((atoms, 3), np.float32)
    ring = np.zeros((max(2, WARM // frame.nbytes), *frame.shape), np.float32)
    schema = StreamSchema.from_arrays({"positions": frame})
    puts, copies = [], []
    with stager_process() as (address, _):
        mine, theirs = spawn.Pipe()
        consumer = spawn.Process(target=_consume, args=(address, theirs))
        consumer.start()
        receive(mine, consumer)
        values = {"positions": frame}
        clock = time.perf_counter
        with Producer("put", schema, address=address, timeout=60.0) as producer:
            # Twice round the working set first: what is measured is neither's first touch.
            for step in range(-(-2 * WARM // max(frame.nbytes, 4096))):
                producer.put(step, 0.0, values)
                np.copyto(ring[step % len(ring)], frame)
            producer.flush(60.0)
            for i in range(count):
                if pause:
                    time.sleep(pause)
                began = clock()
                np.copyto(ring[i % len(ring)], frame)
                between = clock()
                producer.put(10**9 + i, 0.0, values)
                puts.append(clock() - between)
                copies.append(between - began)
        consumer.join(30)
    return statistics.median(puts) * 1e6, statistics.median(copies) * 1e6


def run(quick: bool) -> dict[str, Any]:
    """Measure; see the module's text."""
    figures = []
    repeats = 2 if quick else 5
    for size, atoms in SIZES.items():
        for pace, pause, count in (("each 3 ms", 0.003, 300), ("back to back", 0.0, 1000)):
            pairs = [_measure(atoms, count, pause) for _ in range(repeats)]
            figures.append(
                figure(
                    f"{size}, {pace}: put less twice the copy",
                    [put - 2 * copy for put, copy in pairs], "µs", target=30.0, better="lower",
                    put=round(statistics.median(p for p, _ in pairs), 2),
                    copy=round(statistics.median(c for _, c in pairs), 2),
                )
            )  # fmt: skip
    return result("put", figures)
