"""Segments and a journal against LMDB: the same records from one process to another.

A writer stores records with their checksums, a reader in a process of its own finds each of them
where it was stored and checks it, and what was read is released: a bounded log in its steady
state. Both sides are told through the same pipes, about a megabyte at a time, and both get what is
best for them: LMDB a writable map, no waiting for the disk, keys in order, one transaction a
megabyte and the small frames as stacks; segments are recycled, and the journal gets an entry for
each megabyte as that of a durable stager does. Neither waits for the disk.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import lmdb
import numpy as np
import xxhash

from benchmarks.report import figure, result
from bridge.staging.directories import is_in_memory
from bridge.staging.journal import Journal
from bridge.staging.segments import SegmentMap, SegmentStore

__all__ = ["run"]

NAME = "storage_lmdb"
ROOT = Path(__file__).parents[1]
# What a record is called, its bytes, and how many frames are in it.
RECORDS = (
    ("264 B frames in stacks of 1000", 264_000, 1000),
    ("36 kB frames", 36_000, 1),
    ("1.2 MB frames", 1_200_000, 1),
)
GROUP_BYTES = 1 << 20
# Unread bytes at which the writer waits; what the stager does for a stream that is full.
WINDOW_BYTES = 64 << 20
SEGMENT_BYTES = 64 << 20
CAPACITY_BYTES = 256 << 20

Reference = tuple[int, int, int, int]
# Segment or key, position, length, checksum.
_REFERENCE = struct.Struct("<QQQQ")
_DONE = b"."


class Store(Protocol):
    """The writer's side of a store."""

    def write(self, records: list[np.ndarray]) -> list[Reference]: ...

    def release(self, references: list[Reference]) -> None: ...

    def close(self) -> None: ...


