"""Writes the recording of a run every few seconds, so that it can be replayed afterwards."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

import msgspec
import numpy as np

from bridge.dashboard.frames import Taken
from bridge.dashboard.recording.index import FORMAT, INDEX, read_index
from bridge.dashboard.recording.pictures import Pictures
from bridge.dashboard.recording.rows import RowFiles, save_arrays
from bridge.dashboard.stores.memory import Memory
from bridge.dashboard.stores.simulations import FIELDS
from bridge.errors import ConfigError, HeadraceError, OffsetOutOfRange, UnknownTopic
from bridge.runs.directory import write_json
from bridge.runs.records import save_lines

__all__ = ["Recorder"]

log = logging.getLogger(__name__)

EVERY = 10.0
PICTURES = 8
"""Pictures that are taken each time at most."""
LAST = 64
"""The same at the end of the run."""
ROWS, FRAMES, LINES = 0.55, 0.25, 0.05
"""Shares of the room for rows of results, for pictures, and for ledger and events each."""
PACE = 1.0
"""Seconds from one sample of the history to the next, about."""
HISTORY = 60.0
"""Seconds between two writings of a history that is not small."""

Picture = Callable[[str, int | None], Taken]
"""Takes a picture of a frame of a simulation; None for its newest."""


class Recorder:
    """Writes into the folder of a run from a thread of its own, until it is stopped.

    Several dashboards may be open: the first one writes.

    Parameters
    ----------
    folder
        Of the recording.
    memory
        What is written.
    pipeline
        Returns the name of the pipeline.
    picture
        Takes a picture.
    every
        Seconds between two writings at least.
    """

    def __init__(
        self,
        folder: Path,
        memory: Memory,
        pipeline: Callable[[], str],
        picture: Picture,
        *,
        every: float = EVERY,
    ) -> None:
        self.folder = folder
        limit = memory.limits.recording
        self.pictures = Pictures(folder, int(limit * FRAMES))
        self._rows = RowFiles(folder, int(limit * ROWS))
        self._memory = memory
        self._pipeline = pipeline
        self._picture = picture
        self._every = every
        self._lock: IO[bytes] | None = None
        self._told: dict[str, int] = {}
        self._stale: list[str] = []
        self._asked: set[tuple[str, int]] = set()
        self._turn = 0
        self._history_due = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dashboard-recorder", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, timeout: float = 30.0) -> None:
        """Write a last time, and end."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(timeout)
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _run(self) -> None:
        wait = self._every
        while True:
            last = self._stop.wait(wait)
            began = time.monotonic()
            try:
                self.write()
            except (OSError, HeadraceError) as error:
                log.warning("The recording cannot be written: %s", error)
            # Of a large run less often: at most a twentieth of the time.
            wait = max(self._every, 20.0 * (time.monotonic() - began))
            if last:
                return

    # ------------------------------------------------------------------- writing

    def _own(self) -> bool:
        """Return whether this process is the one that writes."""
        if self._lock is not None:
            return True
        self.folder.mkdir(parents=True, exist_ok=True)
        file = (self.folder / "lock").open("wb")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            return False
        self._lock = file
        with contextlib.suppress(HeadraceError):
            self.pictures.load(read_index(self.folder)["pictures"])
        # Of whoever wrote before; all is written anew.
        self._stale = [path.name for path in self.folder.glob("rows-*.npz")]
        return True

    def write(self) -> bool:
        """Write what is new; returns False if somebody else does, or there is nothing yet."""
        memory = self._memory
        if memory.seen is None or not self._own():
            return False
        old = self._rows.write(memory)
        self._write_state()
        self._take_pictures()
        with memory.lock:
            results = memory.results
            index = {
                "format": FORMAT,
                "pipeline": self._pipeline(),
                "started": memory.span[0],
                "seen": memory.seen,
                "rows": self._rows.names,
                "names": list(results.names),
                "sizes": dict(results.sizes),
                "stride": results.stride,
                "seq": results.seq,
                "pictures": self.pictures.index,
                "every": self.pictures.every,
            }
        write_json(self.folder / INDEX, index)
        stale, self._stale = self._stale, []
        for name in (*old, *stale):
            with contextlib.suppress(OSError):
                (self.folder / name).unlink()
        return True

    def _changed(self, what: str, mark: int) -> bool:
        changed = self._told.get(what) != mark
        self._told[what] = mark
        return changed

    def _write_state(self) -> None:
        memory = self._memory
        with memory.lock:
            samples = list(memory.simulations.history)
            latest, seen = memory.simulations.latest, memory.seen
            if len(latest) and samples and not np.array_equal(samples[-1][1], latest, True):
                # The history takes samples at a pace of its own, and how a run ended is not missed;
                # in place of one that it came too soon after, as readers keep that pace.
                end = max(seen or 0.0, samples[-1][0])
                soon = len(samples) > 1 and end - samples[-1][0] < PACE
                samples[-1 if soon else len(samples) :] = [(end, latest)]
            names = list(memory.simulations.names)
            schemas = memory.simulations.schemas()
            capabilities = {n: memory.simulations.capabilities(n) for n in names}
            lines = memory.ledger.lines() if self._changed("l", memory.ledger.revision) else None
            events = memory.events.all() if self._changed("e", memory.events.last) else None
            statuses = [s for h in memory.statuses.values() for _, s in h]
            statuses += memory.latest.values()
        room = int(memory.limits.recording * LINES)
        if lines is not None:
            save_lines(self.folder / "ledger.jsonl", _newest(lines, room))
        if events is not None:
            save_lines(self.folder / "events.jsonl", _newest(events, room))
        save_lines(self.folder / "status.jsonl", statuses)
        if self._changed("s", hash((tuple(names), len(schemas)))):
            declared = {"names": names, "schemas": schemas, "capabilities": capabilities}
            beside = self.folder / "schemas.json.part"
            beside.write_bytes(msgspec.json.encode(declared))
            beside.replace(self.folder / "schemas.json")
        size = len(samples) * len(names) * len(FIELDS) * 8
        now = time.monotonic()
        if size > 1 << 20 and now < self._history_due and not self._stop.is_set():
            return
        self._history_due = now + HISTORY
        table = np.zeros((len(samples), len(names), len(FIELDS)))
        for i, (_, rows) in enumerate(samples):
            table[i, : len(rows)] = rows
        save_arrays(
            self.folder / "history.npz",
            {"stamps": np.array([s for s, _ in samples]), "rows": table,
             "names": np.array([n.encode() for n in names], "S128")},
        )  # fmt: skip

    def _take_pictures(self) -> None:
        memory = self._memory
        now = time.time()
        with memory.lock:
            names = list(memory.simulations.names)
            wanted = [
                (x.frame.simulation, x.frame.offset)
                for x in memory.ledger.changes(0, 200)[1]
                if x.frame is not None
            ]
        named = [w for w in wanted if w not in self._asked][-PICTURES:]
        self._asked |= set(named)
        turned = names[self._turn :] + names[: self._turn]
        # Where each has come to is shown when the run is over, also if its last picture is young.
        over = self._stop.is_set()
        due = [n for n in turned if over or self.pictures.due(n, now)]
        most = LAST if over else PICTURES
        newest: list[tuple[str, int | None]] = [(name, None) for name in due[:most]]
        for number, (simulation, offset) in enumerate([*named, *newest]):
            try:
                taken = self._picture(simulation, offset)
            except (OffsetOutOfRange, ConfigError, UnknownTopic):
                continue  # released meanwhile, or without positions
            except HeadraceError as error:
                log.info("No pictures: %s", error)
                return
            self.pictures.add(taken, now, named=number < len(named))
        if newest:
            self._turn = names.index(newest[-1][0]) + 1


def _newest(values: Sequence[msgspec.Struct], room: int) -> list[msgspec.Struct]:
    """Return the newest values that fit into so many bytes, in their order."""
    kept: list[msgspec.Struct] = []
    for value in reversed(values):
        room -= len(msgspec.json.encode(value)) + 1
        if room < 0:
            break
        kept.append(value)
    return kept[::-1]
