"""What workers hand on to the coordinator: through staging the data, through the engine the news.

A *partial* is one record of the topic ``partials/<pipeline>/<partition>``: the columns that the
operators on a worker added to some frames, and the commands that they decided on. It is written
once, under the range of frames that it stands for; replayed, it is dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from bridge.codec import decode_batch, encode_batch
from bridge.commands import Command
from bridge.engines.outcome import Numbered
from bridge.errors import ProtocolError
from bridge.frames import FrameBatch

__all__ = [
    "PARTIALS",
    "Partial",
    "PartitionReport",
    "decode_partial",
    "encode_end",
    "encode_partial",
    "partial_topic",
]

PARTIALS = "partials/"

_encode = msgspec.msgpack.Encoder().encode
_command = msgspec.msgpack.Decoder(Command)


def partial_topic(pipeline: str, partition: str) -> str:
    """Return the topic of one partition's partials."""
    return f"{PARTIALS}{pipeline}/{partition.replace('#', '/')}"


class Partial:
    """What came of the frames ``first`` to ``stop`` on a worker.

    Attributes
    ----------
    batch
        The frames that are left, with the columns that operators added; perhaps none.
    first, stop
        Range of source offsets.
    put
        Unix time at which the newest of the frames was put.
    quarantined
        Frames set aside.
    variables
        Names of the stream's own variables.
    commands
        What was decided, in order.
    is_end
        The stream has ended before `first`; there are no frames.
    is_target
        An operator told of a target reached.
    """

    __slots__ = (
        "batch",
        "commands",
        "first",
        "is_end",
        "is_target",
        "put",
        "quarantined",
        "stop",
        "variables",
    )

    def __init__(self, batch: FrameBatch, meta: Mapping[str, Any]) -> None:
        try:
            self.batch = batch
            self.first, self.stop = int(meta["first"]), int(meta["stop"])
            self.put = float(meta.get("put", 0.0))
            self.quarantined = int(meta.get("quarantined", 0))
            self.variables = tuple(str(v) for v in meta.get("variables", ()))
            self.is_end = bool(meta.get("end", False))
            self.is_target = bool(meta.get("target", False))
            self.commands = [
                Numbered(int(offset), _command.decode(data))
                for offset, data in meta.get("commands", ())
            ]
        except (KeyError, TypeError, ValueError, msgspec.MsgspecError) as error:
            raise ProtocolError(f"A partial result cannot be read: {error!r}.") from error

    @property
    def simulation(self) -> str:
        """Whose frames."""
        return self.batch.simulation


def encode_partial(
    batch: FrameBatch,
    *,
    first: int,
    stop: int,
    put: float,
    quarantined: int,
    variables: tuple[str, ...],
    commands: list[Numbered],
    is_target: bool = False,
) -> bytearray:
    """Encode a partial; see `Partial`."""
    meta = {
        "first": first,
        "stop": stop,
        "put": put,
        "quarantined": quarantined,
        "variables": variables,
        "commands": [(n.offset, _encode(n.command)) for n in commands],
        "target": is_target,
    }
    return encode_batch(batch, meta=meta)


def encode_end(simulation: str, position: int, commands: list[Numbered]) -> bytearray:
    """Encode the news that a stream has ended at a position."""
    meta = {
        "first": position,
        "stop": position + 1,
        "end": True,
        "commands": [(n.offset, _encode(n.command)) for n in commands],
    }
    return encode_batch(FrameBatch.from_arrays(simulation, {}), meta=meta)


def decode_partial(data: bytes | bytearray | memoryview) -> Partial:
    """Decode a partial.

    Raises
    ------
    ProtocolError
        If it is none, or damaged (`CorruptData`).
    """
    return Partial(*decode_batch(data))


class PartitionReport(msgspec.Struct, frozen=True, array_like=True):
    """How a worker is getting on with one partition; all counts since the job began.

    Attributes
    ----------
    partition
        Which one.
    position
        Offset of the next frame to be analysed.
    step, time
        The simulation's step and time of the newest analysed frame.
    frames, batches, quarantined, missed
        Frames that came, in how many batches, those set aside, and those released before they were
        read.
    replayed
        Frames analysed again, whose results were stored before.
    finished
        The stream has ended, and everything of it was analysed.
    seconds
        Operator to time spent in it by this worker process, in seconds.
    worker
        Which process.
    put, stamp
        Unix times at which the newest frame was put, and at which its results were stored.
    states
        Keyed operator to bytes of its state of this partition, when it was last saved.
    """

    partition: str
    position: int
    step: int = -1
    time: float = 0.0
    frames: int = 0
    batches: int = 0
    quarantined: int = 0
    missed: int = 0
    replayed: int = 0
    finished: bool = False
    seconds: dict[str, float] = {}
    worker: str = ""
    put: float = 0.0
    stamp: float = 0.0
    states: dict[str, int] = {}

    def encode(self) -> bytes:
        """Return the report as bytes."""
        return _encode(self)

    @classmethod
    def decode(cls, data: bytes) -> PartitionReport:
        """Read what `encode` returned.

        Raises
        ------
        ProtocolError
            If it is something else.
        """
        try:
            return _report.decode(data)
        except msgspec.MsgspecError as error:
            raise ProtocolError(f"A worker's report cannot be read: {error}.") from error


_report = msgspec.msgpack.Decoder(PartitionReport)
