"""What clients and the stager say to each other.

A message is a list of buffers: first ``b"HR"``, the protocol version (u16, little-endian) and one
of the structs below in MessagePack; then, where the struct says so, raw bytes. Every request
carries a number that its answer repeats. All requests may be repeated: asked twice, the stager
does a thing once.
"""

from __future__ import annotations

import struct
from typing import Literal

import msgspec

from bridge.commands import Capability
from bridge.errors import ProtocolError, VersionMismatch
from bridge.schema import StreamSchema

__all__ = [
    "HEAD_ONLY",
    "NOT_SENT",
    "PROTOCOL_VERSION",
    "Ack",
    "Append",
    "Appended",
    "Bye",
    "Commit",
    "CommitOffsets",
    "Done",
    "Entry",
    "Fetch",
    "FetchBlocks",
    "Fetched",
    "FetchedJoined",
    "FullPolicy",
    "Hello",
    "Lease",
    "Leased",
    "OpenRing",
    "OpenStream",
    "Opened",
    "Part",
    "Ping",
    "QueryTopics",
    "Record",
    "Refused",
    "RingAt",
    "SegmentName",
    "StreamOptions",
    "TakeJoined",
    "TopicSlice",
    "TopicStatus",
    "Topics",
    "Welcome",
    "decode_reply",
    "decode_request",
    "encode",
    "quiet_commit",
]

PROTOCOL_VERSION = 1

NOT_SENT = -2
"""In the place of a part's segment: its bytes do not follow, since they were not asked for."""

HEAD_ONLY = -3
"""Of rank 0's part: those columns alone follow that are not decomposed, as a block without rows,
and their checksum."""

_PREFIX = struct.Struct("<2sH")
_HEAD = _PREFIX.pack(b"HR", PROTOCOL_VERSION)

FullPolicy = Literal["block", "drop_oldest", "drop_newest", "latest"]


class StreamOptions(msgspec.Struct, frozen=True, omit_defaults=True):
    """How the stager keeps a stream.

    Attributes
    ----------
    when_full
        ``block``: the producer waits until consumers have committed; ``drop_oldest``: the oldest
        frames give way; ``drop_newest``: new frames are not taken; ``latest``: only the newest
        frame is kept for whoever reads next. Each of several ranks decides by itself which steps
        it drops; those that not all have brought are given up, counted and told.
    capacity
        Bytes that the stream may hold. Of several ranks, two frames for each are enough in any
        case; with less, quick ranks may have to wait in vain for the room of slow ones.
    segment
        Bytes of one segment; 0 to let the stager choose by the size of a frame.
    keep
        Bytes that stay readable behind what every consumer group has committed. Little is faster:
        the same warm pages are written again. What no group has committed stays in any case.
    """

    when_full: FullPolicy = "block"
    capacity: int = 256 << 20
    segment: int = 0
    keep: int = 32 << 20


class _Request(msgspec.Struct, array_like=True, tag=True):
    """Every request begins with its number."""

    request: int


class _Reply(msgspec.Struct, array_like=True, tag=True):
    """Every answer repeats the number of its request; 0 if it was not asked for."""

    request: int


class Part(msgspec.Struct, array_like=True, frozen=True):
    """Rows of a chunk: where they lie and what they must hash to.

    Attributes
    ----------
    segment, position
        Number of the segment and the chunk's position in it.
    capacity, lead, ids
        What `bridge.staging.layout.chunk_layout` needs besides the schema.
    row, count
        The rows.
    start
        First global row of a rank's block on the decomposed axis.
    checksum
        XXH3-64 of the rows.
    """

    segment: int
    position: int
    capacity: int
    row: int
    count: int
    checksum: int
    lead: int = -1
    ids: bool = False
    start: int = 0
    rank: int = 0


class Hello(_Request):
    """First word of a client."""

    name: str = ""
    release: str = ""


class TakeJoined(_Request):
    """From now on this client takes small records in one buffer (`FetchedJoined`); no answer."""


class OpenStream(_Request):
    """A producer begins, or comes back to, a stream.

    `incarnation` 0 begins a new life of the simulation (of this rank); the number that `Opened`
    gave comes back to it. `token` tells two processes with the same incarnation apart.
    """

    simulation: str
    schema: StreamSchema
    options: StreamOptions
    token: str
    incarnation: int = 0
    rank: int = 0
    capabilities: list[Capability] = []
    sequence: int = 0


