"""The desk at which people steer: they approve and deny, and send commands of their own."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import msgspec
import xxhash

from bridge.commands import (
    Approval,
    ApprovalWord,
    Capability,
    Command,
    CommandKind,
    Decision,
    FrameReference,
    Verdict,
)
from bridge.errors import (
    CommandRefused,
    ConfigError,
    ConnectionLost,
    NobodyListening,
    OffsetOutOfRange,
    SteeringError,
    UnknownCommand,
)
from bridge.staging.client_like import ClientLike
from bridge.steering.approvals import APPROVALS, DECISIONS, ApprovalBook, Case
from bridge.steering.bounds import describe_command
from bridge.steering.guard import CapabilityBook, Guard, GuardRules
from bridge.steering.rates import Rates

__all__ = ["TIME_LIMIT", "Desk"]

TIME_LIMIT = "time limit"
"""Who speaks where nobody did in time."""

RULES = "rules/"
MANUAL = "manual/"

_LOST = (
    "The decision on {!r} was stored, but is not in the log any more; it may have been dropped "
    "because the topic is full."
)

_encode = msgspec.msgpack.Encoder().encode
_rules = msgspec.msgpack.Decoder(GuardRules)


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

    Notes
    -----
    Every method raises `ConnectionLost` or `NobodyListening` where the stager is away; the same
    call can be made again with the same key, and has its effect once.
    """

    def __init__(self, connect: Callable[[], ClientLike], rules: GuardRules | None = None) -> None:
        self._connect = connect
        self._given = rules
        self._client: ClientLike | None = None
        self._lock = threading.RLock()
        self._capabilities = CapabilityBook(self._ask_capabilities)
        self._instance = ""
        self._forget()

    def __enter__(self) -> Desk:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; it is made anew if the desk is used again."""
        with self._lock:
            client, self._client = self._client, None
            if client is not None:
                client.close()

    # ----------------------------------------------------------------- asking

    def waiting(self) -> list[Decision]:
        """Return the decisions that wait for a word, oldest first."""
        with self._lock:
            self._read()
            return self._book.waiting()

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
            decision that followed.

        Raises
        ------
        UnknownCommand
            If no such command was decided on.
        CommandRefused
            If it did not wait for anybody.
        """
        if word not in get_args(ApprovalWord):
            raise ConfigError(f"A person says 'approve' or 'deny', not {word!r}.")
        with self._lock:
            now = time.time()
            self._carry_out(now)
            if self._find(command).approval is None:
                key = key or secrets.token_hex(8)
                self._speak(Approval(command, word, _name(author), reason, key, now))
                self._carry_out(now)
            return _tell(command, self._find(command), key)

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
            `id`, `verdict` (``sent``, ``refused`` or ``dry_run``), `reason`, `already`.

        Raises
        ------
        CommandRefused
            If the key was used for another command.
        """
        if kind not in get_args(CommandKind):
            known = ", ".join(get_args(CommandKind))
            raise ConfigError(f"There is no command {kind!r}; there are {known}.")
        command = Command(
            kind,
            simulation,
            id=MANUAL + _identify(key or secrets.token_hex(8)),
            parameter=parameter,
            value=value,
            frame=frame,
            velocities=velocities,
            reason=reason,
            author=_name(author),
            expires=expires,
            at_step=at_step,
        )
        with self._lock:
            self._read()
            case = self._book.find(command.id)
            already = case is not None
            if case is None:
                now = time.time()
                verdict, why = self._judge(command, now, rates=False)
                decision = Decision(command, verdict, reason=why, stamp=now, by=command.author)
                self._append(DECISIONS, command.id, decision)
                self._read()
                case = self._book.find(command.id)
            said = None if case is None else case.said
            if said is None:
                raise SteeringError(_LOST.format(command.id))
            if _content(said.command) != _content(command):
                raise CommandRefused(
                    f"The key {key!r} was used to {describe_command(said.command)!r} for "
                    f"{said.command.simulation!r}; give another command another key."
                )
            self._send_rest()
            return {
                "id": command.id,
                "verdict": said.verdict,
                "reason": said.reason,
                "already": already,
            }

    def all(
        self, kind: CommandKind, *, author: str, reason: str = "", key: str = ""
    ) -> list[dict[str, Any]]:
        """Send every simulation that has not ended the same command; see `send`.

        Returns
        -------
        list of dict
            As `send` returns, with `simulation` besides, in the order of the names.
        """
        if kind not in ("pause", "resume", "stop"):
            raise ConfigError(f"All are told to pause, resume or stop, not {kind!r}.")
        key = key or secrets.token_hex(8)
        out = []
        with self._lock:
            topics = self._call(lambda client: client.topics("frames/", schemas=False))
            for topic in sorted(topics, key=lambda t: t.name):
                if not topic.finished:
                    name = topic.name.removeprefix("frames/")
                    told = self.send(kind, name, author=author, reason=reason, key=f"{key}/{name}")
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
            self._carry_out(time.time() if now is None else now)
            return len(self._book.waiting())

    def conclude(self, author: str, reason: str) -> int:
        """Deny whatever waits, since the run is over; returns how many did."""
        with self._lock:
            now = time.time()
            self._carry_out(now)
            waiting = self._book.waiting()
            for decision in waiting:
                name = decision.command.id
                self._append(APPROVALS, name, Approval(name, "deny", author, reason, "", now))
            self._carry_out(now)
            return len(waiting)

    def _carry_out(self, now: float) -> None:
        self._read()
        for decision in self._book.overdue(now):
            word = decision.default
            reason = (
                f"Nobody said anything within {decision.until - decision.stamp:.3g} s, and then "
                f"the rules say {word}."
            )
            self._speak(Approval(decision.command.id, word, TIME_LIMIT, reason, "", now))
        while spoken := self._book.spoken():
            # One after the other, in the order of the log, so that each is judged by the rates
            # that those before it left, whoever carries them out.
            decision, approval = spoken[0]
            self._append(DECISIONS, approval.command, self._follow(decision, approval, now))
            self._read()
            if self._book.spoken()[:1] == [(decision, approval)]:
                raise SteeringError(_LOST.format(approval.command))
        self._send_rest()

    def _follow(self, asked: Decision, approval: Approval, now: float) -> Decision:
        """Return the decision that a word brings about."""
        said: dict[str, Any] = {"until": asked.until, "default": asked.default, "by": approval.by}
        why = f": {approval.reason}" if approval.reason else "."
        if approval.word == "deny":
            reason = f"Denied by {approval.by}{why}"
            return Decision(asked.command, "denied", reason=reason, stamp=now, **said)
        verdict, fault = self._judge(asked.command, now, rates=True)
        reason = f"Approved by {approval.by}{why} {fault}".rstrip()
        return Decision(asked.command, verdict, reason=reason, stamp=now, **said)

    def _judge(self, command: Command, now: float, *, rates: bool) -> tuple[Verdict, str]:
        """Return what rules and simulation say to a command at present, and why."""
        guards = [Guard(self._capabilities, r, self._rates) for r in self._rules_of(command.id)]
        fault = self._find_end(command)
        for guard in guards:
            fault = fault or guard.find_refusal(command, now)
            fault = fault or (guard.find_excess(command, now) if rates else "")
        if fault:
            return "refused", fault
        if any(guard.rules.dry_run for guard in guards):
            return "dry_run", "The run is a dry run."
        return "sent", ""

    def _find_end(self, command: Command) -> str:
        topic = f"frames/{command.simulation}"
        found = self._call(lambda client: client.topics(topic, schemas=False))
        if any(t.name == topic and t.finished for t in found):
            return f"The simulation {command.simulation!r} has ended."
        return ""

    def _send_rest(self) -> None:
        for command in self._book.unsent():
            topic = f"commands/{command.simulation}"
            self._append(topic, command.id, command)
            self._book.note_sent(command.id)

    # ------------------------------------------------------------------- rules

    def _rules_of(self, command: str) -> list[GuardRules]:
        if self._given is not None:
            return [self._given]
        theirs = [n for n in self._announced if command.startswith(f"{n}/")]
        if theirs:
            return [self._announced[max(theirs, key=len)]]
        # A person's own command is of no pipeline, and so holds to the rules of each.
        return list(self._announced.values()) or [GuardRules()]

    def _ask_capabilities(self) -> dict[str, Sequence[Capability]]:
        topics = self._call(lambda client: client.topics("frames/", schemas=True))
        return {t.name.removeprefix("frames/"): t.capabilities for t in topics}

    # --------------------------------------------------------------------- log

    def _forget(self) -> None:
        self._positions: dict[str, int] = {DECISIONS: 0, APPROVALS: 0}
        self._book = ApprovalBook()
        self._rates = Rates()
        self._announced: dict[str, GuardRules] = {}

    def _find(self, command: str) -> Case:
        """Return a command that waits, or has waited, for a word."""
        case = self._book.find(command)
        decision = None if case is None else case.asked or case.said
        if case is None or decision is None:
            raise UnknownCommand(f"No command {command!r} was decided on in this run.")
        if decision.verdict != "awaiting_approval":
            raise CommandRefused(
                f"The command {command!r} does not wait for approval: the verdict was "
                f"{decision.verdict!r} at once."
            )
        return case

    def _speak(self, approval: Approval) -> None:
        self._append(APPROVALS, approval.command, approval)
        self._read()

    def _append(self, topic: str, writer: str, value: msgspec.Struct) -> None:
        data = _encode(value)
        if topic != APPROVALS:
            # No pipeline's writer is called so: pipelines write there, too.
            writer = f"desk:{writer}"
        self._call(lambda client: client.append(topic, [data], writer=writer, first=0, stop=1))

    def _read(self) -> None:
        """Read all that is in the log by now."""
        while True:
            more, instance = self._call(self._read_some)
            if instance != self._instance:
                # Another stager, which may hold less than the last one: begin anew with it.
                if self._instance:
                    self._forget()
                self._instance, more = instance, True
            if not more:
                return

    def _read_some(self, client: ClientLike) -> tuple[bool, str]:
        try:
            fetched = client.fetch(self._positions, follow=RULES, wait=0.001)
        except OffsetOutOfRange:
            self._forget()
            return True, client.instance
        with fetched as got:
            for record in got.records:
                if record.topic.startswith(RULES):
                    self._announced[record.topic.removeprefix(RULES)] = _rules.decode(record.data)
                    continue
                decision = self._book.add_record(record.topic, record.data)
                if decision is not None and decision.verdict in ("sent", "dry_run"):
                    self._rates.note(decision.command.simulation, decision.stamp)
            self._positions.update(got.positions)
            return bool(got.records), client.instance

    def _call(self, act: Callable[[ClientLike], Any]) -> Any:
        try:
            if self._client is None:
                self._client = self._connect()
            return act(self._client)
        except (ConnectionLost, NobodyListening):
            self.close()
            raise


def _tell(command: str, case: Case, key: str) -> dict[str, Any]:
    approval, said = case.approval, case.said
    assert approval is not None
    return {
        "id": command,
        "state": "approved" if approval.word == "approve" else "denied",
        "by": approval.by,
        "reason": approval.reason,
        "stamp": approval.stamp,
        "already": not key or approval.key != key,
        "verdict": None if said is None else said.verdict,
        "verdict_reason": "" if said is None else said.reason,
    }


def _content(command: Command) -> Command:
    """Return what makes two commands the same, whoever gives them and why."""
    return msgspec.structs.replace(command, reason="", author="")


def _identify(key: str) -> str:
    """Return the key if it can be read in an id, and a hash of it if not."""
    if len(key) <= 100 and key.isascii() and key.isprintable():
        return key
    return xxhash.xxh3_128_hexdigest(key.encode())


def _name(author: str) -> str:
    return author.strip() or "somebody"
