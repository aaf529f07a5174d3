"""What was received of a session, cut into frames; without sockets.

An intake offers `room` to write received bytes into, is told how many were `filled` in, and gives
whole frames by `take`. Its buffer is a whole number of frames, so nothing is moved within it.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from bridge.errors import ProtocolError
from bridge.transports.imd.layout import Layout, energy_dtype
from bridge.transports.imd.packets import HEADER, Kind, SessionInfo

__all__ = ["Intake", "open_intake"]

_BUFFER = 1 << 20
"""Bytes of a buffer at least: with 1 MiB, frames are still in the cache when they are converted."""


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
    return _Packets(info, atoms) if info.version == 2 else _Records(info, atoms)


def _check_atoms(found: int, wanted: int | None) -> int:
    if found < 1:
        raise ProtocolError(f"The engine sends frames of {found} atoms; there is at least one.")
    if wanted is not None and found != wanted:
        raise ProtocolError(
            f"The engine sends {found} atoms, and {wanted} were expected; give the topology of "
            "what it sends (an engine may send a group of its atoms), or the right number."
        )
    return found


def _view_bytes(array: npt.NDArray[Any]) -> memoryview:
    view: memoryview = array.reshape(-1).view(np.uint8).data
    return view


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
            self.atoms = _check_atoms(found, self._wanted) if right else 1
        layout = Layout(self._info, self.atoms)
        self._rows = np.empty(max(1, _BUFFER // layout.size), layout.dtype)
        self._view = _view_bytes(self._rows)
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


class _Packets:
    """Version 2: positions make a frame, with the energies that come beside them, if any.

    Which of the two comes first is up to the engine. The first two packets tell whether there are
    energies: if so, every frame has them, because they alone tell the step.
    """

    def __init__(self, info: SessionInfo, atoms: int | None) -> None:
        self._order = info.order
        self._wanted = atoms
        self.atoms = 0
        self._head = memoryview(bytearray(8))
        self._rows: npt.NDArray[Any] = np.empty((2, 0, 3), np.float32)
        self._blocks: npt.NDArray[Any] = np.zeros(2, energy_dtype(info.order))
        self._body = self._head
        self._filled = 0
        self._kind: Kind | None = None
        self._pairs: bool | None = None
        self._has_energies = self._has_positions = False
        self._row = self._given = 0
        self._failure: ProtocolError | None = None

    @property
    def size(self) -> int:
        energies = 8 + self._blocks.dtype.itemsize if self._pairs else 0
        return 8 + 12 * self.atoms + energies if self.atoms else 0

    @property
    def pending(self) -> int:
        whole = 12 * self.atoms if self._has_positions else 0
        return self._filled + whole + (8 if self._kind is not None else 0)

    @property
    def need(self) -> int:
        return len(self._body) - self._filled

    @property
    def full(self) -> bool:
        return self._row == len(self._rows) and self._given < self._row

    def room(self) -> memoryview:
        if self._row == len(self._rows):
            self._row = self._given = 0
        return self._body[self._filled :]

    def filled(self, count: int) -> None:
        if self._failure is None:
            try:
                self._fill(count)
            except ProtocolError as error:
                # Told once the frames before it were taken.
                self._failure = error

    def _fill(self, count: int) -> None:
        self._filled += count
        if self._filled < len(self._body):
            return
        self._filled = 0
        if self._kind is None:
            self._begin(*HEADER.unpack(self._head))
            return
        self._has_energies |= self._kind is Kind.ENERGIES
        self._has_positions |= self._kind is Kind.POSITIONS
        self._kind = None
        self._body = self._head
        if self._has_energies and self._has_positions:
            self._pairs = True
            self._advance()
        elif self._pairs is False:
            self._advance()

    def _advance(self) -> None:
        self._has_energies = self._has_positions = False
        self._row += 1

    def _begin(self, kind: int, length: int) -> None:
        if kind == Kind.ENERGIES and length == 1:
            if self._pairs is False:
                raise ProtocolError(
                    "Energies came after frames without them; they tell the step, so all frames "
                    "or none must have them."
                )
            self._kind = Kind.ENERGIES
            self._body = _view_bytes(self._blocks[self._row : self._row + 1])
        elif kind == Kind.POSITIONS:
            self._begin_positions(length)
        elif kind != Kind.DISCONNECT:
            raise ProtocolError(
                f"A packet of type {kind} and length {length} came; an engine that speaks version "
                "2 sends energies (type 1, length 1) and positions (type 2)."
            )

    def _begin_positions(self, length: int) -> None:
        if not self.atoms:
            self._allocate(_check_atoms(length, self._wanted))
        elif length != self.atoms:
            raise ProtocolError(
                f"A frame of {length} atoms came; the frames before had {self.atoms}."
            )
        if self._has_positions:
            if self._pairs:
                raise ProtocolError(
                    "A frame came without energies after frames that had them; they tell the "
                    "step, so all frames or none must have them."
                )
            self._pairs = False
            self._advance()
        self._kind = Kind.POSITIONS
        self._body = _view_bytes(self._rows[self._row])

    def _allocate(self, atoms: int) -> None:
        layout = Layout(SessionInfo(version=3, order=self._order), atoms)
        count = max(2, _BUFFER // layout.size)
        blocks = np.zeros(count, energy_dtype(self._order))
        blocks[:2] = self._blocks
        self._rows = np.empty((count, atoms, 3), f"{self._order}f4")
        self._blocks = blocks
        self.atoms = atoms

    def end(self) -> None:
        if self._pairs is None and self._has_positions and not self._filled and not self._kind:
            self._pairs = False
            self._advance()

    def take(self) -> dict[str, Any] | None:
        rows = slice(self._given, self._row)
        count = rows.stop - rows.start
        if not count:
            if self._failure is not None:
                raise self._failure
            return None
        self._given = self._row
        blocks = self._blocks[rows] if self._pairs else None
        return {
            "count": count,
            "steps": None if blocks is None else blocks["step"].astype(np.int64),
            "times": None,
            "timestep": None,
            "energies": blocks,
            "vectors": {"positions": self._rows[rows]},
        }
