"""Who carries out what people said, and the default where nobody did, each thing once."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Iterator

from bridge.commands import Approval, ApprovalWord, Command, Decision, Event, Verdict
from bridge.errors import HeadraceError, SteeringError, TransportError
from bridge.steering.approvals import APPROVALS, DECISIONS
from bridge.steering.bounds import describe_command
from bridge.steering.desk_log import DeskLog, StagerAway
from bridge.steering.guard import Guard, GuardRules

__all__ = ["LOST", "TIME_LIMIT", "Clerk", "join"]

TIME_LIMIT = "time limit"
"""Who speaks where nobody did in time."""

MANY = 16
"""Commands of which it is cheaper to ask what is stored than to offer each."""

LOST = (
    "What was said on {!r} is stored, but cannot be read: the topic was full and dropped it, or it "
    "was written by another version of Headrace."
)


class Clerk:
    """Makes the decisions that words bring about, and sends what was decided.

    Nothing that fails for one command holds up another: it is noted, told of by an event, and tried
    again. `ConnectionLost` and `NobodyListening` are raised where no stager is there. One thread at
    a time uses it.

    Parameters
    ----------
    log
        What was asked and said.
    rules
        What the run allows; None for what the pipelines announced.
    retry
        Seconds after which what could not be done is tried again.
    """

    def __init__(self, log: DeskLog, rules: GuardRules | None, retry: float) -> None:
        self._log = log
        self._given = rules
        self._retry = retry
        # When it is tried again, and what the matter is; by the ids of commands.
        self._problems: dict[str, tuple[float, str]] = {}

    # ------------------------------------------------------------ carrying out

    def carry_out(self, now: float, *, final: str | None = None) -> None:
        """Do all that is to be done by now.

        Parameters
        ----------
        now
            Unix time in seconds.
        final
            What was approved and cannot be judged is refused, of the commands whose ids begin so.
        """
        self._log.read()
        overdue = self._log.book.overdue(now)
        for decision in overdue:
            word = decision.default
            reason = (
                f"Nobody said anything within {decision.until - decision.stamp:.3g} s, and then "
                f"the rules say {word}."
            )
            self._speak_for(decision.command, word, TIME_LIMIT, reason, now)
        if overdue:
            self._log.read()
            self._give_up(now)
        self._deny(now)
        done: set[str] = set()
        # One after the other, in the order of the log, so that each is judged by the rates that
        # those before it left, whoever carries them out.
        while spoken := [p for p in self._log.book.spoken() if p[1].command not in done]:
            for asked, approval in spoken:
                name = approval.command
                done.add(name)
                last = final is not None and name.startswith(final)
                if self._log.book.is_spoken(name) and (last or not self._rests(name)):
                    with self._alone(asked.command):
                        self._settle(asked, approval, now, final=last)
        self.send_rest()

    def conclude(self, now: float, by: str, reason: str, head: str) -> int:
        """Deny what waits, of the commands whose ids begin so; returns how many did."""
        self._problems.clear()
        self.carry_out(now)
        waiting = [d.command for d in self._log.book.waiting() if d.command.id.startswith(head)]
        for command in waiting:
            self._speak_for(command, "deny", by, reason, now)
        self.carry_out(now, final=head)
        return len(waiting)

    def speak(self, approval: Approval) -> None:
        """Say a word; the first one in the log holds, which was read when this returns."""
        self._log.append(APPROVALS, approval.command, approval)
        self._log.read()

    def _speak_for(
        self, command: Command, word: ApprovalWord, by: str, reason: str, now: float
    ) -> None:
        """Say a word where nobody has; it is not read yet when this returns."""
        with self._alone(command):
            self._log.append(APPROVALS, command.id, Approval(command.id, word, by, reason, "", now))

    def judge(self, command: Command, now: float, *, rates: bool) -> tuple[Verdict, str]:
        """Return what rules and simulation say to a command at present, and why."""
        status = self._log.look_at(command.simulation)
        declared = None if status is None else status.capabilities
        rules = self._rules_of(command)
        guards = [Guard(lambda simulation: declared, r, self._log.rates) for r in rules]
        fault = ""
        if status is not None and status.finished:
            fault = f"The simulation {command.simulation!r} has ended."
        for guard in guards:
            fault = fault or guard.find_refusal(command, now)
            fault = fault or (guard.find_excess(command, now) if rates else "")
        if fault:
            return "refused", fault
        if any(guard.rules.dry_run for guard in guards):
            return "dry_run", "The run is a dry run."
        return "sent", ""

    def send_rest(self) -> None:
        """Put commands that were decided on where their simulations find them."""
        if len(self._log.book.unsent()) > MANY:
            self._note_stored()
        away: set[str] = set()
        for command in self._log.book.unsent():
            # Those to one simulation keep their order, unless one of them is itself to blame.
            if command.simulation in away or self._rests(command.id):
                continue
            try:
                topic = f"commands/{command.simulation}"
                self._log.append(topic, command.id, command)
            except StagerAway as error:
                away.add(command.simulation)
                self._hold(command, error)
            except TransportError:
                raise
            except HeadraceError as error:
                self._hold(command, error)
            else:
                self._log.book.note_sent(command.id)
                self.forget_problem(command.id)

    def _note_stored(self) -> None:
        """Pass over what somebody has sent: who comes late would offer it all once more."""
        stored: dict[str, Collection[str]] = {}
        for command in self._log.book.unsent():
            topic = f"commands/{command.simulation}"
            with self._alone(command):
                if topic not in stored:
                    stored[topic] = self._log.writers(topic)
                if command.id in stored[topic]:
                    self._log.book.note_sent(command.id)

    def _deny(self, now: float) -> None:
        """Make the decisions that a no brings about; nothing has to be judged, so all at once."""
        made = []
        for asked, approval in self._log.book.spoken():
            if approval.word == "deny" and not self._rests(approval.command):
                with self._alone(asked.command):
                    decision = self._follow(asked, approval, now)
                    self._log.append(DECISIONS, approval.command, decision)
                    made.append(asked.command)
        if made:
            self._log.read()
        for command in made:
            if self._log.book.is_spoken(command.id):
                self._hold(command, SteeringError(LOST.format(command.id)))

    def _settle(self, asked: Decision, approval: Approval, now: float, *, final: bool) -> None:
        """Make the decision that a word brings about."""
        name = approval.command
        try:
            decision = self._follow(asked, approval, now)
        except (StagerAway, SteeringError) as error:
            if not final:
                raise
            reason = f"Approved by {approval.by}, but it could not be sent: {error}"
            decision = _decide(asked, "refused", reason, approval.by, now)
        self._log.append(DECISIONS, name, decision)
        self._log.read()
        if self._log.book.is_spoken(name):
            raise SteeringError(LOST.format(name))
        self.forget_problem(name)

    def _follow(self, asked: Decision, approval: Approval, now: float) -> Decision:
        why = f": {approval.reason}" if approval.reason else "."
        if approval.word == "deny":
            return _decide(asked, "denied", f"Denied by {approval.by}{why}", approval.by, now)
        verdict, fault = self.judge(asked.command, now, rates=True)
        reason = join(f"Approved by {approval.by}{why}", fault)
        return _decide(asked, verdict, reason, approval.by, now)

    def _give_up(self, now: float) -> None:
        """Deny what is overdue although a word on it is stored: it cannot be read.

        Whoever can read it decides by it; the first decision in the log holds.
        """
        for asked in self._log.book.overdue(now):
            if self._rests(asked.command.id):
                continue
            reason = "A word on it is stored and cannot be read, and its time is up: it is denied."
            decision = _decide(asked, "denied", reason, TIME_LIMIT, now)
            with self._alone(asked.command):
                self._log.append(DECISIONS, asked.command.id, decision)
                self._log.read()
                if any(other is asked for other in self._log.book.overdue(now)):
                    raise SteeringError(LOST.format(asked.command.id))

    # --------------------------------------------------------------- problems

    def problem(self, command: str) -> str:
        """Return what keeps a command from being carried out, as a sentence; empty for nothing."""
        sentence = self._problems.get(command, (0.0, ""))[1]
        return (
            f"It could not be carried out yet, and is tried again: {sentence}" if sentence else ""
        )

    def forget_problem(self, command: str) -> None:
        """Try a command again at once."""
        self._problems.pop(command, None)

    @contextlib.contextmanager
    def _alone(self, command: Command) -> Iterator[None]:
        """Let what fails in the body hold up this command, and no other."""
        try:
            yield
        except TransportError as error:
            if not isinstance(error, StagerAway):
                raise
            self._hold(command, error)
        except HeadraceError as error:
            self._hold(command, error)

    def _hold(self, command: Command, error: HeadraceError) -> None:
        new = command.id not in self._problems
        # The log knows when a stager that was away is to be asked again.
        wait = 0.0 if isinstance(error, StagerAway) else self._retry
        self._problems[command.id] = time.monotonic() + wait, str(error)
        if new:
            what = describe_command(command)
            event = Event(
                "command_held",
                f"The command {command.id!r} ({what}) to {command.simulation!r} could not be "
                f"carried out yet, and is tried again: {error}",
                simulation=command.simulation,
                source="desk",
                level="warning",
                data={"command": command.id},
            )
            self._log.tell(f"held/{command.id}", event)

    def _rests(self, command: str) -> bool:
        return time.monotonic() < self._problems.get(command, (0.0, ""))[0]

    # ------------------------------------------------------------------- rules

    def _rules_of(self, command: Command) -> list[GuardRules]:
        if self._given is not None:
            return [self._given]
        announced = self._log.read_rules()
        theirs = [n for n in announced if command.id.startswith(f"{n}/")]
        # A person's own command is of no pipeline, and so holds to the rules of each.
        chosen = [max(theirs, key=len)] if theirs else list(announced)
        found = []
        for name in chosen:
            rules = announced[name]
            if rules is None:
                raise SteeringError(
                    f"The rules of the pipeline {name!r} cannot be read, so nobody can say what "
                    "they allow; use the version of Headrace that runs it."
                )
            found.append(rules)
        return found or [GuardRules()]


def _decide(asked: Decision, verdict: Verdict, reason: str, by: str, now: float) -> Decision:
    return Decision(
        asked.command, verdict, reason=reason, stamp=now, until=asked.until,
        default=asked.default, by=by,
    )  # fmt: skip


def join(*sentences: str) -> str:
    """Return sentences as one text, without those that are empty."""
    return " ".join(filter(None, sentences))
