"""The guard of an engine that nobody watches over: it hears people, too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from bridge.staging.client_like import ClientLike
from bridge.steering.desk import Desk
from bridge.steering.guard import Guard, GuardMaker, GuardRules

__all__ = ["Keeper", "KeeperMaker"]


class Keeper(Guard):
    """Judges commands, and carries out what is said of those that wait for approval.

    That, too, happens once: a keeper does as any `Desk` does, and any number of both may be open.

    Parameters
    ----------
    guard
        Knows the rules, and what simulations declare.
    desk
        Carries out what people say, and the default where nobody does.
    """

    def __init__(self, guard: Guard, desk: Desk) -> None:
        super().__init__(guard.capabilities, guard.rules, kept=True)
        self._desk = desk

    def keep(self) -> None:
        """Carry out what was said, and what is due; to be called once a second or so.

        Raises
        ------
        HeadraceError
            If no stager is there; the next call tries again.
        """
        self._desk.tick()

    def conclude(self, pipeline: str) -> None:
        """Deny what a pipeline asked for and nobody has decided on: its job has ended."""
        self._desk.conclude("the engine", "The job ended before anybody decided.", pipeline)


@dataclass(frozen=True)
class KeeperMaker:
    """Makes the guard of an engine whose approvals have nobody else to carry them out.

    Parameters
    ----------
    rules
        What the job allows. Where they ask nobody for approval, a plain guard is enough.
    """

    rules: GuardRules = field(default_factory=GuardRules)

    def __call__(self, connect: Callable[[str], ClientLike]) -> Guard:
        """Return a guard; see `GuardMaker`."""
        guard = GuardMaker(self.rules)(connect)
        if not self.rules.approval:
            return guard
        # By the rules that pipelines announce, each by its own: others may share the stager.
        return Keeper(guard, Desk(lambda: connect("desk")))
