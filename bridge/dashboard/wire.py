"""Messages of the WebSocket: JSON text, and tables as binary.

A binary message is a header's length (unsigned, 32 bits, little endian), the header as JSON in
UTF-8, zeros up to a multiple of 8 bytes, and the payload, in which each array begins at a multiple
of 8 bytes; the header says where. Numbers are little endian.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

__all__ = ["ALIGNMENT", "Body", "Table", "decode_table", "encode_message", "pack"]

ALIGNMENT = 8
_ZEROS = bytes(ALIGNMENT)

Table: TypeAlias = tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]
"""Facts, and arrays by name."""


@dataclass(frozen=True, slots=True)
class Body:
    """What a message says, without whom it is for; made once for all who want the same.

    Attributes
    ----------
    data
        JSON of the data, or of a table's facts and arrays as two entries of an object, without
        the braces.
    payload
        Bytes of the arrays; None for JSON.
    """

    data: bytes
    payload: bytes | None = None

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.data) + len(self.payload or b"")


def pack(value: Any) -> Body:
    """Make the body of a message.

    Parameters
    ----------
    value
        A `Table`, or whatever JSON can say; numbers that are not finite become null.
    """
    if not (isinstance(value, tuple) and len(value) == 2):
        return Body(msgspec.json.encode(value))
    meta, arrays = value
    places: list[dict[str, Any]] = []
    pieces: list[bytes] = []
    offset = 0
    for name, given in arrays.items():
        dtype = given.dtype.str
        if dtype[0] == ">":
            # Browsers take little endian alone.
            given = given.astype(given.dtype.newbyteorder("<"))
            dtype = given.dtype.str
        places.append(
            {
                "name": name,
                "dtype": dtype.replace("|", "<"),
                "shape": given.shape,
                "offset": offset,
            }
        )
        data = given.tobytes()  # in C order, however it lies
        padding = -len(data) % ALIGNMENT
        pieces += (data, _ZEROS[:padding])
        offset += len(data) + padding
    head = b'"meta":%b,"arrays":%b' % (msgspec.json.encode(meta), msgspec.json.encode(places))
    return Body(head, b"".join(pieces))


def encode_message(
    body: Body, *, subscription: int, seq: int, stamp: float, channel: str, skipped: int = 0
) -> str | bytes:
    """Address a body: text for JSON, bytes for a table.

    Parameters
    ----------
    skipped
        Messages that were not made since the last one, as the page was busy with that.
    """
    start = b'{"id":%d,"seq":%d,"stamp":%.6f,"skipped":%d,"channel":%b,' % (
        subscription,
        seq,
        stamp,
        skipped,
        msgspec.json.encode(channel),
    )
    if body.payload is None:
        return (start + b'"data":' + body.data + b"}").decode()
    header = start + body.data + b"}"
    padding = -(4 + len(header)) % ALIGNMENT
    return b"".join((struct.pack("<I", len(header)), header, bytes(padding), body.payload))


def decode_table(message: bytes) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """Read a binary message as a browser does; the arrays share its memory.

    Returns
    -------
    header, arrays
        The whole header, and the arrays by name.
    """
    (length,) = struct.unpack_from("<I", message)
    header: dict[str, Any] = msgspec.json.decode(message[4 : 4 + length])
    start = 4 + length + (-(4 + length) % ALIGNMENT)
    arrays = {}
    for place in header["arrays"]:
        shape: list[int] = place["shape"]
        count = math.prod(shape)
        flat = np.frombuffer(message, place["dtype"], count, start + place["offset"])
        arrays[place["name"]] = flat.reshape(tuple(shape))
    return header, arrays
