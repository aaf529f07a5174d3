"""Frames that came over a socket: the stager copies them into a segment of its own."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from bridge.errors import ProtocolError
from bridge.staging.frame_log import FrameLog, segment_size
from bridge.staging.layout import chunk_layout
from bridge.staging.messages import Commit, Part
from bridge.staging.topic import Held

__all__ = ["Waiting", "place_inline"]


Waiting = tuple[Commit, Sequence[memoryview]]


def place_inline(
    topic: FrameLog, request: Commit, payload: Sequence[memoryview]
) -> tuple[Commit | None, Waiting | None]:
    """Copy a commit's chunks into segments of the topic, as many as there is room for.

    Parameters
    ----------
    payload
        One buffer a part: the rows as a chunk of their own.

    Returns
    -------
    placed
        What was copied, with parts that name where the chunks lie now; None if there is no room.
    rest
        What has to wait for room, with its buffers; None if that is nothing.

    Raises
    ------
    ProtocolError
        If the buffers do not have the sizes that the parts declare.
    """
    if len(payload) != len(request.parts):
        raise ProtocolError(
            f"A commit to {topic.name} announces {len(request.parts)} chunks; {len(payload)} came."
        )
    for part, data in zip(request.parts, payload, strict=True):
        size = chunk_layout(topic.schema, part.count, lead=part.lead, ids=part.ids).nbytes
        if part.row or part.capacity != part.count or len(data) != size:
            raise ProtocolError(
                f"A chunk sent to {topic.name} has {len(data)} bytes; its {part.count} frames "
                f"take {size}."
            )
    placed: list[Part] = []
    for part, data in zip(request.parts, payload, strict=True):
        held = _room(topic, len(data))
        if held is None:
            break
        held.segment.view[held.used : held.used + len(data)] = data
        placed.append(
            msgspec.structs.replace(part, segment=held.segment.number, position=held.used)
        )
        held.used += len(data)
    n = len(placed)
    if n == len(request.parts):
        return msgspec.structs.replace(request, parts=placed), None
    if not n:
        return None, (request, payload)
    first = _slice(request, slice(0, n))
    rest = _slice(request, slice(n, None))
    rest.sequence += sum(part.count for part in placed)
    first.parts = placed
    return first, (rest, payload[n:])


def _slice(request: Commit, which: slice) -> Commit:
    return msgspec.structs.replace(
        request,
        parts=request.parts[which],
        steps=request.steps[which],
        times=request.times[which],
        epochs=request.epochs[which],
    )


def _room(topic: FrameLog, size: int) -> Held | None:
    for held in reversed(topic.held.values()):
        if held.rank == -1 and not held.sealed:
            if held.used + size <= held.segment.size:
                return held
            held.sealed = True
    wanted = max(segment_size(topic.schema, topic.options), size)
    return topic.take_segment(wanted, -1, drop=topic.may_drop)
