"""ADIOS2: frames through the ingest against a bare reader, and our own path against SST.

Everything runs on one node, each part in a process of its own, with the same arrays and the same
Python loops. The bare reader of ADIOS2 fetches each step into an array that it made once; nobody
checks anything. Headrace's consumer has NumPy arrays whose checksums it has verified. Each time
goes from the first put to the last frame in the consumer's hands; for the ingest and the bare
reader beside it, from a put on before which `WARM` frames have gone the same way, so that what
either takes to begin, and the first touch of its memory, is no part of the figure.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.adios_by_hand import by_hand
from benchmarks.processes import receive, stager_process, start
from benchmarks.report import figure, result
from bridge import StreamSchema
from bridge.staging import Producer, StagerClient, StreamOptions
from bridge.staging.adios import Ingest

SIZES = {"3 kB": 250, "36 kB": 3000, "120 kB": 10_000, "1.2 MB": 100_000}
QUEUE = 4
WARM = 200


def _frame(atoms: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).random((atoms, 3), np.float32)


def _write_sst(contact: str, atoms: int, count: int, warm: int, pipe: Any) -> None:
    from adios2 import bindings as b

    frame = _frame(atoms)
    adios = b.ADIOS()
    io = adios.DeclareIO("writer")
    io.SetEngine("SST")
    io.SetParameters(
        {"QueueLimit": str(QUEUE), "QueueFullPolicy": "Block", "RendezvousReaderCount": "1",
         "DataTransport": "WAN"}
    )  # fmt: skip
    x = io.DefineVariable("positions", frame, [atoms, 3], [0, 0], [atoms, 3])
    number = io.DefineVariable("step", np.zeros(1, np.int64), [], [], [])
    moment = io.DefineVariable("time", np.zeros(1), [], [], [])
    engine = io.Open(contact, b.Mode.Write)
    pipe.send("ready")
    pipe.recv()
    began = 0.0
    for step in range(count):
        if step == warm:
            began = time.perf_counter()
        engine.BeginStep()
        engine.Put(x, frame, b.Mode.Deferred)
        engine.Put(number, np.array([step]), b.Mode.Sync)
        engine.Put(moment, np.array([step * 0.5]), b.Mode.Sync)
        engine.EndStep()
    pipe.send(began)
    engine.Close()


def _read_sst(contact: str, atoms: int, count: int, pipe: Any) -> None:
    from adios2 import bindings as b

    adios = b.ADIOS()
    io = adios.DeclareIO("reader")
    io.SetEngine("SST")
    out = np.empty((atoms, 3), np.float32)
    step, moment = np.zeros(1, np.int64), np.zeros(1)
    engine = io.Open(contact, b.Mode.Read)
    pipe.send("ready")
    for expected in range(count):
        if engine.BeginStep(b.StepMode.Read, 60.0) != b.StepStatus.OK:
            raise SystemExit("The bare reader has lost its writer.")
        engine.Get(io.InquireVariable("positions"), out, b.Mode.Deferred)
        engine.Get(io.InquireVariable("step"), step, b.Mode.Deferred)
        engine.Get(io.InquireVariable("time"), moment, b.Mode.Deferred)
        engine.PerformGets()
        engine.EndStep()
        if step[0] != expected:
            raise SystemExit(f"Step {expected} was expected; {step[0]} came.")
    pipe.send(time.perf_counter())
    engine.Close()


def _ingest(contact: str, address: str, pipe: Any) -> None:
    pipe.send("ready")
    # Without a consumer the oldest frames give way.
    options = StreamOptions(when_full="drop_oldest") if address.startswith("!") else None
    ingest = Ingest([contact], "bench", address=address.removeprefix("!"), options=options)
    pipe.send(ingest.run().frames)


def _await_end(address: str, count: int, pipe: Any) -> None:
    pipe.send("ready")
    with StagerClient(address) as client:
        end = 0
        while end < count:
            time.sleep(0.005)
            end = sum(topic.end for topic in client.topics("frames/", schemas=False))
    pipe.send(time.perf_counter())


def _consume(address: str, count: int, pipe: Any) -> None:
    client = StagerClient(address)
    positions: dict[str, int] = {}
    pipe.send("ready")
    seen = 0
    while seen < count:
        got = client.fetch(
            positions, follow="frames/", group="bench", commit=positions, max_frames=1 << 20
        )
        for batch in got.batches:
            if batch.first != seen:
                raise SystemExit(f"Offset {seen} was expected; {batch.first} came.")
            seen += len(batch)
        positions.update(got.positions)
        got.release()
    pipe.send(time.perf_counter())
    client.close()


def _produce(address: str, atoms: int, count: int, mapped: bool | None, pipe: Any) -> None:
    frame = _frame(atoms)
    schema = StreamSchema.from_arrays({"positions": frame}, units={"positions": "nm"})
    with Producer("bench", schema, address=address, mapped=mapped, timeout=60.0) as producer:
        pipe.send("ready")
        pipe.recv()
        began = time.perf_counter()
        for step in range(count):
            producer.put(step, step * 0.5, {"positions": frame})
        producer.flush(60.0)
        pipe.send(began)


def bare(folder: str, atoms: int, count: int, warm: int = 0) -> float:
    """Return steps/s from an SST writer to a bare ADIOS2 reader, after the first `warm` steps."""
    contact = str(Path(folder) / f"bare{time.monotonic_ns()}")
    writer, one = start(_write_sst, contact, atoms, warm + count, warm)
    reader, other = start(_read_sst, contact, atoms, warm + count)
    receive(reader, other)
    receive(writer, one)
    writer.send("go")
    began = receive(writer, one)
    ended = receive(reader, other)
    one.join()
    other.join()
    return count / (ended - began)


def through_ingest(
    folder: str, atoms: int, count: int, warm: int = 0, *, stored: bool = False
) -> float:
    """Return steps/s from an SST writer through the ingest to a consumer, or until stored."""
    total = warm + count
    contact = str(Path(folder) / f"in{time.monotonic_ns()}")
    with stager_process() as (address, _):
        consumer, one = start(_await_end if stored else _consume, address, total)
        receive(consumer, one)
        writer, two = start(_write_sst, contact, atoms, total, warm)
        ingest, three = start(_ingest, contact, f"!{address}" if stored else address)
        receive(ingest, three)
        receive(writer, two)
        writer.send("go")
        began = receive(writer, two)
        ended = receive(consumer, one)
        if receive(ingest, three) != total:
            raise SystemExit("The ingest lost frames.")
        for process in (one, two, three):
            process.join()
    return count / (ended - began)


def headrace(atoms: int, count: int, mapped: bool | None) -> float:
    """Return steps/s from our own producer to a consumer."""
    with stager_process() as (address, _):
        consumer, one = start(_consume, address, count)
        receive(consumer, one)
        producer, two = start(_produce, address, atoms, count, mapped)
        receive(producer, two)
        producer.send("go")
        began = receive(producer, two)
        ended = receive(consumer, one)
        one.join()
        two.join()
    return count / (ended - began)


def _ratios(over: list[float], under: list[float]) -> list[float]:
    return [a / b for a, b in zip(over, under, strict=True)]


def run(quick: bool) -> dict[str, Any]:
    """Measure; see the module's text."""
    repeats = 2 if quick else 5
    scale = 1 if quick else 4
    counts = {"3 kB": 5_000, "36 kB": 3_000, "120 kB": 1_500, "1.2 MB": 500}
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        atoms, count = SIZES["1.2 MB"], counts["1.2 MB"] * scale
        plain, ours, stored, bound = [], [], [], []
        for _ in range(2 * repeats):
            plain.append(bare(folder, atoms, count, WARM))
            bound.append(by_hand(_write_sst, folder, atoms, count, WARM))
            ours.append(through_ingest(folder, atoms, count, WARM))
            stored.append(through_ingest(folder, atoms, count, WARM, stored=True))
        figures += [
            figure("1.2 MB frames through ingest, ratio to a bare reader", _ratios(ours, plain),
                   "×", target=0.8),
            figure("1.2 MB frames through ingest until stored, ratio to a bare reader",
                   _ratios(stored, plain), "×"),
            figure("1.2 MB frames by hand, checksums without staging, ratio to a bare reader",
                   _ratios(bound, plain), "×"),
            figure("1.2 MB frames through ingest", [o * atoms * 12e-6 for o in ours], "MB/s"),
            figure("1.2 MB frames, bare reader", [p * atoms * 12e-6 for p in plain], "MB/s"),
        ]  # fmt: skip
        for size, target in (("3 kB", 5.0), ("36 kB", 5.0), ("120 kB", 2.0), ("1.2 MB", 2.0)):
            atoms, count = SIZES[size], counts[size] * scale
            sst, own, sockets = [], [], []
            for _ in range(1 if quick else repeats):
                sst.append(bare(folder, atoms, count))
                own.append(headrace(atoms, count * (4 if size == "1.2 MB" else 10), None))
                sockets.append(headrace(atoms, count, False))
            unit, factor = ("steps/s", 1.0) if target == 5.0 else ("MB/s", atoms * 12e-6)
            figures += [
                figure(f"{size} frames, our path, ratio to SST", _ratios(own, sst), "×",
                       target=target),
                figure(f"{size} frames, our path", [o * factor for o in own], unit),
                figure(f"{size} frames, SST", [s * factor for s in sst], unit),
                figure(f"{size} frames, our path over sockets, ratio to SST",
                       _ratios(sockets, sst), "×"),
            ]  # fmt: skip
    return result("adios", figures)
