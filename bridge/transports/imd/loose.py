"""What was received of a version 2 session, cut into frames; without sockets.

Its packets come one by one, and energies may come beside some frames only.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bridge.errors import ProtocolError
from bridge.transports.imd.layout import Layout, energy_dtype
from bridge.transports.imd.packets import ENERGY_NAMES, HEADER, Kind, SessionInfo

__all__ = ["BUFFER", "Packets", "check_atoms", "view_bytes"]

BUFFER = 1 << 20
"""Bytes of a buffer at least: with 1 MiB, frames are still in the cache when they are converted."""


def check_atoms(found: int, wanted: int | None) -> int:
    """Return the number of atoms that a first header tells, if it can be and is the right one."""
    if found < 1:
        raise ProtocolError(f"The engine sends frames of {found} atoms; there is at least one.")
    if wanted is not None and found != wanted:
        raise ProtocolError(
            f"The engine sends {found} atoms, and {wanted} were expected; give the topology of "
            "what it sends (an engine may send a group of its atoms), or the right number."
        )
    return found


def view_bytes(array: npt.NDArray[Any]) -> memoryview:
    """Return the bytes of an array to write into."""
    view: memoryview = array.reshape(-1).view(np.uint8).data
    return view


class Packets:
    """Version 2: positions make a frame, with the energies that come beside them, if any.

    Which of the two comes first is up to the engine. A session that begins with positions and
    energies has them after the positions to which they belong, so a frame is whole once the next
    packet tells whether it has any; in all others energies belong to the positions that follow.
    """

    def __init__(self, info: SessionInfo, atoms: int | None) -> None:
        self._order = info.order
        self._wanted = atoms
        self.atoms = 0
        self._head = memoryview(bytearray(8))
        self._rows: npt.NDArray[Any] = np.empty((2, 0, 3), np.float32)
        self._blocks: npt.NDArray[Any] = np.zeros(2, energy_dtype(info.order))
        self._told = np.zeros(2, np.bool_)
        self._missing = np.array((-1, *[np.nan] * len(ENERGY_NAMES)), self._blocks.dtype)
        self._body: memoryview | None = self._head
        self._filled = 0
        self._kind: Kind | None = None
        self._after: bool | None = None
        self._has_energies = self._has_positions = False
        self._some_told = self._some_untold = False
        self._row = self._given = 0
        self._failure: ProtocolError | None = None

    @property
    def size(self) -> int:
        """Bytes of a frame, as small as any has been, so that never too few are counted."""
        all_told = self._some_told and not self._some_untold
        energies = 8 + self._blocks.dtype.itemsize if all_told else 0
        return 8 + 12 * self.atoms + energies if self.atoms else 0

    @property
    def pending(self) -> int:
        """See `Intake.pending`."""
        whole = 12 * self.atoms if self._has_positions else 0
        return self._filled + whole + (8 if self._kind is not None else 0)

    @property
    def need(self) -> int:
        """See `Intake.need`."""
        return self._measure_body() - self._filled

    @property
    def full(self) -> bool:
        """See `Intake.full`."""
        return self._row == len(self._rows) and self._given < self._row

    def _measure_body(self) -> int:
        return 12 * self.atoms if self._body is None else len(self._body)

    def room(self) -> memoryview:
        """See `Intake.room`."""
        if self._row == len(self._rows):
            self._row = self._given = 0
        if self._body is None:
            self._body = view_bytes(self._rows[self._row])
        return self._body[self._filled :]

    def filled(self, count: int) -> None:
        """See `Intake.filled`."""
        if self._failure is None:
            try:
                self._fill(count)
            except ProtocolError as error:
                # Told once the frames before it were taken.
                self._failure = error
                if self._has_positions:
                    self._advance()

    def _fill(self, count: int) -> None:
        self._filled += count
        if self._filled < self._measure_body():
            return
        self._filled = 0
        if self._kind is None:
            self._begin(*HEADER.unpack(self._head))
            return
        self._has_energies |= self._kind is Kind.ENERGIES
        self._has_positions |= self._kind is Kind.POSITIONS
        came, self._kind = self._kind, None
        self._body = self._head
        if self._has_positions and (came is Kind.ENERGIES or self._after is False):
            self._advance()

    def _advance(self) -> None:
        self._told[self._row] = self._has_energies
        if self._has_energies:
            self._some_told = True
        else:
            self._some_untold = True
            self._blocks[self._row] = self._missing
        self._has_energies = self._has_positions = False
        self._row += 1

    def _begin(self, kind: int, length: int) -> None:
        if kind == Kind.ENERGIES and length == 1:
            if self._after is None:
                self._after = self._has_positions
            self._kind = Kind.ENERGIES
            self._body = view_bytes(self._blocks[self._row : self._row + 1])
        elif kind == Kind.POSITIONS:
            self._begin_positions(length)
        elif kind != Kind.DISCONNECT:
            raise ProtocolError(
                f"A packet of type {kind} and length {length} came; an engine that speaks version "
                "2 sends energies (type 1, length 1) and positions (type 2)."
            )

    def _begin_positions(self, length: int) -> None:
        if not self.atoms:
            self._allocate(check_atoms(length, self._wanted))
        elif length != self.atoms:
            raise ProtocolError(
                f"A frame of {length} atoms came; the frames before had {self.atoms}."
            )
        if self._has_positions:
            # Those before have no energies.
            self._after = bool(self._after)
            self._advance()
        self._kind = Kind.POSITIONS
        # Found by `room`: there may be none before the frames so far are taken.
        self._body = None

    def _allocate(self, atoms: int) -> None:
        layout = Layout(SessionInfo(version=3, order=self._order), atoms)
        count = max(2, BUFFER // layout.size)
        blocks = np.zeros(count, energy_dtype(self._order))
        blocks[:2] = self._blocks
        self._rows = np.empty((count, atoms, 3), f"{self._order}f4")
        self._blocks = blocks
        self._told = np.zeros(count, np.bool_)
        self.atoms = atoms

    def end(self) -> None:
        """See `Intake.end`."""
        if self._has_positions and self._kind is None:
            self._advance()

    def take(self) -> dict[str, Any] | None:
        """See `Intake.take`."""
        rows = slice(self._given, self._row)
        count = rows.stop - rows.start
        if not count:
            if self._failure is not None:
                raise self._failure
            return None
        self._given = self._row
        blocks = self._blocks[rows] if self._some_told else None
        told = self._told[rows]
        return {
            "count": count,
            "steps": None if blocks is None else blocks["step"].astype(np.int64),
            "told": None if blocks is None or told.all() else told,
            "times": None,
            "timestep": None,
            "energies": blocks,
            "vectors": {"positions": self._rows[rows]},
        }
