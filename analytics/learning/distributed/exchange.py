"""Parameters averaged between groups, without waiting."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from analytics.learning.distributed.team import Team

__all__ = ["Exchange"]

_OFTEN = 0.5  # seconds after which something is sent in any case
_SIGNS = 3  # numbers that go with the parameters: who has ended, was told to stop, saw drift


class Exchange:
    """One group's part in the averaging of parameters between groups.

    The leader of a group sends a copy of its parameters and trains on. Once those of all groups
    have come, after S updates of its own, it blends them with what it has, and gives that to its
    group: with P groups, ``x = (2 S x + sum of those sent) / (2 S + P)`` (DASO, eq. 1). Moments of
    the optimiser stay with each group.

    Parameters
    ----------
    team
        Who takes part.
    parameters
        What is averaged, the same on all workers of a group.
    every
        Updates between two exchanges.

    Attributes
    ----------
    done
        Exchanges that were blended in.
    over
        All groups had ended when they sent, or one was told to stop.
    drifted
        Whether a group saw drift before what was blended in last.
    """

    def __init__(
        self, team: Team, parameters: Sequence[torch.nn.Parameter], *, every: int = 4
    ) -> None:
        self._team = team
        self._parameters = list(parameters)
        self._every = every
        self._work: Any = None
        self._sent: Tensor = torch.zeros(0)
        self._since, self._at = 0, time.monotonic()
        self.done = 0
        self.over = self.drifted = False
        self._saw_drift = False

    def step(self, updates: int, *, ended: bool, stopped: bool, drift: bool = False) -> None:
        """Send, or take up what has come; called by the whole group after some updates.

        Parameters
        ----------
        updates
            Made since the last call.
        ended, stopped
            Whether the group has nothing left to do, or was told to stop; the same on all of it.
        drift
            Whether it saw drift since the last call; all groups are told.
        """
        team = self._team
        self.drifted, self._saw_drift = False, self._saw_drift or drift
        self._since += updates
        came = 0.0
        if self._work is not None:
            if ended or stopped:
                # There is nothing to do but to wait for the others.
                team.wait_for(self._work)
            came = float(self._work.is_completed())
        if len(team.members) > 1:
            (came,) = team.total([came])
        if came:
            self._take_up()
        if team.is_leader and self._work is None and not self.over:
            # Who has nothing to do sends, too: others may wait for it, in order to end.
            late = time.monotonic() - self._at > _OFTEN
            if ended or stopped or late or self._since >= self._every:
                self._send(ended=ended, stopped=stopped)

    def _send(self, *, ended: bool, stopped: bool) -> None:
        self._since, self._at = 0, time.monotonic()
        with torch.no_grad():
            flat = torch.cat([p.detach().reshape(-1) for p in self._parameters])
            signs = torch.tensor([float(n) for n in (ended, stopped, self._saw_drift)]).to(flat)
            self._saw_drift = False
            self._sent = torch.cat([flat, signs])
        self._work = self._team.send(self._sent)

    def _take_up(self) -> None:
        team, groups = self._team, self._team.place.groups
        with torch.no_grad():
            flat = torch.cat([p.detach().reshape(-1) for p in self._parameters])
            both = torch.cat([flat, flat.new_zeros(_SIGNS)])
            if team.is_leader:
                own = 2.0 * self._since
                both[:-_SIGNS] = (own * flat + self._sent[:-_SIGNS]) / (own + groups)
                both[-_SIGNS:] = self._sent[-_SIGNS:]
            if len(team.members) > 1:
                team.share_in_group(both)
            at = 0
            for parameter in self._parameters:
                n = parameter.numel()
                parameter.copy_(both[at : at + n].view_as(parameter))
                at += n
            ended, stopped, drifted = (float(n) for n in both[-_SIGNS:])
        self.drifted = drifted > 0.0
        self.over = ended >= groups or stopped > 0.0
        self._work = None
        self.done += 1
