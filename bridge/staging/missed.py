"""Commands that a simulation never looked at, because it had ended: the stager answers them.

A simulation refuses what has come to it by its last look. What is stored behind that look reaches
nobody. Only the stager knows in one order with everything else that no more will come, so it gives
the answer, and notes that a later life of the simulation has nothing to do with the command.
"""

from __future__ import annotations

import logging
from typing import TypeVar

import msgspec

from bridge.commands import Acknowledgement
from bridge.errors import CorruptSegment, HeadraceError
from bridge.staging.catalogue import Catalogue
from bridge.staging.frame_log import FrameLog
from bridge.staging.record_log import RecordLog

__all__ = ["COMMANDS", "answer_missed"]

log = logging.getLogger(__name__)

COMMANDS = "commands/"
"""How the names of topics of commands begin; a simulation's name follows."""


class _Sent(msgspec.Struct, frozen=True):
    """What counts of a command here."""

    id: str


class _Answered(msgspec.Struct, frozen=True):
    """What counts of an acknowledgement here."""

    command: str


T = TypeVar("T")

_sent = msgspec.msgpack.Decoder(_Sent)
_answered = msgspec.msgpack.Decoder(_Answered)
_encode = msgspec.msgpack.Encoder().encode


def answer_missed(catalogue: Catalogue, simulation: str, now: float) -> str | None:
    """Refuse in the name of a simulation that has ended what it has not answered.

    Each command is answered once, however often this is called. Of a simulation that has not
    finished (it runs, or it was killed and may come back) nothing is answered.

    Parameters
    ----------
    now
        Unix time in seconds, for the answers.

    Returns
    -------
    str or None
        The topic that has new answers; None if there are none.
    """
    frames = catalogue.get(f"frames/{simulation}")
    commands = catalogue.get(f"{COMMANDS}{simulation}")
    if not (isinstance(frames, FrameLog) and frames.finished and isinstance(commands, RecordLog)):
        return None
    group, topic = f"simulation/{simulation}", f"acks/{simulation}"
    position = max(commands.low, commands.groups.get(group, 0))
    if position >= commands.end:
        return None
    known: set[str] = set()
    found = catalogue.get(topic)
    if isinstance(found, RecordLog):
        known.update(
            answer.command for answer in _read(found, found.low, _answered) if answer is not None
        )
    told = False
    try:
        for command in _read(commands, position, _sent):
            if command is None or command.id in known:
                continue
            known.add(command.id)
            answer = _encode(_refuse(command.id, simulation, frames, now))
            catalogue.records(topic, None).append(
                [memoryview(answer)], writer="", first=-1, stop=-1, stamp=now
            )
            told = True
    except HeadraceError as error:
        # What could not be stored is answered when the next command comes, or at the next start.
        log.warning("Commands to %r, which has ended, have no answer yet: %s", simulation, error)
    else:
        commands.commit_group(group, commands.end)
    return topic if told else None


def _refuse(command: str, simulation: str, frames: FrameLog, now: float) -> Acknowledgement:
    last = f" Its last frame was of step {frames.last_step}." if frames.end else ""
    return Acknowledgement(
        command,
        simulation,
        "refused",
        step=frames.last_step,
        time=frames.last_time,
        reason=f"The simulation ended before it looked at the command.{last}",
        incarnation=frames.incarnation,
        stamp=now,
    )


def _read(topic: RecordLog, position: int, decoder: msgspec.msgpack.Decoder[T]) -> list[T | None]:
    """Return what is kept from a position on; None for a record that cannot be read."""
    out: list[T | None] = []
    for record in topic.live():
        if record.offset < position:
            continue
        try:
            out.append(decoder.decode(topic.data(record)))
        except (CorruptSegment, msgspec.MsgspecError, UnicodeDecodeError):
            out.append(None)
    return out
