"""The guard: what an engine asks before it sends a command."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from bridge.commands import COMMAND_KINDS, Capability, Command, CommandKind, Decision, Verdict
from bridge.errors import ConfigError
from bridge.staging.client_like import ClientLike
from bridge.steering.bounds import find_fault

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


class Guard:
    """Judges commands by the capabilities of the simulation and the rules of the run.

    One thread uses it.

    Parameters
    ----------
    capabilities
        Asked at each command for what a simulation declares; None if nobody knows it.
    rules
        What the run allows.
    """

    def __init__(self, capabilities: Lookup, rules: GuardRules | None = None) -> None:
        self._capabilities = capabilities
        self.rules = rules or GuardRules()
        self._sent: dict[str, deque[float]] = {}
        self._all: deque[float] = deque()

    def check(self, command: Command, now: float) -> Decision:
        """Judge a numbered command; a verdict of ``sent`` counts against the rate limits.

        Parameters
        ----------
        now
            Unix time in seconds; never less than at the call before.
        """
        reason = self._find_refusal(command, now)
        verdict: Verdict = "refused"
        if not reason and command.kind in self.rules.approval:
            verdict = "awaiting_approval"
            reason = f"The rules ask a person before every {command.kind!r}."
        elif not reason:
            # A dry run counts as well, so that its verdicts are those of the real run.
            self._sent.setdefault(command.simulation, deque()).append(now)
            self._all.append(now)
            verdict = "dry_run" if self.rules.dry_run else "sent"
            reason = "The run is a dry run." if self.rules.dry_run else ""
        return Decision(command, verdict, reason=reason, stamp=now)

    def _find_refusal(self, command: Command, now: float) -> str:
        rules = self.rules
        if command.kind not in rules.kinds:
            return f"The rules of the run do not allow {command.kind!r}."
        allowed = rules.parameters
        if command.kind == "set" and allowed is not None and command.parameter not in allowed:
            return f"The rules of the run do not allow to set {command.parameter!r}."
        if command.expires and now > command.expires:
            return f"The command expired {now - command.expires:.3g} s before it could be sent."
        declared = self._capabilities(command.simulation)
        if declared is None:
            return f"No simulation {command.simulation!r} is known."
        return find_fault(command, declared) or self._find_excess(command, now)

    def _find_excess(self, command: Command, now: float) -> str:
        rules = self.rules
        mine = self._sent.get(command.simulation, deque())
        for times in (mine, self._all):
            while times and times[0] <= now - rules.window:
                times.popleft()
        if command.kind == "stop":
            return ""
        if rules.per_simulation and len(mine) >= rules.per_simulation:
            return (
                f"The simulation {command.simulation!r} was sent {len(mine)} commands within "
                f"{rules.window:g} s; the limit is {rules.per_simulation}."
            )
        if rules.total and len(self._all) >= rules.total:
            return (
                f"{len(self._all)} commands were sent within {rules.window:g} s to all "
                f"simulations; the limit is {rules.total}."
            )
        return ""


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
    """

    rules: GuardRules = field(default_factory=GuardRules)

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

        return Guard(CapabilityBook(ask), self.rules)
