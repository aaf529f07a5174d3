"""What a topic's journal holds: the facts from which a log is rebuilt after a kill.

Each fact is applied to the log in the same way when it happens and when it is read back.
"""

from __future__ import annotations

import msgspec

from bridge.commands import Capability
from bridge.schema import StreamSchema
from bridge.staging.messages import Entry, Part, StreamOptions

__all__ = [
    "Committed",
    "Created",
    "Dropped",
    "Fact",
    "Finished",
    "GroupAt",
    "Left",
    "Life",
    "Released",
    "Stored",
    "TookSegment",
    "Trimmed",
    "Waiting",
    "decode_facts",
    "encode_facts",
]


class _Fact(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """Base of all facts."""


class Created(_Fact, frozen=True):
    """The topic began, or its producer declared it anew."""

    name: str
    kind: str
    options: StreamOptions
    schema: StreamSchema | None = None
    capabilities: list[Capability] = []
    low: int = 0
    bytes: int = 0
    dropped: int = 0


class Life(_Fact, frozen=True):
    """A rank of an incarnation opened the stream."""

    incarnation: int
    rank: int
    token: str
    next_sequence: int = 0


class Left(_Fact, frozen=True):
    """A rank of the present incarnation said goodbye; whether it had come to its end."""

    rank: int
    finished: bool


class TookSegment(_Fact, frozen=True):
    """The topic uses a segment; `rank` -1 if the stager itself writes there."""

    number: int
    size: int
    rank: int = -1


class Committed(_Fact, frozen=True):
    """Frames were stored; `sequences` maps rank to its next sequence number."""

    entry: Entry
    step: int
    time: float
    epoch: int
    sequences: dict[int, int]
    nbytes: int


class Waiting(_Fact, frozen=True):
    """A rank's block of a step arrived, and other ranks' blocks of it are missing."""

    rank: int
    part: Part
    step: int
    time: float
    epoch: int
    sequence: int


class Stored(_Fact, frozen=True):
    """A record was stored."""

    offset: int
    segment: int
    position: int
    length: int
    checksum: int
    stamp: float
    writer: str = ""
    stop: int = -1


class Released(_Fact, frozen=True):
    """The topic uses a segment no more."""

    number: int


class Trimmed(_Fact, frozen=True):
    """Everything below `low` was released."""

    low: int


class Dropped(_Fact, frozen=True):
    """So many frames were dropped by policy in all; by rank, what producers dropped."""

    total: int


class GroupAt(_Fact, frozen=True):
    """A group committed an offset; -1 if it left."""

    group: str
    offset: int


class Finished(_Fact, frozen=True):
    """No more will come, until a new life begins."""

    finished: bool = True


Fact = (
    Created
    | Life
    | TookSegment
    | Committed
    | Stored
    | Released
    | Trimmed
    | Dropped
    | GroupAt
    | Finished
    | Left
    | Waiting
)

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[list[Fact]] = msgspec.msgpack.Decoder(list[Fact])


def encode_facts(facts: list[Fact]) -> bytes:
    """Encode what one request brought about; it is in the journal as a whole or not at all."""
    return _encoder.encode(facts)


def decode_facts(data: bytes) -> list[Fact]:
    """Decode one record of a journal; raises `msgspec.MsgspecError` if it is none."""
    return _decoder.decode(data)
