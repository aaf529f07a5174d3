"""What is left of ADIOS2's speed if frames only change hands: a loop by hand, without staging.

A bare ADIOS2 reader that reads into mapped memory, makes a checksum of each frame and hands 16 at
a time over a pipe to another process, which makes the checksums again. Nobody else is told of them,
nothing is counted, kept, released or found again after a crash. No ingest into staging can be
faster that lets its consumers be other processes, and lets them know that what they read is whole.
"""

from __future__ import annotations

import mmap
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from benchmarks.processes import receive, spawn, start

ROWS, TOGETHER = 48, 16

_PATIENCE = 60.0


def _map(path: str, atoms: int) -> np.ndarray[Any, Any]:
    with open(path, "r+b") as file:
        memory = mmap.mmap(file.fileno(), 0)
    return np.frombuffer(memory, np.float32).reshape(ROWS, atoms, 3)


def _next(pipe: Any) -> Any:
    if not pipe.poll(_PATIENCE):
        raise SystemExit(f"Waited {_PATIENCE:.0f} s for the other process.")
    return pipe.recv()


def _read(contact: str, path: str, atoms: int, count: int, to: Any, pipe: Any) -> None:
    from adios2 import bindings as b

    rows = _map(path, atoms)
    adios = b.ADIOS()
    io = adios.DeclareIO("reader")
    io.SetEngine("SST")
    step, moment = np.zeros(1, np.int64), np.zeros(1)
    engine = io.Open(contact, b.Mode.Read)
    pipe.send("ready")
    sums: list[int] = []
    free = ROWS
    for expected in range(count):
        if not free:
            free += _next(to)
        if engine.BeginStep(b.StepMode.Read, _PATIENCE) != b.StepStatus.OK:
            raise SystemExit("The reader has lost its writer.")
        out = rows[expected % ROWS]
        engine.Get(io.InquireVariable("positions"), out, b.Mode.Deferred)
        engine.Get(io.InquireVariable("step"), step, b.Mode.Deferred)
        engine.Get(io.InquireVariable("time"), moment, b.Mode.Deferred)
        engine.PerformGets()
        engine.EndStep()
        if step[0] != expected:
            raise SystemExit(f"Step {expected} was expected; {step[0]} came.")
        sums.append(xxhash.xxh3_64_intdigest(out))
        free -= 1
        if len(sums) == TOGETHER or expected == count - 1:
            to.send(sums)
            sums = []
            while to.poll():
                free += to.recv()
    engine.Close()


def _check(path: str, atoms: int, count: int, source: Any, pipe: Any) -> None:
    rows = _map(path, atoms)
    pipe.send("ready")
    seen = 0
    while seen < count:
        sums = _next(source)
        for expected in sums:
            if xxhash.xxh3_64_intdigest(rows[seen % ROWS]) != expected:
                raise SystemExit(f"Frame {seen} is not what was read.")
            seen += 1
        source.send(len(sums))
    pipe.send(time.perf_counter())


def by_hand(write: Any, folder: str, atoms: int, count: int, warm: int) -> float:
    """Return steps/s from an SST writer to the process that checks what it was handed.

    Parameters
    ----------
    write
        The writer's function, as `benchmarks.adios` has it.
    folder
        Where the writer leaves its contact.
    """
    contact = str(Path(folder) / f"hand{time.monotonic_ns()}")
    descriptor, path = tempfile.mkstemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
    with os.fdopen(descriptor, "wb") as file:
        file.truncate(ROWS * atoms * 12)
    to, source = spawn.Pipe()
    total = warm + count
    checks, one = start(_check, path, atoms, total, source)
    writes, two = start(write, contact, atoms, total, warm)
    reads, three = start(_read, contact, path, atoms, total, to)
    receive(checks, one)
    receive(reads, three)
    os.unlink(path)  # both have mapped it
    receive(writes, two)
    writes.send("go")
    began = receive(writes, two)
    ended = receive(checks, one)
    for process in (one, two, three):
        process.join()
    return count / (ended - began)
