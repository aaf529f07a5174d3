"""What steers a simulation: capabilities, commands, acknowledgements; and events for people."""

from __future__ import annotations

import math
from typing import Any, Literal

import msgspec

__all__ = [
    "COMMAND_KINDS",
    "Acknowledgement",
    "Approval",
    "ApprovalWord",
    "Capability",
    "Command",
    "CommandKind",
    "Decision",
    "Event",
    "FrameReference",
    "Outcome",
    "Verdict",
]

CommandKind = Literal["set", "restart", "pause", "resume", "stop", "interval"]
"""Set a parameter, restart from a frame, pause, resume, stop, change the output interval."""

COMMAND_KINDS: tuple[CommandKind, ...] = ("set", "restart", "pause", "resume", "stop", "interval")

Outcome = Literal["applied", "refused", "expired"]
Verdict = Literal["sent", "refused", "dry_run", "awaiting_approval", "denied"]
ApprovalWord = Literal["approve", "deny"]


class Capability(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something that a simulation lets others do to it, with its bounds.

    Attributes
    ----------
    kind
        Kind of command that is accepted.
    parameter
        Name of the parameter, for ``set``.
    minimum, maximum
        Inclusive bounds of the value, in `unit`; for ``set`` and ``interval``.
    unit
        Unit of the value.
    description
        One sentence for people.
    """

    kind: CommandKind
    parameter: str = ""
    minimum: float = -math.inf
    maximum: float = math.inf
    unit: str = ""
    description: str = ""


class FrameReference(msgspec.Struct, frozen=True):
    """A frame named by where it lies.

    Attributes
    ----------
    simulation
        Whose stream.
    offset
        Position in that stream.
    """

    simulation: str
    offset: int


class Command(msgspec.Struct, frozen=True, omit_defaults=True):
    """One instruction to one simulation.

    Attributes
    ----------
    id
        Unique and made from what the command was computed from; empty until the engine numbers it.
    kind
        What to do.
    simulation
        Whom it is for.
    parameter, value
        For ``set``: what, and its new value in the capability's unit. For ``interval``: the value
        is the number of steps between frames.
    frame
        For ``restart``: the frame to restart from.
    state
        For ``restart``: the frame's arrays inline (`bridge.codec.encode_state`), so that no look-up
        is needed; empty to look `frame` up in staging.
    velocities
        For ``restart``: keep those of the frame (or the present ones), or redraw them.
    reason
        Why, as a sentence for people.
    evidence
        The numbers behind the decision.
    author
        Policy, person or program that decided, with its version.
    expires
        Unix time in seconds after which the command must not be applied; 0 for never.
    at_step
        Step at which to apply it; None for the next occasion.
    """

    kind: CommandKind
    simulation: str
    id: str = ""
    parameter: str = ""
    value: float | None = None
    frame: FrameReference | None = None
    state: bytes = b""
    velocities: Literal["keep", "redraw"] = "redraw"
    reason: str = ""
    evidence: dict[str, Any] = {}
    author: str = ""
    expires: float = 0.0
    at_step: int | None = None


class Acknowledgement(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of a command.

    Attributes
    ----------
    command
        The command's id.
    simulation
        Who answers. For one that ended before it looked at a command, the stager does.
    outcome
        Applied, refused or expired.
    step, time
        The simulation's step and time at which it was applied or refused.
    reason
        Why it was refused; empty when applied.
    incarnation
        Life of the simulation that answers.
    stamp
        Unix time in seconds.
    """

    command: str
    simulation: str
    outcome: Outcome
    step: int = -1
    time: float = math.nan
    reason: str = ""
    incarnation: int = 0
    stamp: float = 0.0


class Decision(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line of the ledger: a command and what the guard said of it.

    Attributes
    ----------
    command
        The command, numbered.
    verdict
        Sent, refused, not sent because of a dry run, or waiting for approval.
    reason
        Why it was not sent; or, of a command that somebody approved, who and why.
    stamp
        Unix time in seconds.
    until
        Of a command that waits for approval, and of the word that ends the wait: Unix time in
        seconds at which `default` holds; 0 for a command that did not wait.
    default
        What becomes of a command that waits if nobody says anything in time.
    by
        Who spoke in place of the guard: a person who sent the command, approved or denied it, or
        ``time limit``; empty for the guard itself.
    """

    command: Command
    verdict: Verdict
    reason: str = ""
    stamp: float = 0.0
    until: float = 0.0
    default: ApprovalWord = "deny"
    by: str = ""


class Approval(msgspec.Struct, frozen=True, omit_defaults=True):
    """A word on a command that waits for approval; the first one in the log holds.

    Attributes
    ----------
    command
        The command's id.
    word
        Approve or deny.
    by
        Who says so; ``time limit`` where nobody did in time.
    reason
        Why, as a sentence for people.
    key
        Of the request by which it came, so that a repeat is known as such.
    stamp
        Unix time in seconds.
    """

    command: str
    word: ApprovalWord
    by: str = ""
    reason: str = ""
    key: str = ""
    stamp: float = 0.0


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something that people should know of: a drop, a gap, a restart, a failure.

    Attributes
    ----------
    kind
        Short word, for example ``dropped``, ``gap``, ``quarantined``, ``target_reached``.
    message
        One sentence.
    simulation
        Whom it concerns; empty for the run.
    source
        Who tells: an operator, the stager, an adapter.
    level
        How grave it is.
    stamp
        Unix time in seconds.
    data
        The numbers.
    """

    kind: str
    message: str
    simulation: str = ""
    source: str = ""
    level: Literal["info", "warning", "error"] = "info"
    stamp: float = 0.0
    data: dict[str, Any] = {}
