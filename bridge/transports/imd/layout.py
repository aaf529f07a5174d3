"""A version 3 frame as one record of fixed size, headers and all.

What a session announces comes in every frame and in one order, so many frames lie in a buffer as
an array of records: they are received, checked and handed on without a loop over packets.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bridge.errors import MessageTooLarge, ProtocolError
from bridge.schema import MAX_FRAME_BYTES
from bridge.transports.imd.packets import ENERGY_NAMES, ByteOrder, Kind, SessionInfo, encode_header

__all__ = ["Layout", "energy_dtype"]

_VECTORS = (
    ("positions", Kind.POSITIONS),
    ("velocities", Kind.VELOCITIES),
    ("forces", Kind.FORCES),
)


def energy_dtype(order: ByteOrder) -> np.dtype[Any]:
    """Return the dtype of an energy block."""
    return np.dtype([("step", f"{order}i4"), *((name, f"{order}f4") for name in ENERGY_NAMES)])


def _list_packets(info: SessionInfo, atoms: int) -> list[tuple[str, Kind, int, Any]]:
    """Return name, type, length and body of each packet, in the order of the protocol."""
    order = info.order
    time = np.dtype([("dt", f"{order}f8"), ("time", f"{order}f8"), ("step", f"{order}i8")])
    packets: list[tuple[str, Kind, int, Any]] = []
    if info.time:
        packets.append(("time", Kind.TIME, 1, time))
    if info.energies:
        packets.append(("energies", Kind.ENERGIES, 1, energy_dtype(order)))
    if info.box:
        packets.append(("box", Kind.BOX, 1, (f"{order}f4", (3, 3))))
    packets += [
        (name, kind, atoms, (f"{order}f4", (atoms, 3)))
        for name, kind in _VECTORS
        if getattr(info, name)
    ]
    return packets


class Layout:
    """Where everything lies in the frames of one session.

    Attributes
    ----------
    info
        The session.
    atoms
        Number of atoms; 0 if neither positions nor velocities nor forces are sent.
    dtype
        A frame; its fields are ``time``, ``energies``, ``box``, ``positions``, ``velocities`` and
        ``forces``, as far as they are sent, and a header ``head_…`` before each.
    size
        Bytes of a frame.
    """

    def __init__(self, info: SessionInfo, atoms: int) -> None:
        vectors = sum(getattr(info, name) for name, _ in _VECTORS)
        if 12 * atoms * vectors > MAX_FRAME_BYTES:
            raise MessageTooLarge(
                f"Frames of {atoms} atoms are announced, which is more than the limit of "
                f"{MAX_FRAME_BYTES} bytes a frame allows."
            )
        packets = _list_packets(info, atoms)
        fields: list[Any] = []
        for name, _, _, body in packets:
            fields += [
                (f"head_{name}", "V8"),
                (name, *body) if type(body) is tuple else (name, body),
            ]
        self.info = info
        self.atoms = atoms
        self.dtype = np.dtype(fields)
        self.size = self.dtype.itemsize
        # Compared as one number each: what it is does not matter, only that it is the same.
        heads = [(n, encode_header(kind, length)) for n, kind, length, _ in packets]
        self._heads = [(n, kind, length) for n, kind, length, _ in packets]
        offsets: Any = self.dtype.fields
        self._views = np.dtype(
            {
                "names": [f"head_{n}" for n, _ in heads],
                "formats": ["u8"] * len(heads),
                "offsets": [offsets[f"head_{n}"][1] for n, _ in heads],
                "itemsize": self.size,
            }
        )
        self._expected = [
            (f"head_{n}", np.uint64(int(np.frombuffer(h, "u8")[0]))) for n, h in heads
        ]

    @staticmethod
    def measure_head(info: SessionInfo) -> int:
        """Return the bytes up to and with the first header that tells the number of atoms."""
        before = sum(8 + np.dtype(body).itemsize for _, _, _, body in _list_packets(info, 0))
        vectors = sum(getattr(info, name) for name, _ in _VECTORS)
        return int(before - 8 * (vectors - 1) if vectors else before)

    def find_wrong(self, rows: npt.NDArray[Any]) -> tuple[int, int] | None:
        """Return the first row with a header that is not what it must be, and which of them."""
        views = rows.view(self._views)
        found: tuple[int, int] | None = None
        for packet, (name, expected) in enumerate(self._expected):
            wrong = views[name] != expected
            if wrong.any():
                # After a packet that is too short or too long, all that follow look wrong.
                row = int(wrong.argmax())
                found = (row, packet) if found is None or row < found[0] else found
        return found

    def explain(self, rows: npt.NDArray[Any], wrong: tuple[int, int], number: int) -> ProtocolError:
        """Return the error for what `find_wrong` found; the first of the rows has this number."""
        row, packet = wrong
        return self._explain(rows, row, number + row, *self._heads[packet])

    def _explain(
        self, rows: npt.NDArray[Any], row: int, number: int, what: str, kind: Kind, length: int
    ) -> ProtocolError:
        found, value = np.frombuffer(rows[f"head_{what}"][row].tobytes(), ">i4").tolist()
        if found == kind:
            return ProtocolError(
                f"Frame {number} has {what} of {value} atoms; the frames before had {length}."
                if length == self.atoms and kind >= Kind.POSITIONS
                else f"Frame {number} has {value} blocks of {what} instead of one."
            )
        return ProtocolError(
            f"In frame {number} a packet of type {found} and length {value} came where {what} "
            f"(type {kind:d}, length {length}) were due; the engine does not keep to version 3."
        )

    def empty(self, count: int) -> npt.NDArray[Any]:
        """Return frames to fill, with their headers in place."""
        rows = np.zeros(count, self.dtype)
        views = rows.view(self._views)
        for name, expected in self._expected:
            views[name] = expected
        return rows
