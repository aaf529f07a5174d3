"""The binary encoding of batches, blocks and operator states: a small header and raw buffers.

Layout, all little-endian::

    0   4s   magic b"HRDR"
    4   u16  version (1)
    6   u16  kind (1 batch, 2 state)
    8   u32  length of the header in bytes
    12  u32  zero
    16  u64  length of the payload in bytes
    24  u64  XXH3-64 of header, padding and payload
    32       header: MessagePack map
    ...      zeros up to a multiple of 64
    ...      payload: the arrays, each beginning at a multiple of 64

The header of a batch is ``{"s": simulation, "n": frames, "c": [[name, dtype, shape, position],
…], "m": {…}}``; a state is the same without frames. Nothing is ever unpickled. Decoding gives
read-only views of the bytes that came in.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import xxhash

from bridge.errors import CorruptData, MessageTooLarge, ProtocolError, VersionMismatch
from bridge.frames import FrameBatch

__all__ = [
    "ALIGNMENT",
    "MAX_PAYLOAD_BYTES",
    "VERSION",
    "BatchLayout",
    "aligned",
    "decode_batch",
    "decode_state",
    "encode_batch",
    "encode_state",
    "join_batches",
    "open_batch",
    "read_layout",
]

VERSION = 1
ALIGNMENT = 64
MAX_PAYLOAD_BYTES = 1 << 33
MAX_HEADER_BYTES = 1 << 24

_MAGIC = b"HRDR"
_PREFIX = struct.Struct("<4sHHIIQQ")
_KIND_BATCH = 1
_KIND_STATE = 2
_FRAME_COLUMNS = {"offset": "<i8", "step": "<i8", "time": "<f8", "epoch": "<i4"}
_DTYPE_KINDS = "biufcSU"

Array = npt.NDArray[Any]


def aligned(size: int) -> int:
    """Return `size` rounded up to a multiple of 64."""
    return -(-size // ALIGNMENT) * ALIGNMENT


class _Header(msgspec.Struct, omit_defaults=True):
    """The MessagePack map behind the prefix."""

    c: list[tuple[str, str, list[int], int]]
    s: str = ""
    n: int = 0
    m: dict[str, Any] = {}


class _Layout(msgspec.Struct):
    """The same, of which only the places of the arrays are wanted."""

    c: msgspec.Raw


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Header)
_layouts = msgspec.msgpack.Decoder(_Layout)
_places = msgspec.msgpack.Decoder(list[tuple[str, str, list[int], int]])


def _encode(kind: int, header: _Header, arrays: Mapping[str, Array]) -> bytearray:
    position = 0
    placed: list[tuple[int, Array]] = []
    for name, value in arrays.items():
        array = np.ascontiguousarray(value).reshape(np.shape(value))
        if array.dtype.kind not in _DTYPE_KINDS:
            raise ProtocolError(
                f"The array {name!r} has dtype {array.dtype}, which cannot be encoded; only "
                "numbers, booleans and fixed-length text can."
            )
        if array.dtype.byteorder == ">":
            array = array.astype(array.dtype.newbyteorder("<"))
        header.c.append((name, array.dtype.str, list(array.shape), position))
        placed.append((position, array))
        position = aligned(position + array.nbytes)
    if position > MAX_PAYLOAD_BYTES:
        raise MessageTooLarge(
            f"The arrays have {position} bytes together; the limit is {MAX_PAYLOAD_BYTES}."
        )
    head = _encoder.encode(header)
    begin = aligned(_PREFIX.size + len(head))
    out = bytearray(begin + position)
    out[_PREFIX.size : _PREFIX.size + len(head)] = head
    for where, array in placed:
        if array.nbytes:
            start = begin + where
            out[start : start + array.nbytes] = array.reshape(-1).view(np.uint8).data
    digest = xxhash.xxh3_64_intdigest(memoryview(out)[_PREFIX.size :])
    _PREFIX.pack_into(out, 0, _MAGIC, VERSION, kind, len(head), 0, position, digest)
    return out


def _open(kind: int, data: bytes | bytearray | memoryview) -> tuple[memoryview, memoryview]:
    """Return header and payload of a message, checked."""
    view = memoryview(data).cast("B")
    if len(view) < _PREFIX.size:
        raise ProtocolError(
            f"An encoded message has at least {_PREFIX.size} bytes; {len(view)} came."
        )
    magic, version, found, n_head, _, n_payload, digest = _PREFIX.unpack_from(view)
    if magic != _MAGIC:
        raise ProtocolError(
            f"The bytes do not begin with {_MAGIC!r}: this is not a message of ours."
        )
    if version != VERSION:
        raise VersionMismatch(
            f"The message is of wire format version {version}; this Headrace reads version "
            f"{VERSION}. Use the same release on both sides."
        )
    if found != kind:
        raise ProtocolError(f"A message of kind {kind} was expected; kind {found} came.")
    if n_head > MAX_HEADER_BYTES or n_payload > MAX_PAYLOAD_BYTES:
        raise MessageTooLarge(
            f"The message declares {n_head} header and {n_payload} payload bytes; the limits are "
            f"{MAX_HEADER_BYTES} and {MAX_PAYLOAD_BYTES}."
        )
    begin = aligned(_PREFIX.size + n_head)
    if len(view) != begin + n_payload:
        raise ProtocolError(
            f"The message declares {begin + n_payload} bytes; {len(view)} came: it was cut off."
        )
    if xxhash.xxh3_64_intdigest(view[_PREFIX.size :]) != digest:
        raise CorruptData("The checksum of a message does not match its bytes.")
    return view[_PREFIX.size : _PREFIX.size + n_head], view[begin:].toreadonly()


def _decode(kind: int, data: bytes | bytearray | memoryview) -> tuple[_Header, dict[str, Array]]:
    head, payload = _open(kind, data)
    try:
        header = _decoder.decode(head)
    except msgspec.MsgspecError as error:
        raise ProtocolError(f"The header of a message cannot be read: {error}.") from error
    return header, {name: _view(payload, name, d, s, p) for name, d, s, p in header.c}


def _view(payload: memoryview, name: str, dtype: str, shape: list[int], position: int) -> Array:
    try:
        kind = np.dtype(dtype)
    except TypeError as error:
        raise ProtocolError(f"The array {name!r} has the unknown dtype {dtype!r}.") from error
    if kind.kind not in _DTYPE_KINDS or any(n < 0 for n in shape) or position < 0:
        raise ProtocolError(f"The array {name!r} has an impossible dtype, shape or position.")
    count = 1
    for n in shape:
        count *= n
    if position + count * kind.itemsize > len(payload):
        raise ProtocolError(f"The array {name!r} reaches beyond the end of its message.")
    if count == 0 or kind.itemsize == 0:
        return np.zeros(shape, kind)
    return np.frombuffer(payload, kind, count, position).reshape(shape)


def encode_batch(batch: FrameBatch, *, meta: Mapping[str, Any] | None = None) -> bytearray:
    """Encode a batch, with plain data (numbers, text, lists, maps) beside it as `meta`."""
    header = _Header(c=[], s=batch.simulation, n=len(batch), m=dict(meta or {}))
    own: dict[str, Array] = dict(
        zip(
            _FRAME_COLUMNS,
            (batch.offsets, batch.steps, batch.times, batch.epochs),
            strict=True,
        )
    )
    clash = sorted(set(own) & set(batch.columns))
    if clash:
        raise ProtocolError(f"Columns may not be called {', '.join(clash)}: frames carry those.")
    return _encode(_KIND_BATCH, header, {**own, **batch.columns})


def decode_batch(data: bytes | bytearray | memoryview) -> tuple[FrameBatch, dict[str, Any]]:
    """Decode a batch and its meta data; arrays are read-only views of `data`.

    Raises
    ------
    VersionMismatch, MessageTooLarge, CorruptData, ProtocolError
        As the bytes deserve.
    """
    header, arrays = _decode(_KIND_BATCH, data)
    if _check_columns(arrays) != header.n:
        raise ProtocolError(f"The columns of a batch do not all have its {header.n} frames.")
    offsets, steps, times, epochs = (arrays.pop(name) for name in _FRAME_COLUMNS)
    batch = FrameBatch(header.s, offsets, steps=steps, times=times, epochs=epochs, columns=arrays)
    return batch, header.m


def _check_columns(arrays: Mapping[str, Array]) -> int:
    """Return how many frames a batch has, once it is sure that its columns agree on that."""
    for name, dtype in _FRAME_COLUMNS.items():
        if name not in arrays:
            raise ProtocolError(f"The batch lacks its column {name!r}.")
        if arrays[name].dtype.str != dtype or arrays[name].ndim != 1:
            raise ProtocolError(f"The column {name!r} of a batch has an impossible dtype or shape.")
    n = len(arrays["offset"])
    if any(a.ndim == 0 or a.shape[0] != n for a in arrays.values()):
        raise ProtocolError(f"The columns of a batch do not all have its {n} frames.")
    return n


def open_batch(data: bytes | bytearray | memoryview) -> tuple[bytes, memoryview]:
    """Check a batch, and return how its arrays lie in the payload, and the payload.

    The layout is as good as a name for it: `read_layout` reads it once for all of its batches, and
    `join_batches` reads many of them together, in a quarter of the time of `decode_batch`.

    Raises
    ------
    VersionMismatch, MessageTooLarge, CorruptData, ProtocolError
        As the bytes deserve.
    """
    head, payload = _open(_KIND_BATCH, data)
    try:
        return bytes(_layouts.decode(head).c), payload
    except msgspec.MsgspecError as error:
        raise ProtocolError(f"The header of a message cannot be read: {error}.") from error


@dataclass(frozen=True, slots=True)
class BatchLayout:
    """How the arrays of a batch lie in its payload; see `read_layout`."""

    n: int
    """Frames."""
    kind: tuple[tuple[str, str, tuple[int, ...]], ...]
    """Name, dtype and shape of one frame of each array; batches of the same can be joined."""
    slices: tuple[slice, ...]
    """Where each array is."""


def read_layout(layout: bytes, payload: memoryview) -> BatchLayout:
    """Return how arrays lie in payloads of the same length, once for all of them.

    Parameters
    ----------
    layout, payload
        From `open_batch`.

    Raises
    ------
    ProtocolError
        If the layout is that of no batch, or does not fit the payload.
    """
    try:
        places = _places.decode(layout)
    except msgspec.MsgspecError as error:
        raise ProtocolError(f"The header of a message cannot be read: {error}.") from error
    arrays = {name: _view(payload, name, d, s, p) for name, d, s, p in places}
    n = _check_columns(arrays)
    if len(arrays) != len(places):
        raise ProtocolError("Two columns of a batch have the same name.")
    return BatchLayout(
        n,
        tuple((name, a.dtype.str, a.shape[1:]) for name, a in arrays.items()),
        tuple(slice(p, p + arrays[name].nbytes) for name, _, _, p in places),
    )


def join_batches(batches: Sequence[tuple[BatchLayout, memoryview]]) -> dict[str, Array]:
    """Return the arrays of batches of one kind, one after the other, copied and read-only.

    Parameters
    ----------
    batches
        Layout and payload of each, at least one; the kinds of the layouts are the same, their
        numbers of frames need not be.

    Returns
    -------
    dict
        Name to array; ``offset``, ``step``, ``time`` and ``epoch`` among them.
    """
    total = sum(layout.n for layout, _ in batches)
    joined = {}
    for i, (name, dtype, shape) in enumerate(batches[0][0].kind):
        data = b"".join([payload[layout.slices[i]] for layout, payload in batches])
        joined[name] = (
            np.frombuffer(data, dtype).reshape(total, *shape)
            if data
            else np.zeros((total, *shape), dtype)
        )
    return joined


def encode_state(state: Mapping[str, Any]) -> bytes:
    """Encode a flat mapping of arrays and plain data (what an operator's ``save`` returns)."""
    arrays = {k: v for k, v in state.items() if isinstance(v, np.ndarray)}
    plain = {k: v for k, v in state.items() if not isinstance(v, np.ndarray)}
    return bytes(_encode(_KIND_STATE, _Header(c=[], m=plain), arrays))


def decode_state(data: bytes | bytearray | memoryview) -> dict[str, Any]:
    """Decode what `encode_state` made; arrays come back writable, as copies."""
    header, arrays = _decode(_KIND_STATE, data)
    return {**header.m, **{k: v.copy() for k, v in arrays.items()}}