class Lease(_Request):
    """A producer asks for a segment with room for at least `size` bytes; answered when there is."""

    simulation: str
    incarnation: int
    size: int
    rank: int = 0


class OpenRing(_Request):
    """Ask for a ring to write commits into; see `bridge.staging.commit_ring`."""

    simulation: str
    incarnation: int
    rank: int = 0


class Commit(_Request):
    """Frames `sequence` and following are written; their bytes follow if `inline`.

    `steps` and `times` and `epochs` are those of the last row of each part, and `first_steps` of
    the first. `stamp` is Unix time in seconds. `dropped` counts the frames that the producer
    dropped by policy since it opened the stream. Answered by `Ack`; if its number is 0 the answer
    may wait until it can tell of several commits, or until the next `Ping`.
    """

    simulation: str
    incarnation: int
    sequence: int
    parts: list[Part]
    steps: list[int]
    times: list[float]
    epochs: list[int]
    stamp: float
    inline: bool = False
    rank: int = 0
    dropped: int = 0


class Fetch(_Request):
    """Read from offsets on, waiting up to `wait` seconds for something to read.

    `positions` maps topic to offset; `follow` is a prefix of topics that are picked up by
    themselves. `commits` are made for `group` first. The reader has released what it was handed
    up to number `released`, knows that the topics in `done` are finished, and, if `fresh`, has
    forgotten the schemas that it was told.
    """

    positions: dict[str, int]
    follow: str = ""
    group: str = ""
    commits: dict[str, int] = {}
    max_frames: int = 4096
    max_bytes: int = 16 << 20
    wait: float = 0.0
    released: int = 0
    mapped: bool = True
    done: list[str] = []
    fresh: bool = False


class FetchBlocks(Fetch):
    """A `Fetch` of which decomposed frames come unassembled, with the blocks of some ranks alone.

    The ranks are those of group `group_number` of `groups` (`bridge.staging.block_share.share_of`).
    Parts keep their order; see `NOT_SENT` and `HEAD_ONLY` for those of other ranks that are not
    mapped.
    """

    group_number: int = 0
    groups: int = 1


class Append(_Request):
    """Records follow as raw buffers, one each; see `StagerClient.append`."""

    topic: str
    writer: str = ""
    first: int = -1
    stop: int = -1
    stamp: float = 0.0
    options: StreamOptions | None = None


class CommitOffsets(_Request):
    """Commit offsets for a group; an offset of -1 takes the group out of the topic."""

    group: str
    offsets: dict[str, int]
    released: int = 0


class QueryTopics(_Request):
    """Ask for the state of the topics under a prefix, or of one writer."""

    prefix: str = ""
    schemas: bool = False


class Ping(_Request):
    """Nothing but a sign of life, and what was released."""

    released: int = 0


class Bye(_Request):
    """The producer leaves; `finished` ends the stream for its readers."""

    simulation: str = ""
    incarnation: int = 0
    rank: int = 0
    finished: bool = False
    dropped: int = 0
    reason: str = ""


class Welcome(_Reply):
    """Answer to `Hello`."""

    instance: str
    release: str = ""
    probe_path: str = ""
    probe_nonce: str = ""


class Opened(_Reply):
    """Answer to `OpenStream`: where to go on."""

    incarnation: int
    next_sequence: int
    next_offset: int
    last_step: int
    last_time: float
    last_epoch: int


class Leased(_Reply):
    """A segment to write into; `path` is empty where the producer must send bytes instead."""

    segment: int
    path: str
    size: int


class RingAt(_Reply):
    """Answer to `OpenRing`: a file to map, called like a segment."""

    path: str
    size: int


class Ack(_Reply):
    """Everything below `sequence` is stored."""

    sequence: int
    next_offset: int = 0


class Appended(_Reply):
    """Answer to `Append`; `watermark` is where the writer stands now."""

    offset: int
    accepted: bool
    watermark: int


class Entry(msgspec.Struct, array_like=True, frozen=True):
    """Frames from `offset` on; more than one part if ranks wrote blocks."""

    offset: int
    count: int
    parts: list[Part]
    stamp: float = 0.0


class Record(msgspec.Struct, array_like=True, frozen=True):
    """One record of a topic without frames; its bytes follow as a raw buffer."""

    offset: int
    stamp: float = 0.0


class SegmentName(msgspec.Struct, array_like=True, frozen=True):
    """Where a segment is mapped from."""

    number: int
    path: str
    size: int


