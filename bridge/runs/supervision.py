"""The life of a run as a state machine without I/O: what to start, stop and kill, and when.

A run goes through these phases::

    starting   the stager is started and has to be listening, then the engine, which has to be heard
    running    the members run
    draining   the members were told to end
    finishing  no member is left; the engine reads what is there, to the end; so do trainers
    reporting  everything has ended but the stager, from which the report is read
    closing    the stager was told to end
    ended

Members wait for the engine, since what they simulate before it is there is not steered. Trainers
begin with the members; a run goes on without one that has used up its restarts. Whoever drives it
tells what happened (`ready`, `exited`, `stop`, `interrupt`, `reported`, and `tick` now and then)
and carries out the actions that come back, in their order. Times are seconds of a monotonic clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from bridge.runs.configuration import RestartsTable
from bridge.runs.processes import describe_exit

__all__ = ["ENGINE", "STAGER", "Action", "Outcome", "Phase", "Supervisor"]

Phase = Literal["starting", "running", "draining", "finishing", "reporting", "closing", "ended"]
Outcome = Literal["finished", "target_reached", "limit_reached", "interrupted", "failed"]

STAGER = "stager"
ENGINE = "engine"

USAGE = 2
"""Exit code of a process whose configuration is to blame: starting it again is of no use."""

BACKOFF = (0.0, 0.5, 2.0, 5.0)
"""Seconds before the first, second... restart of a process; the last one for all later ones."""


@dataclass(frozen=True, slots=True)
class Action:
    """Something to do.

    Attributes
    ----------
    kind
        Start a process, tell it to end in good order, or kill it; write the report; tell people.
    process
        Which process; empty for a report, and where it concerns the run.
    message
        What to tell.
    level
        How grave that is.
    """

    kind: Literal["start", "stop", "kill", "report", "tell"]
    process: str = ""
    message: str = ""
    level: Literal["info", "warning", "error"] = "info"


_COMING = ("running", "restarting")


@dataclass(slots=True)
class _Child:
    """What is known of one process."""

    state: Literal["idle", "running", "ended", "failed"] = "idle"
    restarts: int = 0
    start_at: float | None = None
    killed: bool = False
    """It did not end in time and was killed, which was told; it is not started again."""
    why: str = ""

    def end(self, code: int, more: str = "") -> str:
        """Return how it ended, as the end of a sentence."""
        how = f"{describe_exit(code)}{more}"
        return f"{how}: {self.why}" if self.why else f"{how}."


@dataclass(slots=True)
class Supervisor:
    """Decides over the processes of one run.

    Parameters
    ----------
    members
        Names of the member processes.
    restarts
        How often each may be started again.
    durable
        The topics outlive the stager's process.
    when_member_fails
        ``stop`` the run or ``go_on``, once a member has used up its restarts.
    drain
        Seconds that members, and then the engine, have to end once they are told to.
    start
        Seconds that the stager has to be listening, and then the engine to be heard of.
    trainers
        Names of the processes that learn beside the engine, or answer the simulations.
    """

    members: Sequence[str]
    restarts: RestartsTable = field(default_factory=RestartsTable)
    durable: bool = False
    when_member_fails: Literal["stop", "go_on"] = "stop"
    drain: float = 30.0
    start: float = 60.0
    trainers: Sequence[str] = ()

    phase: Phase = "starting"
    outcome: Outcome = "finished"
    reason: str = ""
    failures: list[str] = field(default_factory=list)
    _children: dict[str, _Child] = field(default_factory=dict)
    _deadline: float | None = None
    _interrupts: int = 0
    _heard: set[str] = field(default_factory=set)

    def begin(self, now: float) -> list[Action]:
        """Begin: start the stager."""
        self._children = {
            name: _Child() for name in (STAGER, ENGINE, *self.members, *self.trainers)
        }
        self._deadline = now + self.start
        return [self._start(STAGER)]

    def ready(self, name: str, now: float) -> list[Action]:
        """The stager is listening, or somebody who reads was heard of; for the first time or again.

        Members begin once all who read are there: a trainer that comes late has missed the first
        frames, and simulated time passes before it has learned anything.
        """
        if self.phase != "starting":
            return []
        if name == STAGER:
            if self._children[ENGINE].state != "idle":
                return []
            self._deadline = now + self.start
            return [self._start(name) for name in self._readers]
        self._heard.add(name)
        return self._begin_members()

    def _begin_members(self) -> list[Action]:
        late = [t for t in self.trainers if t not in self._heard and self.state(t) in _COMING]
        if self.phase != "starting" or ENGINE not in self._heard or late:
            return []
        self.phase, self._deadline = "running", None
        return [self._start(name) for name in self.members]

    def exited(self, name: str, code: int, now: float, why: str = "") -> list[Action]:
        """A process has ended; `why` is the sentence that it ended with, if there was one."""
        child = self._children[name]
        child.why = why
        well = code == 0
        child.state = "ended" if well else "failed"
        if name == STAGER:
            return self._stager_exited(child, code, now)
        if name == ENGINE:
            return self._engine_exited(child, code, now)
        if name in self.trainers:
            return self._trainer_exited(name, child, code, now)
        return self._member_exited(name, child, code, now)

    def stop(self, outcome: Outcome, reason: str, now: float) -> list[Action]:
        """End the run in good order: a limit or the target was reached, or somebody asked to."""
        if self.phase == "starting":
            self._conclude(outcome, reason)
            self.phase = "draining"
            return self._move_on(now)
        if self.phase != "running":
            return []
        self._conclude(outcome, reason)
        self.phase, self._deadline = "draining", now + self.drain
        # A failure was told already, as such.
        said = "" if reason in self.failures else f"{reason} "
        actions = [Action("tell", message=f"{said}Ending the run in good order.")]
        for name in self.members:
            self._children[name].start_at = None
        actions += [Action("stop", name) for name in self._running(self.members)]
        return actions + self._move_on(now)

    def target_reached(self, reason: str, now: float) -> list[Action]:
        """Note that the target was reached; members end by the commands that policies send."""
        self._conclude("target_reached", reason)
        if self.phase == "running" and self._deadline is None:
            # Whoever the command does not reach is told by other means.
            self._deadline = now + self.drain
        return []

    def interrupt(self, now: float) -> list[Action]:
        """Somebody pressed Ctrl-C: once to end in good order, twice to end at once."""
        self._interrupts += 1
        if self._interrupts == 1 and self.phase in ("starting", "running"):
            return self.stop("interrupted", "Interrupted.", now)
        if self._interrupts == 1:
            return [
                Action("tell", message=f"The run is ending already; waiting {self.waiting_for}.")
            ]
        self._conclude("interrupted", "Interrupted twice.")
        self.phase, self._deadline = "ended", None
        return [Action("kill", name) for name in self._running(self._children)]

    def reported(self, now: float) -> list[Action]:
        """The report is written, or could not be."""
        return self._close(now) if self.phase == "reporting" else []

    def tick(self, now: float) -> list[Action]:
        """Let time pass: restarts that are due, and time limits."""
        actions = []
        for name, child in self._children.items():
            if child.start_at is not None and now >= child.start_at:
                child.start_at = None
                actions.append(self._start(name))
                if name in self._readers and self.phase == "finishing":
                    actions.append(Action("stop", name))
        if self._deadline is None or now < self._deadline:
            return actions
        self._deadline = None
        return actions + self._expire(now)

    @property
    def ended(self) -> bool:
        """Whether there is nothing left to do."""
        return self.phase == "ended"

    @property
    def waiting_for(self) -> str:
        """What the run waits for, as the end of "waiting …"."""
        running = self._running(self._children)
        names = ", ".join(n for n in running if n in self.members)
        return {
            "starting": f"up to {self.start:g} s for {self._awaited} to begin",
            "running": "for the members to finish",
            "draining": f"up to {self.drain:g} s for {names or 'the members'} to end",
            "finishing": f"up to {self.drain:g} s for {self._late} to read what is left",
            "reporting": "for the report",
            "closing": f"up to {self.drain:g} s for the stager to end",
            "ended": "for nothing",
        }[self.phase]

    @property
    def restarted(self) -> dict[str, int]:
        """How often each process was started again."""
        return {name: child.restarts for name, child in self._children.items()}

    def state(self, name: str) -> str:
        """Return ``idle``, ``running``, ``restarting``, ``ended`` or ``failed``."""
        child = self._children[name]
        return "restarting" if child.start_at is not None else child.state

    @property
    def _readers(self) -> list[str]:
        return [ENGINE, *self.trainers]

    @property
    def _awaited(self) -> str:
        if self._children[ENGINE].state == "idle":
            return "the stager"
        late = [n for n in self._readers if n not in self._heard and self.state(n) in _COMING]
        return ", ".join(late).replace(ENGINE, "the engine") or "the members"

    @property
    def _late(self) -> str:
        return ", ".join(self._running(self._readers)).replace(ENGINE, "the engine")

    # ------------------------------------------------------------- exits

    def _stager_exited(self, child: _Child, code: int, now: float) -> list[Action]:
        if self.phase == "closing":
            self.phase, self._deadline = "ended", None
            return []
        if self.phase == "ended":
            return []
        can = self.durable and code != USAGE and self._may_restart(child, self.restarts.stager)
        if can and self.phase != "starting":
            return [self._restart_later(STAGER, child, code, now)]
        lost = not self.durable and self.phase != "starting"
        kept = " Its topics were in memory and are lost." if lost else ""
        return self._give_up(f"The stager {child.end(code)}{kept}", now)

    def _engine_exited(self, child: _Child, code: int, now: float) -> list[Action]:
        if self.phase == "ended":
            return []
        if code == 0:
            if self.phase == "starting":
                return self._fail("The engine ended before the members began.", now)
            if self.phase == "running":
                # All streams have finished, or the target is reached and everybody has answered:
                # the members end as well, or are told to.
                self._deadline = now + self.drain
            return self._move_on(now)
        if child.killed:
            return self._move_on(now)
        if code != USAGE and self._may_restart(child, self.restarts.engine):
            return [self._restart_later(ENGINE, child, code, now)]
        self._note(f"The engine {child.end(code, self._used_up(child))}")
        if self.phase in ("draining", "finishing"):
            return [*self._tell_failure(), *self._move_on(now)]
        return self._fail(self.failures[-1], now)

    def _trainer_exited(self, name: str, child: _Child, code: int, now: float) -> list[Action]:
        if self.phase == "ended" or code == 0 or child.killed:
            return self._go_on_without(now)
        can = code != USAGE and self._may_restart(child, self.restarts.trainer)
        if can and self.phase in ("starting", "running"):
            return [self._restart_later(name, child, code, now)]
        self._note(f"{name} {child.end(code, self._used_up(child))}")
        return [*self._tell_failure(), *self._go_on_without(now)]

    def _go_on_without(self, now: float) -> list[Action]:
        return self._move_on(now) if self.phase == "finishing" else self._begin_members()

    def _member_exited(self, name: str, child: _Child, code: int, now: float) -> list[Action]:
        if self.phase == "ended":
            return []
        if code == 0 or self.phase != "running":
            if code != 0 and self.phase == "draining" and not child.killed:
                self._note(f"{name} {child.end(code, ' while the run was ending')}")
                return [*self._tell_failure(), *self._move_on(now)]
            return self._move_on(now)
        if self.outcome == "target_reached":
            # What it was started for has happened; there is nothing to go on for.
            self._note(f"{name} {child.end(code, ' after the target was reached')}")
            return [*self._tell_failure(), *self._move_on(now)]
        if code != USAGE and self._may_restart(child, self.restarts.member):
            return [self._restart_later(name, child, code, now)]
        self._note(f"{name} {child.end(code, self._used_up(child))}")
        if self.when_member_fails == "stop" or code == USAGE:
            return self._fail(self.failures[-1], now)
        return [*self._tell_failure(), *self._move_on(now)]

    # ------------------------------------------------------------- going on

    def _move_on(self, now: float) -> list[Action]:
        """Enter the next phase once nothing is left to wait for in this one."""
        if self.phase in ("running", "draining"):
            if self._running(self.members):
                return []
            self.phase, self._deadline = "finishing", now + self.drain
            for name in self.trainers:
                self._children[name].start_at = None
            left = self._running(self._readers)
            if left:
                return [Action("stop", name) for name in left]
        if self.phase == "finishing":
            if self._running(self._readers):
                return []
            self.phase, self._deadline = "reporting", None
            return [Action("report")]
        return []

    def _close(self, now: float) -> list[Action]:
        self.phase, self._deadline = "closing", now + self.drain
        if self._running([STAGER]):
            return [Action("stop", STAGER)]
        self.phase, self._deadline = "ended", None
        return []

    def _expire(self, now: float) -> list[Action]:
        """The time limit of a phase is over."""
        if self.phase == "starting" and self._children[ENGINE].state == "idle":
            return self._give_up(f"The stager was not listening after {self.start:g} s.", now)
        if self.phase == "starting" and ENGINE in self._heard:
            absent = ", ".join(t for t in self.trainers if t not in self._heard)
            said = f"{absent} was not heard of after {self.start:g} s; the members begin without."
            self._heard.update(self.trainers)
            return [Action("tell", message=said, level="warning"), *self._begin_members()]
        if self.phase == "starting":
            return self._fail(f"The engine was not heard of after {self.start:g} s.", now)
        if self.phase == "running":
            return self.stop(self.outcome, "Members still run though there is nothing to do.", now)
        late = {
            "draining": self._running(self.members),
            "finishing": self._running(self._readers),
            "closing": self._running([STAGER]),
        }.get(self.phase, [])
        told = len(self.failures)
        for name in late:
            self._end_late(name)
        self._deadline = now + self.drain
        actions = self._tell_failure(len(self.failures) - told)
        actions += [Action("kill", name) for name in late if self._children[name].killed]
        return actions + self._move_on(now)

    def _end_late(self, name: str) -> None:
        """Give up waiting for a process: what is closed begins nothing anew."""
        child = self._children[name]
        who = "The engine" if name == ENGINE else name
        if child.start_at is not None:
            child.start_at, child.state = None, "failed"
            said = f"{who} had failed, and there is no time to start it again"
        elif not child.killed:
            child.killed = True
            said = f"{who} did not end within {self.drain:g} s of being told to; killed"
        else:
            return
        lost = "; what it had not read is not analysed" if name == ENGINE else ""
        self._note(f"{said}{lost}.")

    # ------------------------------------------------------------- failing

    def _fail(self, reason: str, now: float) -> list[Action]:
        if reason not in self.failures:
            self._note(reason)
        if self.phase in ("starting", "running"):
            return [*self._tell_failure(), *self.stop("failed", reason, now)]
        return [*self._tell_failure(), *self._move_on(now)]

    def _give_up(self, reason: str, now: float) -> list[Action]:
        """Nothing can go on without the stager."""
        self._note(reason)
        self._conclude("failed", reason)
        for child in self._children.values():
            child.start_at = None
        self.phase, self._deadline = "ended", None
        kill = [Action("kill", name) for name in self._running(self._children)]
        return [*self._tell_failure(), *kill]

    def _note(self, failure: str) -> None:
        self.failures.append(failure)
        if self.outcome not in ("interrupted", "failed"):
            # The first of several is the cause; those that follow often come of it.
            self.outcome, self.reason = "failed", failure

    def _tell_failure(self, count: int = 1) -> list[Action]:
        told = self.failures[-count:] if count else []
        return [Action("tell", message=message, level="error") for message in told]

    def _conclude(self, outcome: Outcome, reason: str) -> None:
        if self.outcome == "finished" or outcome in ("failed", "interrupted"):
            self.outcome, self.reason = outcome, reason

    # ------------------------------------------------------------- children

    def _running(self, names: Sequence[str] | dict[str, _Child]) -> list[str]:
        children = self._children
        return [
            n for n in names if children[n].state == "running" or children[n].start_at is not None
        ]

    def _start(self, name: str) -> Action:
        self._children[name].state = "running"
        return Action("start", name)

    def _may_restart(self, child: _Child, limit: int) -> bool:
        return child.restarts < limit

    def _restart_later(self, name: str, child: _Child, code: int, now: float) -> Action:
        wait = BACKOFF[min(child.restarts, len(BACKOFF) - 1)]
        child.restarts += 1
        child.start_at = now + wait
        again = f"tarting it again (restart {child.restarts})."
        said = f"{child.end(code)} S{again}" if child.why else f"{describe_exit(code)}; s{again}"
        return Action("tell", name, message=f"{name} {said}", level="warning")

    def _used_up(self, child: _Child) -> str:
        count = child.restarts
        return f", after {count} restart{'s' if count > 1 else ''}" if count else ""
