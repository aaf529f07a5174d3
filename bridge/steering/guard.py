"""The guard: what an engine asks before it sends a command."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from bridge.commands import (
    COMMAND_KINDS,
    ApprovalWord,
    Capability,
    Command,
    CommandKind,
    Decision,
    Verdict,
)
from bridge.errors import ConfigError
from bridge.staging.client_like import ClientLike
from bridge.steering.bounds import find_fault
from bridge.steering.rates import Rates

__all__ = ["CapabilityBook", "Guard", "GuardMaker", "GuardRules"]

Lookup = Callable[[str], Sequence[Capability] | None]


class GuardRules(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What the guard allows.

    Attributes
    ----------
    dry_run
        Decide, and write decisions down, but send none.
    kinds
        Kinds of command that may be sent.
    parameters
        Parameters that may be set; None for all that are declared.
    approval
        Kinds of command that wait for a person's approval.
    approval_timeout
        Seconds that a person has, less if the command expires before.
    approval_default
        What becomes of a command of which nobody said anything in time: ``deny`` or ``approve``.
    per_simulation, total
        Commands that may be sent within any `window`, to one simulation and in all; 0 for no
        limit. A stop is never held up by either.
    window
        Length of the sliding window in seconds.
    """

    dry_run: bool = False
    kinds: tuple[CommandKind, ...] = COMMAND_KINDS
    parameters: tuple[str, ...] | None = None
    approval: tuple[CommandKind, ...] = ()
    approval_timeout: float = 600.0
    approval_default: ApprovalWord = "deny"
    per_simulation: int = 0
    total: int = 0
    window: float = 60.0

    def __post_init__(self) -> None:
        if self.per_simulation < 0 or self.total < 0 or not self.window > 0:
            raise ConfigError(
                "Rate limits are 0 or more commands in a window of more than 0 s; given are "
                f"per_simulation = {self.per_simulation}, total = {self.total} and window = "
                f"{self.window:g}."
            )
        if not 0 < self.approval_timeout < float("inf"):
            raise ConfigError(
                "A person has a time of more than 0 s to approve a command, and not forever; given "
                f"is approval_timeout = {self.approval_timeout:g}."
            )


class Guard:
    """Judges commands by the capabilities of the simulation and the rules of the run.

    One thread uses it.

    Parameters
    ----------
    capabilities
        Asked at each command for what a simulation declares; None if nobody knows it.
    rules
        What the run allows.
    rates
        What was sent lately; several guards may share it.
    kept
        Somebody else carries out what people say of commands that wait for them: ``headrace run``,
        a dashboard, a `Desk`.

    Attributes
    ----------
    capabilities, rules, kept
        As given.
    """

    def __init__(
        self,
        capabilities: Lookup,
        rules: GuardRules | None = None,
        rates: Rates | None = None,
        *,
        kept: bool = False,
    ) -> None:
        self.capabilities = capabilities
        self.rules = rules or GuardRules()
        self.kept = kept
        self._rates = Rates(self.rules.window) if rates is None else rates

    @property
    def unkept(self) -> tuple[CommandKind, ...]:
        """Kinds of commands on which people are asked, and nobody carries out what they say."""
        return () if self.kept else tuple(self.rules.approval)

    def check(self, command: Command, now: float) -> Decision:
        """Judge a numbered command; a verdict of ``sent`` counts against the rate limits.

        Parameters
        ----------
        now
            Unix time in seconds; never less than at the call before.
        """
        reason = self.find_refusal(command, now) or self.find_excess(command, now)
        if reason:
            return Decision(command, "refused", reason=reason, stamp=now)
        if command.kind in self.rules.approval:
            until, default = self._time_limit(command, now), self.rules.approval_default
            reason = (
                f"The rules ask a person before every {command.kind!r}; who says nothing within "
                f"{until - now:.3g} s says {default}."
            )
            return Decision(
                command,
                "awaiting_approval",
                reason=reason,
                stamp=now,
                until=until,
                default=default,
            )
        # A dry run counts as well, so that its verdicts are those of the real run.
        self._rates.note(command.simulation, now)
        verdict: Verdict = "dry_run" if self.rules.dry_run else "sent"
        reason = "The run is a dry run." if self.rules.dry_run else ""
        return Decision(command, verdict, reason=reason, stamp=now)

    def find_refusal(self, command: Command, now: float) -> str:
        """Return what rules, expiry or capabilities have against a command; rates apart."""
        rules = self.rules
        if command.kind not in rules.kinds:
            return f"The rules of the run do not allow {command.kind!r}."
        allowed = rules.parameters
        if command.kind == "set" and allowed is not None and command.parameter not in allowed:
            return f"The rules of the run do not allow to set {command.parameter!r}."
        if command.expires and now > command.expires:
            return f"The command expired {now - command.expires:.3g} s before it could be sent."
        declared = self.capabilities(command.simulation)
        if declared is None:
            return f"No simulation {command.simulation!r} is known."
        return find_fault(command, declared)

    def find_excess(self, command: Command, now: float) -> str:
        """Return what the rate limits have against a command; a stop is never held up."""
        rules = self.rules
        if command.kind == "stop":
            return ""
        return self._rates.find_excess(
            command.simulation,
            now,
            per_simulation=rules.per_simulation,
            total=rules.total,
            window=rules.window,
        )

    def _time_limit(self, command: Command, now: float) -> float:
        until = now + self.rules.approval_timeout
        if not command.expires:
            return until
        # What is approved by default must reach the simulation before it expires.
        left = command.expires - now
        kept = min(5.0, left / 5) if self.rules.approval_default == "approve" else 0.0
        return min(until, command.expires - kept)


class CapabilityBook:
    """Remembers what simulations declare, and asks again after a while.

    Parameters
    ----------
    ask
        Returns what every simulation declares at present, by name.
    max_age
        Seconds after which an answer is asked for anew. An unknown simulation is asked for at
        once, but no more often than each tenth of this.
    now
        A monotonic clock, in seconds.
    """

    def __init__(
        self,
        ask: Callable[[], dict[str, Sequence[Capability]]],
        *,
        max_age: float = 2.0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask = ask
        self._max_age = max_age
        self._now = now
        self._known: dict[str, Sequence[Capability]] = {}
        self._asked = -float("inf")

    def __call__(self, simulation: str) -> Sequence[Capability] | None:
        """Return what a simulation declares, None if nobody knows it."""
        age = self._now() - self._asked
        if age > self._max_age or (simulation not in self._known and age > self._max_age / 10):
            self._known = self._ask()
            self._asked = self._now()
        return self._known.get(simulation)


@dataclass(frozen=True)
class GuardMaker:
    """Makes a guard where it is needed, with a connection of its own to ask for capabilities.

    Parameters
    ----------
    rules
        What the run allows.
    kept
        See `Guard`; an engine refuses a guard that asks people in vain.
    """

    rules: GuardRules = field(default_factory=GuardRules)
    kept: bool = False

    def __call__(self, connect: Callable[[str], ClientLike]) -> Guard:
        """Return a guard.

        Parameters
        ----------
        connect
            Connects to staging under a name; whoever gives it closes the connection.
        """
        client = connect("guard")

        def ask() -> dict[str, Sequence[Capability]]:
            return {
                topic.name.removeprefix("frames/"): topic.capabilities
                for topic in client.topics("frames/", schemas=True)
            }

        return Guard(CapabilityBook(ask), self.rules, kept=self.kept)
