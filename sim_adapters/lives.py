"""Earlier lives of a simulation: what they answered, whether they finished, where they ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from bridge.commands import Acknowledgement, FrameReference
from bridge.errors import OffsetOutOfRange, StagingError, UnknownTopic
from bridge.frames import Frame
from bridge.staging.connection import Connection
from bridge.staging.producer import Producer
from bridge.staging.spread import connect

__all__ = ["check_unused", "find_unfinished", "read_answered", "read_last_frame"]

_decoder = msgspec.msgpack.Decoder(Acknowledgement)


def read_answered(address: str, simulation: str, *, keys: Any, timeout: float) -> set[str]:
    """Return the ids of all commands that the simulation has acknowledged so far."""
    topic = f"acks/{simulation}"
    ids: set[str] = set()
    with connect(address, name=f"{simulation} (answered)", keys=keys, timeout=timeout) as client:
        for status in client.topics(topic, schemas=False):
            position = status.low if status.name == topic else status.end
            while position < status.end:
                with client.fetch({topic: position}, wait=0.0) as fetched:
                    ids.update(_decoder.decode(r.data).command for r in fetched.records)
                    position = max(fetched.positions[topic], position + 1)
    return ids


def check_unused(simulations: Sequence[str], connection: Connection) -> None:
    """Make sure that none of the streams holds frames.

    Raises
    ------
    StagingError
        If one does; the message says what to do.
    """
    for name, (frames, _) in _look(simulations, connection).items():
        if frames:
            raise StagingError(
                f"The stream of {name!r} holds {frames} frames of an earlier run already; resume "
                "that run, or give this one a stager or a name of its own."
            )


def find_unfinished(simulations: Sequence[str], connection: Connection) -> list[str]:
    """Return those simulations whose streams no earlier life has finished."""
    seen = _look(simulations, connection)
    return [name for name in simulations if not seen.get(name, (0, False))[1]]


def _look(simulations: Sequence[str], connection: Connection) -> dict[str, tuple[int, bool]]:
    wanted = {f"frames/{name}": name for name in simulations}
    with connect(
        connection.address,
        name=f"{simulations[0]} (look)",
        keys=connection.keys or None,
        timeout=connection.timeout,
    ) as client:
        topics = client.topics("frames/", schemas=False)
    return {wanted[t.name]: (t.end, t.finished) for t in topics if t.name in wanted}


def read_last_frame(producer: Producer, *, timeout: float) -> Frame | None:
    """Return the newest frame of the stream, None if there is none or it was released."""
    offset = producer.resumed.next_offset - 1
    if offset < 0:
        return None
    try:
        return producer.read_frame(FrameReference(producer.simulation, offset), timeout=timeout)
    except (OffsetOutOfRange, UnknownTopic):
        return None
