"""The desk at which people steer: they approve and deny, and send commands of their own."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Literal, get_args

import msgspec
import xxhash

from bridge.commands import (
    Approval,
    ApprovalWord,
    Command,
    CommandKind,
    Decision,
    FrameReference,
)
from bridge.errors import (
    CommandRefused,
    ConfigError,
    SteeringError,
    UnknownCommand,
)
from bridge.staging.client_like import ClientLike
from bridge.steering.approvals import DECISIONS, Case
from bridge.steering.bounds import describe_command
from bridge.steering.clerk import LOST, TIME_LIMIT, Clerk, join
from bridge.steering.desk_log import DeskLog, StagerAway
from bridge.steering.guard import GuardRules

__all__ = ["TIME_LIMIT", "Desk"]

MANUAL = "manual/"
RETRY = 5.0
"""Seconds after which what could not be done for one command is tried again."""


class Desk:
    """Hears people, and carries out what they say, each thing once.

    Any number of desks may be open on the same log, in any number of processes: the first word on
    a command holds, and all of them tell the same. Any thread may call; calls wait for each other.

    Parameters
    ----------
    connect
        Makes a client to staging; called when one is needed, again whenever the way was cut.
    rules
        What the run allows. Without, those hold that the pipelines announced in the log: those of
        the pipeline that asks for an approval, and all of them for a person's own command.
    retry
        Seconds after which what could not be done for one command is tried again.

    Notes
    -----
    Every method raises `ConnectionLost` or `NobodyListening` where the stager is away; the same
    call can be made again with the same key, and has its effect once. Of several stagers, one that
    is away holds up the commands to its own simulations alone, as does whatever else keeps one
    command from being carried out: those behind it go on, people are told by an event, and it is
    tried again.
    """

    def __init__(
        self,
        connect: Callable[[], ClientLike],
        rules: GuardRules | None = None,
        *,
        retry: float = RETRY,
    ) -> None:
        self._log = DeskLog(connect, retry)
        self._clerk = Clerk(self._log, rules, retry)
        self._lock = threading.RLock()

    def __enter__(self) -> Desk:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; it is made anew if the desk is used again."""
        with self._lock:
            self._log.close()

    # ----------------------------------------------------------------- asking

    @property
    def unreadable(self) -> dict[str, int]:
        """Topic to records that could not be read, and were passed over."""
        return dict(self._log.unreadable.counts)

    def waiting(self) -> list[Decision]:
        """Return the decisions that wait for a word, oldest first."""
        with self._lock:
            self._log.read()
            return self._log.book.waiting()

    # --------------------------------------------------------------- speaking

    def decide(
        self, command: str, word: ApprovalWord, *, author: str, reason: str = "", key: str = ""
    ) -> dict[str, Any]:
        """Approve or deny a command that waits; the first word in the log holds.

        Bounds, rules and rates are checked again, so that an approved command may be refused.

        Parameters
        ----------
        command
            Its id.
        word
            ``approve`` or ``deny``.
        author, reason
            Who says so, and why.
        key
            Names the request: the same one again is no second word.

        Returns
        -------
        dict
            `id`; `state` (``approved`` or ``denied``), `by`, `reason` and `stamp` of the word that
            holds; `already`, true if it is somebody else's; `verdict` and `verdict_reason` of the
            decision that followed, None while it could not be made; `problem`, why that is or why
            the command is not on its way yet, as a sentence, empty if all is well.

        Raises
        ------
        UnknownCommand
            If no such command was decided on.
        CommandRefused
            If it did not wait for anybody, or author or reason are no texts that can be stored.
        SteeringError
            If somebody has spoken, and that word cannot be read.
        """
        if word not in get_args(ApprovalWord):
            raise ConfigError(f"A person says 'approve' or 'deny', not {word!r}.")
        with self._lock:
            now = time.time()
            self._clerk.forget_problem(command)
            self._clerk.carry_out(now)
            case = self._find(command)
            if case.approval is None and case.said is None:
                key = key or secrets.token_hex(8)
                self._clerk.speak(Approval(command, word, _name(author), reason, key, now))
                self._clerk.carry_out(now)
            return _tell(command, self._find(command), key, self._clerk.problem(command))

    def send(
        self,
        kind: CommandKind,
        simulation: str,
        *,
        author: str,
        reason: str = "",
        key: str = "",
        parameter: str = "",
        value: float | None = None,
        frame: FrameReference | None = None,
        velocities: Literal["keep", "redraw"] = "redraw",
        expires: float = 0.0,
        at_step: int | None = None,
    ) -> dict[str, Any]:
        """Send a person's own command, if capabilities and rules allow it.

        Nobody is asked for approval, and rate limits do not hold it up; it counts against them.

        Parameters
        ----------
        kind, simulation, parameter, value, frame, velocities, expires, at_step
            See `bridge.commands.Command`.
        author, reason
            Who sends it, and why.
        key
            Makes the command's id: the same key again is the same command, and is not sent twice.

        Returns
        -------
        dict
            `id`, `verdict` (``sent``, ``refused`` or ``dry_run``), `reason`, `already`, and
            `problem`: why it is not on its way yet, as a sentence, empty if all is well.

        Raises
        ------
        CommandRefused
            If the key was used for another command, or something in it cannot be stored.
        """
        if kind not in get_args(CommandKind):
            known = ", ".join(get_args(CommandKind))
            raise ConfigError(f"There is no command {kind!r}; there are {known}.")
        command = Command(
            kind,
            simulation,
            id=MANUAL + _identify(key or secrets.token_hex(8)),
            parameter=parameter,
            value=None if value is None else float(value),
            frame=frame,
            velocities=velocities,
            reason=reason,
            author=_name(author),
            expires=expires,
            at_step=at_step,
        )
        with self._lock:
            self._log.read()
            case = self._log.book.find(command.id)
            already = case is not None
            if case is None:
                now = time.time()
                verdict, why = self._clerk.judge(command, now, rates=False)
                decision = Decision(command, verdict, reason=why, stamp=now, by=command.author)
                self._log.append(DECISIONS, command.id, decision)
                self._log.read()
                case = self._log.book.find(command.id)
            said = None if case is None else case.said
            if said is None:
                raise SteeringError(LOST.format(command.id))
            if _content(said.command) != _content(command):
                raise CommandRefused(
                    f"The key {key!r} was used to {describe_command(said.command)!r} for "
                    f"{said.command.simulation!r}; give another command another key."
                )
            self._clerk.forget_problem(command.id)
            self._clerk.send_rest()
            problem = self._clerk.problem(command.id)
            return {
                "id": command.id,
                "verdict": said.verdict,
                "reason": join(said.reason, problem),
                "already": already,
                "problem": problem,
            }

    def all(
        self, kind: CommandKind, *, author: str, reason: str = "", key: str = ""
    ) -> list[dict[str, Any]]:
        """Send every simulation that has not ended the same command; see `send`.

        Returns
        -------
        list of dict
            As `send` returns, with `simulation` besides, in the order of the names. Where one
            cannot be sent anything, `verdict` is None and `reason` says why.
        """
        if kind not in ("pause", "resume", "stop"):
            raise ConfigError(f"All are told to pause, resume or stop, not {kind!r}.")
        with self._lock:
            names = self._log.simulations()
            return self.send_each(kind, names, author=author, reason=reason, key=key)

    def send_each(
        self, kind: CommandKind, simulations: Iterable[str], *, key: str = "", **given: Any
    ) -> list[dict[str, Any]]:
        """Send several simulations the same command, whatever becomes of each; see `all`.

        Parameters
        ----------
        kind, simulations
            What, and to whom.
        key
            Makes the ids, together with the simulations' names.
        **given
            As for `send`.
        """
        key = key or secrets.token_hex(8)
        out = []
        for name in simulations:
            own = f"{key}/{name}"
            try:
                told = self.send(kind, name, key=own, **given)
            except (StagerAway, SteeringError) as error:
                told = {
                    "id": MANUAL + _identify(own),
                    "verdict": None,
                    "reason": str(error),
                    "already": False,
                    "problem": str(error),
                }
            out.append({"simulation": name, **told})
        return out

    # ------------------------------------------------------------ carrying out

    def tick(self, now: float | None = None) -> int:
        """Carry out what was said, and the default where time is up; call it once a second or so.

        Returns
        -------
        int
            Commands that still wait.
        """
        with self._lock:
            self._clerk.carry_out(time.time() if now is None else now)
            return len(self._log.book.waiting())

    def conclude(self, author: str, reason: str, pipeline: str = "") -> int:
        """Deny whatever waits, since the run is over; returns how many did.

        What was approved and cannot be sent any more is refused, so that the ledger has an end for
        everything.

        Parameters
        ----------
        author, reason
            Who says so, and why.
        pipeline
            Only what this one asked for.
        """
        with self._lock:
            head = f"{pipeline}/" if pipeline else ""
            return self._clerk.conclude(time.time(), author, reason, head)

    # --------------------------------------------------------------------- log

    def _find(self, command: str) -> Case:
        """Return a command that waits, or has waited, for a word."""
        case = self._log.book.find(command)
        decision = None if case is None else case.asked or case.said
        if case is None or decision is None:
            raise UnknownCommand(f"No command {command!r} was decided on in this run.")
        if decision.verdict != "awaiting_approval" and not decision.until:
            raise CommandRefused(
                f"The command {command!r} does not wait for approval: the verdict was "
                f"{decision.verdict!r} at once."
            )
        return case


