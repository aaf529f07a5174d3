"""What was received of a session, cut into frames; without sockets.

An intake offers `room` to write received bytes into, is told how many were `filled` in, and gives
whole frames by `take`. Its buffer is a whole number of frames, so nothing is moved within it.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from bridge.errors import ProtocolError
from bridge.transports.imd.layout import Layout
from bridge.transports.imd.loose import BUFFER, Packets, check_atoms, view_bytes
from bridge.transports.imd.packets import HEADER, Kind, SessionInfo

__all__ = ["Intake", "open_intake"]


class Intake(Protocol):
    """See the module's text."""

    atoms: int

    @property
    def size(self) -> int:
        """Bytes of a frame; 0 before it is known."""
        ...

    @property
    def pending(self) -> int:
        """Bytes of a frame that is not complete."""
        ...

    @property
    def need(self) -> int:
        """Bytes that are missing of the frame or packet that is being received; above 0."""
        ...

    @property
    def full(self) -> bool:
        """Whether frames must be taken before there is room again."""
        ...

    def room(self) -> memoryview:
        """Return where the next bytes go; never empty."""
        ...

    def filled(self, count: int) -> None:
        """Note that so many bytes were written into the room."""
        ...

    def end(self) -> None:
        """Note that nothing more comes."""
        ...

    def take(self) -> dict[str, Any] | None:
        """Return the fields of `Frames` for all complete frames; None if there is none.

        What it returned before is overwritten from the next `room` on.
        """
        ...


def open_intake(info: SessionInfo, atoms: int | None) -> Intake:
    """Return the intake for a session whose frames must have so many atoms; None for any."""
    return Packets(info, atoms) if info.version == 2 else _Records(info, atoms)


class _Records:
    """Version 3: all frames are of one size, known from the first header that tells the atoms."""

    def __init__(self, info: SessionInfo, atoms: int | None) -> None:
        self._info = info
        self._wanted = atoms
        self.atoms = 0
        self._layout: Layout | None = None
        self._rows: npt.NDArray[Any] = np.empty(0, np.uint8)
        self._head = Layout.measure_head(info)
        if not self._head:
            raise ProtocolError("The session announces frames without any content.")
        self._view = memoryview(bytearray(self._head))
        self._filled = self._taken = 0
        self._number = 0

    @property
    def size(self) -> int:
        return self._layout.size if self._layout else 0

    @property
    def pending(self) -> int:
        return self._filled % self._layout.size if self._layout else self._filled

    @property
    def need(self) -> int:
        return (self._layout.size if self._layout else self._head) - self.pending

    @property
    def full(self) -> bool:
        if self._layout is None or self._filled < len(self._view):
            return False
        return self._taken < len(self._rows)

    def room(self) -> memoryview:
        if self._layout is not None and self._filled == len(self._view):
            self._filled = self._taken = 0
        return self._view[self._filled :]

    def filled(self, count: int) -> None:
        self._filled += count
        if self._layout is None and self._filled == self._head:
            self._begin()

    def _begin(self) -> None:
        head = self._view
        has_vectors = self._info.positions or self._info.velocities or self._info.forces
        if has_vectors:
            kind, found = HEADER.unpack(head[-8:])
            # The check of the whole first frame tells of a wrong packet in plain words.
            right = kind in (Kind.POSITIONS, Kind.VELOCITIES, Kind.FORCES)
            self.atoms = check_atoms(found, self._wanted) if right else 1
        layout = Layout(self._info, self.atoms)
        self._rows = np.empty(max(1, BUFFER // layout.size), layout.dtype)
        self._view = view_bytes(self._rows)
        self._view[: len(head)] = head
        self._layout = layout
        if has_vectors and not right:
            self._count_right(self._rows[:1])

    def _count_right(self, rows: npt.NDArray[Any]) -> int:
        """Return how many frames are right before the first that is not; raise if none is."""
        assert self._layout is not None
        wrong = self._layout.find_wrong(rows)
        if wrong is not None and wrong[0] == 0:
            raise self._layout.explain(rows, wrong, self._number)
        return len(rows) if wrong is None else wrong[0]

    def end(self) -> None:
        if self.pending == HEADER.size:
            kind, _ = HEADER.unpack(self._view[self._filled - HEADER.size : self._filled])
            if kind == Kind.DISCONNECT:
                self._filled -= HEADER.size

    def take(self) -> dict[str, Any] | None:
        layout = self._layout
        if layout is None:
            return None
        whole = self._filled // layout.size
        count = whole - self._taken
        if not count:
            return None
        # What came before a packet that is wrong is given first.
        count = self._count_right(self._rows[self._taken : whole])
        rows = self._rows[self._taken : self._taken + count]
        self._taken += count
        self._number += count
        names = layout.dtype.names or ()
        time = rows["time"] if "time" in names else None
        return {
            "count": count,
            "steps": None if time is None else time["step"],
            "times": None if time is None else time["time"],
            "timestep": None if time is None else float(time["dt"][0]),
            "energies": rows["energies"] if "energies" in names else None,
            "vectors": {
                name: rows[name]
                for name in ("positions", "velocities", "forces", "box")
                if name in names
            },
        }
