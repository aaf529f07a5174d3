"""Packets of the IMD protocol, versions 2 and 3, as bytes; without sockets.

A header is two big-endian int32: a type and a length. Only the handshake's second number, the
version, is in the sender's own byte order, which thereby becomes known; bodies are in that order,
too. Version 3 is described by Woods, Liu, Beckstein et al. at
https://imdclient.readthedocs.io/en/latest/protocol_v3.html; version 2 is what VMD and NAMD do
(Stone, Gullingsrud and Schulten, I3D 2001, doi:10.1145/364338.364398).
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bridge.errors import ProtocolError, VersionMismatch

__all__ = [
    "ENERGY_NAMES",
    "HEADER",
    "ByteOrder",
    "Kind",
    "SessionInfo",
    "check_session",
    "decode_handshake",
    "decode_session",
    "encode_forces",
    "encode_handshake",
    "encode_header",
    "encode_session",
]

ByteOrder = Literal["<", ">"]

HEADER = struct.Struct(">ii")
"""Type and length."""

ENERGY_NAMES = (
    "temperature",
    "total_energy",
    "potential_energy",
    "van_der_waals_energy",
    "coulomb_energy",
    "bond_energy",
    "angle_energy",
    "dihedral_energy",
    "improper_energy",
)
"""What follows the step in an energy packet."""

_FLAGS = 7


class Kind(enum.IntEnum):
    """Types of packets; those from `SESSION` on are of version 3."""

    DISCONNECT = 0
    ENERGIES = 1
    POSITIONS = 2
    GO = 3
    HANDSHAKE = 4
    KILL = 5
    APPLY_FORCES = 6
    PAUSE = 7
    RATE = 8
    IO_ERROR = 9
    SESSION = 10
    RESUME = 11
    TIME = 12
    BOX = 13
    VELOCITIES = 14
    FORCES = 15
    WAIT = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionInfo:
    """What an engine sends in every frame.

    Version 2 promises positions alone; energies may come between them.
    """

    version: int
    """2 or 3."""
    order: ByteOrder = "<"
    """Byte order of bodies."""
    time: bool = False
    """Time step, time and step."""
    energies: bool = False
    """One block of energies."""
    box: bool = False
    """Three vectors."""
    positions: bool = True
    """One vector an atom."""
    wrapped: bool | None = None
    """Whether positions are folded into the box; None where nobody says."""
    velocities: bool = False
    """One vector an atom."""
    forces: bool = False
    """One vector an atom."""


def encode_header(kind: Kind, length: int = 0) -> bytes:
    """Return a packet without a body, or the head of one with a body."""
    return HEADER.pack(kind, length)


def encode_handshake(version: int, order: ByteOrder) -> bytes:
    """Return the packet that begins a session."""
    return struct.pack(">i", Kind.HANDSHAKE) + struct.pack(f"{order}i", version)


def decode_handshake(data: bytearray) -> tuple[int, ByteOrder]:
    """Return version and byte order.

    Raises
    ------
    ProtocolError
        If it is no handshake.
    VersionMismatch
        If the version is neither 2 nor 3.
    """
    kind, number = HEADER.unpack(data)
    if kind != Kind.HANDSHAKE:
        raise ProtocolError(
            f"The first packet is of type {kind} instead of a handshake ({Kind.HANDSHAKE:d}); "
            "whoever listens there does not speak IMD."
        )
    if number in (2, 3):
        return number, ">"
    swapped = int.from_bytes(data[4:8], "little", signed=True)
    if swapped in (2, 3):
        return swapped, "<"
    version = min(abs(number), abs(swapped))
    raise VersionMismatch(
        f"The engine speaks version {version} of IMD; versions 2 and 3 are understood."
    )


def encode_session(info: SessionInfo) -> bytes:
    """Return the packet that follows the handshake in version 3."""
    flags = (
        info.time,
        info.energies,
        info.box,
        info.positions,
        bool(info.wrapped),
        info.velocities,
        info.forces,
    )
    return encode_header(Kind.SESSION, _FLAGS) + bytes(flags)


def check_session(header: bytearray) -> None:
    """Make sure that a header begins the flags of a version 3 session.

    Raises
    ------
    ProtocolError
        If it is that of another packet, or announces another number of flags.
    """
    kind, length = HEADER.unpack(header)
    if kind != Kind.SESSION or length != _FLAGS:
        raise ProtocolError(
            f"After the handshake came a packet of type {kind} and length {length} instead of the "
            f"{_FLAGS} flags that say what will be sent."
        )


def decode_session(flags: bytearray, order: ByteOrder) -> SessionInfo:
    """Return what a version 3 engine will send."""
    time, energies, box, positions, wrapped, velocities, forces = (bool(f) for f in flags)
    return SessionInfo(
        version=3,
        order=order,
        time=time,
        energies=energies,
        box=box,
        positions=positions,
        wrapped=wrapped if positions else None,
        velocities=velocities,
        forces=forces,
    )


def encode_forces(indices: npt.NDArray[Any], forces: npt.NDArray[Any], order: ByteOrder) -> bytes:
    """Return the packet that asks an engine to apply forces, until others are sent.

    Parameters
    ----------
    indices
        Atoms, counted from 0 in the order in which they are sent; shape (n,), each once.
    forces
        Shape (n, 3), in the engine's unit.
    order
        The engine's byte order.
    """
    body = np.ascontiguousarray(indices, f"{order}i4").tobytes()
    body += np.ascontiguousarray(forces, f"{order}f4").tobytes()
    return encode_header(Kind.APPLY_FORCES, len(indices)) + body
