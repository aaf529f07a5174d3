"""Single frames in the recording: the newest of each simulation now and then, and named ones."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from bridge.dashboard.frames import Taken
from bridge.dashboard.recording.rows import load_arrays, save_arrays
from bridge.errors import OffsetOutOfRange

__all__ = ["Pictures"]

Array = npt.NDArray[Any]

SMALLEST = 60.0
"""Seconds between two pictures of a simulation at least, once some had to go."""


class Pictures:
    """Frames on disk, thinned out when they take too much room.

    Parameters
    ----------
    folder
        Of the recording; the files lie in ``frames`` in it.
    limit
        Bytes of all.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.every = 10.0
        self.nbytes = 0
        self.index: dict[str, list[list[float]]] = {}  # simulation -> [offset, stamp, named, bytes]
        self._folder = folder / "frames"
        self._limit = limit

    def __len__(self) -> int:
        return sum(map(len, self.index.values()))

    def _path(self, simulation: str, offset: int) -> Path:
        return self._folder / quote(simulation, safe="") / f"{offset}.npz"

    def load(self, index: dict[str, list[list[float]]]) -> None:
        """Take up the frames that a recording names."""
        self.index = {name: [list(e) for e in entries] for name, entries in index.items()}
        self.nbytes = int(sum(e[3] for entries in self.index.values() for e in entries))

    def due(self, simulation: str, stamp: float) -> bool:
        """Return whether it is time for another picture of a simulation."""
        own = [e[1] for e in self.index.get(simulation, ()) if not e[2]]
        return not own or stamp - own[-1] >= self.every

    def has(self, simulation: str, offset: int) -> bool:
        """Return whether a frame is there."""
        return any(int(e[0]) == offset for e in self.index.get(simulation, ()))

    def add(self, taken: Taken, stamp: float, *, named: bool = False) -> None:
        """Write a frame."""
        if self.has(taken.simulation, taken.offset):
            return
        path = self._path(taken.simulation, taken.offset)
        path.parent.mkdir(parents=True, exist_ok=True)
        about = np.array([taken.step, taken.time, taken.epoch, taken.stamp], np.float64)
        size = save_arrays(path, {"about": about, **taken.values})
        entries = self.index.setdefault(taken.simulation, [])
        entries.append([taken.offset, taken.stamp or stamp, float(named), size])
        entries.sort(key=lambda e: e[1])
        self.nbytes += size
        while self.nbytes > self._limit and len(self) > 1:
            self._thin()

    def _thin(self) -> None:
        """Forget every second picture; named ones only if there are no others."""
        self.every = max(SMALLEST, self.every * 2)
        some = any(not e[2] and len(es) > 1 for es in self.index.values() for e in es)
        for simulation, entries in self.index.items():
            mine = [e for e in entries if not (some and e[2])]
            gone = mine[-2::-2]  # the newest stays
            for entry in gone:
                with contextlib.suppress(OSError):
                    self._path(simulation, int(entry[0])).unlink()
                self.nbytes -= int(entry[3])
            self.index[simulation] = [e for e in entries if e not in gone]
        if not any(len(es) > 1 for es in self.index.values()):
            self._drop_simulations()

    def _drop_simulations(self) -> None:
        """With one picture of each and still too many, some simulations have none."""
        for simulation in list(self.index)[1::2]:
            for entry in self.index.pop(simulation):
                with contextlib.suppress(OSError):
                    self._path(simulation, int(entry[0])).unlink()
                self.nbytes -= int(entry[3])

    def newest(self, simulation: str, at: float | None = None) -> int:
        """Return the offset of the newest frame that is not younger than a time; -1 for none."""
        mine = [e for e in self.index.get(simulation, ()) if at is None or e[1] <= at]
        return int(mine[-1][0]) if mine else -1

    def nearest(self, simulation: str, offset: int) -> int:
        """Return the offset of the frame that is nearest to another one; -1 for none."""
        mine = [int(e[0]) for e in self.index.get(simulation, ())]
        return min(mine, key=lambda o: abs(o - offset), default=-1)

    def read(self, simulation: str, offset: int) -> Taken:
        """Return a frame.

        Raises
        ------
        OffsetOutOfRange
            If it was not recorded.
        ConfigError
            If its file is damaged.
        """
        if not self.has(simulation, offset):
            near = self.nearest(simulation, offset)
            hint = f" The nearest one that was recorded is {near}." if near >= 0 else ""
            raise OffsetOutOfRange(f"Frame {offset} of {simulation!r} was not recorded.{hint}")
        arrays = load_arrays(self._path(simulation, offset))
        step, time, epoch, stamp = arrays.pop("about").tolist()
        return Taken(simulation, offset, int(step), time, int(epoch), arrays, stamp)