def _tell(command: str, case: Case, key: str, problem: str) -> dict[str, Any]:
    approval, said = case.approval, case.said
    if approval is None and said is not None:
        # The word itself cannot be read, but what it brought about can.
        word: ApprovalWord = "deny" if said.verdict == "denied" else "approve"
        approval = Approval(command, word, said.by, stamp=said.stamp)
    if approval is None:
        raise SteeringError(LOST.format(command))
    return {
        "id": command,
        "state": "approved" if approval.word == "approve" else "denied",
        "by": approval.by,
        "reason": approval.reason,
        "stamp": approval.stamp,
        "already": not key or approval.key != key,
        "verdict": None if said is None else said.verdict,
        "verdict_reason": join("" if said is None else said.reason, problem),
        "problem": problem,
    }


def _content(command: Command) -> bytes:
    """Return what makes two commands the same, whoever gives them and why."""
    # As bytes, since a number that is none is not even equal to itself.
    return msgspec.msgpack.encode(msgspec.structs.replace(command, reason="", author=""))


def _identify(key: str) -> str:
    """Return the key if it can be read in an id, and a hash of it if not."""
    if len(key) <= 100 and key.isascii() and key.isprintable():
        return key
    return xxhash.xxh3_128_hexdigest(key.encode())


def _name(author: str) -> str:
    return author.strip() or "somebody"