class SegmentsAndJournal:
    """What Headrace keeps: payloads in recycled segments, facts about them in a journal."""

    def __init__(self, directory: Path) -> None:
        self.store = SegmentStore(directory, limit=CAPACITY_BYTES)
        self.journal = Journal(directory / "journal")
        self.open: dict[int, tuple[Any, int]] = {}
        self.current = self.store.take(SEGMENT_BYTES)
        self.position = self.count = 0

    def write(self, records: list[np.ndarray]) -> list[Reference]:
        references = []
        for record in records:
            if self.position + record.nbytes > self.current.size:
                self.open[self.current.number] = (self.current, self.count)
                self.current = self.store.take(SEGMENT_BYTES)
                self.position = self.count = 0
            end = self.position + record.nbytes
            self.current.view[self.position : end] = record.data
            digest = xxhash.xxh3_64_intdigest(record.data)
            references.append((self.current.number, self.position, record.nbytes, digest))
            self.position = -(-end // 64) * 64
            self.count += 1
        self.journal.append(b"".join(_REFERENCE.pack(*reference) for reference in references))
        if self.journal.size > 1 << 20:
            self.journal.rewrite([])
        return references

    def release(self, references: list[Reference]) -> None:
        for number, *_ in references:
            if number == self.current.number:
                self.count -= 1
                continue
            segment, count = self.open[number]
            self.open[number] = (segment, count - 1)
            if count == 1:
                del self.open[number]
                self.store.give_back(segment, reuse=True)

    def close(self) -> None:
        self.journal.close()
        self.store.close(remove=True)


def open_lmdb(directory: Path) -> lmdb.Environment:
    return lmdb.open(
        str(directory),
        map_size=CAPACITY_BYTES,
        writemap=True,
        map_async=True,
        sync=False,
        metasync=False,
        readahead=False,
        meminit=False,
        lock=True,
    )


class Lmdb:
    """The same records in a tree of LMDB, by number."""

    def __init__(self, directory: Path) -> None:
        self.environment = open_lmdb(directory)
        self.next = 0
        self.released: list[bytes] = []

    def write(self, records: list[np.ndarray]) -> list[Reference]:
        references = []
        with self.environment.begin(write=True) as transaction:
            for key in self.released:
                transaction.delete(key)
            self.released = []
            for record in records:
                key = struct.pack(">Q", self.next)
                transaction.put(key, record.data, append=True)
                digest = xxhash.xxh3_64_intdigest(record.data)
                references.append((self.next, 0, record.nbytes, digest))
                self.next += 1
        return references

    def release(self, references: list[Reference]) -> None:
        self.released += [struct.pack(">Q", number) for number, *_ in references]

    def close(self) -> None:
        self.environment.close()


def read(kind: str, directory: Path) -> None:
    """Be the reader: check what standard input refers to, and answer a byte a group."""
    inward, outward = sys.stdin.buffer, sys.stdout.buffer
    views = SegmentMap()
    environment = open_lmdb(directory) if kind == "lmdb" else None
    while head := inward.read(4):
        references = list(_REFERENCE.iter_unpack(inward.read(struct.unpack("<I", head)[0])))
        if environment is None:
            for number, position, length, digest in references:
                view = views.get(directory / f"{number:010d}.segment", SEGMENT_BYTES)
                check(view[position : position + length], digest)
        else:
            with environment.begin(buffers=True) as transaction:
                for number, _, _, digest in references:
                    check(transaction.get(struct.pack(">Q", number)), digest)
        outward.write(_DONE)
        outward.flush()


def check(data: Any, digest: int) -> None:
    if xxhash.xxh3_64_intdigest(data) != digest:
        raise SystemExit("A record was not read as it was written.")


@contextmanager
def reader(kind: str, directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.storage_lmdb", kind, str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        bufsize=0,
    )
    with process:
        try:
            yield process
            assert process.stdin is not None
            process.stdin.close()
            if process.wait(60):
                raise RuntimeError(f"The reader of {kind} ended with status {process.returncode}.")
        finally:
            process.kill()


def measure(kind: str, make: Callable[[Path], Store], parent: Path, size: int, total: int) -> float:
    """Return the bytes a second from the first write to the last read, in the steady state."""
    directory = Path(tempfile.mkdtemp(prefix=f"headrace-bench-{kind}-", dir=parent))
    store = make(directory)
    group = max(1, GROUP_BYTES // size)
    records = [np.full(size, k + 1, np.uint8) for k in range(group)]
    groups = max(1, total // (group * size))
    window = max(1, WINDOW_BYTES // (group * size))
    # First every page is written once: making fresh pages is a matter of the beginning.
    warm_up = CAPACITY_BYTES // (group * size)
    waiting: deque[list[Reference]] = deque()
    begin = 0.0
    try:
        with reader(kind, directory) as process:
            assert process.stdin is not None
            assert process.stdout is not None

            def release_one() -> None:
                assert process.stdout is not None
                if process.stdout.read(1) != _DONE:
                    raise RuntimeError(f"The reader of {kind} stopped.")
                store.release(waiting.popleft())

            for number in range(warm_up + groups):
                if number == warm_up:
                    while waiting:
                        release_one()
                    begin = time.perf_counter()
                for record in records:
                    record[:8].view(np.int64)[0] += 1
                references = store.write(records)
                message = b"".join(_REFERENCE.pack(*reference) for reference in references)
                process.stdin.write(struct.pack("<I", len(message)) + message)
                waiting.append(references)
                while len(waiting) >= window:
                    release_one()
            while waiting:
                release_one()
            seconds = time.perf_counter() - begin
    finally:
        store.close()
        shutil.rmtree(directory, ignore_errors=True)
    return groups * group * size / seconds


def run(quick: bool) -> dict[str, Any]:
    """Measure both in turn, in memory and on the disk; return the benchmark's report."""
    repeats = 3 if quick else 7
    total = (1 << 28) if quick else (1 << 30)
    places = [("in memory", Path("/dev/shm")), ("on disk", Path(tempfile.gettempdir()))]
    if not is_in_memory(places[0][1]):
        del places[0]
    figures = []
    for place, parent in places:
        for label, size, _ in RECORDS:
            speeds: dict[str, list[float]] = {"segments": [], "lmdb": []}
            for _ in range(repeats):
                for kind, make in (("segments", SegmentsAndJournal), ("lmdb", Lmdb)):
                    speeds[kind].append(measure(kind, make, parent, size, total))
            ratios = [a / b for a, b in zip(speeds["segments"], speeds["lmdb"], strict=True)]
            figures.append(figure(f"{label}, {place}: segments to LMDB", ratios, "×", target=1.0))
            for kind, values in speeds.items():
                shown = [value / 1e9 for value in values]
                figures.append(figure(f"{label}, {place}: {kind}", shown, "GB/s"))
    return result(NAME, figures)


if __name__ == "__main__":
    read(sys.argv[1], Path(sys.argv[2]))