class TopicSlice(msgspec.Struct, array_like=True):
    """What was read of one topic."""

    topic: str
    position: int
    low: int
    end: int
    finished: bool
    entries: list[Entry] = []
    records: list[Record] = []
    schema: StreamSchema | None = None


class Fetched(_Reply):
    """Answer to `Fetch`: slices, then raw buffers in the order of their entries and records."""

    handout: int
    slices: list[TopicSlice]
    segments: list[SegmentName] = []


class FetchedJoined(Fetched):
    """The same to those who said `TakeJoined`, where it brings small records.

    `joined` tells the size of each record, in their order, and -1 for those that have a buffer of
    their own. The others lie in the first buffer, one after the other, each at a multiple of 8
    bytes; see `bridge.staging.joined`.
    """

    joined: list[int] = []


class TopicStatus(msgspec.Struct, frozen=True, omit_defaults=True):
    """State of one topic.

    Attributes
    ----------
    name, kind
        Name, and whether it holds frames or records.
    low, end
        First offset that is kept, and the offset after the last.
    bytes, allocated
        Bytes that were committed since the topic began, and bytes of its segments now.
    finished
        The producer said that no more will come.
    dropped
        Frames dropped by policy; of several ranks, steps that did not become frames, each once.
    incomplete
        Of these, steps of the present life of which some ranks' blocks came, and others' did not.
    groups
        Consumer group to committed offset.
    writers
        Writer to watermark.
    incarnation
        Life of the simulation that writes at present.
    connected
        Somebody is writing at present.
    last_step, last_time, last_epoch, last_stamp
        Of the newest frame.
    schema, capabilities
        What the producer declared; sent if asked for.
    """

    name: str
    kind: Literal["frames", "records"]
    low: int = 0
    end: int = 0
    bytes: int = 0
    allocated: int = 0
    finished: bool = False
    dropped: int = 0
    groups: dict[str, int] = {}
    writers: dict[str, int] = {}
    incarnation: int = 0
    connected: bool = False
    last_step: int = -1
    last_time: float = 0.0
    last_epoch: int = 0
    last_stamp: float = 0.0
    options: StreamOptions = StreamOptions()
    schema: StreamSchema | None = None
    capabilities: list[Capability] = []
    incomplete: int = 0


class Topics(_Reply):
    """Answer to `QueryTopics`."""

    topics: list[TopicStatus]


class Done(_Reply):
    """The request was carried out; there is nothing to tell."""


class Refused(_Reply):
    """The request was not carried out; `code` names an error of `bridge.errors`."""

    code: str
    message: str


Request = (
    Hello
    | TakeJoined
    | OpenStream
    | Lease
    | OpenRing
    | Commit
    | Fetch
    | FetchBlocks
    | Append
    | CommitOffsets
    | QueryTopics
    | Ping
    | Bye
)
Reply = (
    Welcome
    | Opened
    | Leased
    | RingAt
    | Ack
    | Appended
    | Fetched
    | FetchedJoined
    | Topics
    | Done
    | Refused
)

_encoder = msgspec.msgpack.Encoder()
_requests: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_replies: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)


def encode(message: Request | Reply) -> bytes:
    """Encode a message's first buffer."""
    return _HEAD + _encoder.encode(message)


def quiet_commit() -> bytes:
    """Return how each message begins that is a `Commit` with the number 0."""
    return encode(Commit(0, "", 0, 0, [], [], [], [], 0.0))[: 4 + 1 + 1 + len("Commit") + 1]


def decode_request(data: memoryview) -> Request:
    """Decode what a client sent."""
    _check_head(data)
    try:
        return _requests.decode(data[4:])
    except msgspec.MsgspecError as error:
        raise _unreadable(error) from error


def decode_reply(data: memoryview) -> Reply:
    """Decode what the stager answered."""
    _check_head(data)
    try:
        return _replies.decode(data[4:])
    except msgspec.MsgspecError as error:
        raise _unreadable(error) from error


def _check_head(data: memoryview) -> None:
    head = bytes(data[:4])
    if head == _HEAD:
        return
    if len(head) < 4 or head[:2] != b"HR":
        raise ProtocolError("A peer sent something that is not Headrace's protocol.")
    raise VersionMismatch(
        f"The peer speaks protocol version {int.from_bytes(head[2:4], 'little')}, this side "
        f"version {PROTOCOL_VERSION}; install the same release of Headrace on both."
    )


def _unreadable(error: Exception) -> ProtocolError:
    return ProtocolError(f"A peer sent a message that cannot be read: {error}.")
