"""Frames through put → stager → fetch, three processes, against raw ZeroMQ PUSH→PULL in two.

Both sides move the same arrays: the raw side sends each frame as one message of one part
(``copy=False`` above 64 kB) and the receiver looks at nothing; Headrace's side checks every
checksum and hands over NumPy arrays.
"""

from __future__ import annotations

import multiprocessing as mp
import time
from typing import Any

import numpy as np
import zmq

from benchmarks.report import figure, result
from bridge import StreamSchema
from bridge.staging import Producer, Stager, StagerClient

SIZES = {"264 B": 22, "36 kB": 3000, "1.2 MB": 100_000}
_spawn = mp.get_context("spawn")


def _stager(ready: Any, stop: Any) -> None:
    stager = Stager(limit=8 << 30).start()
    ready.send(stager.address)
    stop.recv()
    stager.stop()


def _consume(address: str, count: int, mapped: bool | None, pipe: Any) -> None:
    client = StagerClient(address, mapped=mapped)
    positions: dict[str, int] = {}
    pipe.send("ready")
    seen = 0
    began = 0.0
    while seen < count:
        got = client.fetch(
            positions, follow="frames/", group="bench", commit=positions, max_frames=1 << 20
        )
        for batch in got.batches:
            began = began or time.perf_counter()
            if batch.first != seen:
                raise SystemExit(f"Offset {seen} was expected; {batch.first} came.")
            seen += len(batch)
        positions.update(got.positions)
        got.release()
    pipe.send(time.perf_counter())
    client.close()


def _produce(
    address: str, atoms: int, count: int, how: str, mapped: bool | None, pipe: Any
) -> None:
    frame = np.random.default_rng(0).random((atoms, 3), np.float32)
    schema = StreamSchema.from_arrays({"positions": frame}, units={"positions": "nm"})
    producer = Producer(
        "bench", schema, address=address, mapped=mapped, timeout=60.0,
    )  # fmt: skip
    pipe.send("ready")
    pipe.recv()
    began = time.perf_counter()
    if how == "put":
        values = {"positions": frame}
        for step in range(count):
            producer.put(step, step * 0.5, values)
    else:
        stacked = np.broadcast_to(frame, (1000, *frame.shape)).copy()
        for first in range(0, count, 1000):
            steps = np.arange(first, first + 1000)
            producer.put_many(steps, steps * 0.5, {"positions": stacked})
    producer.flush(60.0)
    pipe.send(began)
    producer.close()


def _receive(pipe: Any, process: Any) -> Any:
    while not pipe.poll(0.5):
        if not process.is_alive():
            raise SystemExit(f"A process of the benchmark ended with status {process.exitcode}.")
    return pipe.recv()


def headrace(atoms: int, count: int, how: str, mapped: bool | None) -> float:
    """Return frames/s from the first put to the last frame in the consumer's hands."""
    ready, to_stager = _spawn.Pipe()
    stager = _spawn.Process(target=_stager, args=(to_stager, to_stager))
    stager.start()
    address = ready.recv()
    mine, theirs = _spawn.Pipe()
    consumer = _spawn.Process(target=_consume, args=(address, count, mapped, theirs))
    consumer.start()
    mine.recv()
    ours, his = _spawn.Pipe()
    producer = _spawn.Process(target=_produce, args=(address, atoms, count, how, mapped, his))
    producer.start()
    ours.recv()
    ours.send("go")
    began = _receive(ours, producer)
    ended = _receive(mine, consumer)
    producer.join(60)
    consumer.join(60)
    ready.send("stop")
    stager.join()
    return count / (ended - began)


def _pull(pipe: Any, count: int) -> None:
    context = zmq.Context()
    socket = context.socket(zmq.PULL)
    pipe.send(socket.bind_to_random_port("tcp://127.0.0.1"))
    for _ in range(count):
        socket.recv(copy=False)
    pipe.send(time.perf_counter())
    context.destroy()


def _push(port: int, atoms: int, count: int, pipe: Any) -> None:
    frame = np.random.default_rng(0).random((atoms, 3), np.float32)
    context = zmq.Context()
    socket = context.socket(zmq.PUSH)
    socket.connect(f"tcp://127.0.0.1:{port}")
    time.sleep(0.3)
    copy = frame.nbytes < 65536
    began = time.perf_counter()
    for _ in range(count):
        socket.send(frame, copy=copy)
    pipe.send(began)
    socket.close(linger=30_000)
    context.term()


def raw(atoms: int, count: int) -> float:
    """Return messages/s of plain PUSH→PULL over loopback."""
    mine, theirs = _spawn.Pipe()
    puller = _spawn.Process(target=_pull, args=(theirs, count))
    puller.start()
    port = mine.recv()
    ours, his = _spawn.Pipe()
    pusher = _spawn.Process(target=_push, args=(port, atoms, count, his))
    pusher.start()
    began = ours.recv()
    ended = mine.recv()
    pusher.join()
    puller.join()
    return count / (ended - began)


def run(quick: bool) -> dict[str, Any]:
    """Measure; see the module's text."""
    repeats = 2 if quick else 5
    counts = {"36 kB": 40_000 if quick else 150_000, "1.2 MB": 2_000 if quick else 8_000}
    figures = []
    for size, target, forced in (("1.2 MB", 2.0, 0.2), ("36 kB", 2.0, 0.5)):
        atoms, count = SIZES[size], counts[size]
        mapped, sockets, plain = [], [], []
        for _ in range(repeats):
            plain.append(raw(atoms, count // 2))
            mapped.append(headrace(atoms, count, "put", None))
            sockets.append(headrace(atoms, count // 4, "put", False))
        rate = [m * atoms * 12 / 1e9 for m in mapped]
        figures += [
            figure(
                f"{size} frames, mapped, ratio to raw ZeroMQ",
                [m / p for m, p in zip(mapped, plain, strict=True)], "×", target=target,
            ),
            figure(f"{size} frames, mapped", rate, "GB/s"),
            figure(f"{size} frames, raw ZeroMQ", [p * atoms * 12 / 1e9 for p in plain], "GB/s"),
            figure(
                f"{size} frames, sockets forced, ratio to raw ZeroMQ",
                [s / p for s, p in zip(sockets, plain, strict=True)], "×", target=forced,
            ),
        ]  # fmt: skip
    small = 300_000 if quick else 1_000_000
    one = [headrace(22, small, "put", None) for _ in range(repeats)]
    many = [headrace(22, 10 * small, "put_many", None) for _ in range(repeats)]
    figures += [
        figure("264 B frames put one by one", one, "frames/s", target=150_000),
        figure("264 B frames through put_many", many, "frames/s", target=1_000_000),
    ]
    return result("staging", figures)
