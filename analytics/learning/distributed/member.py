"""A worker's rounds: what it learns together with the others, between the frames that it reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from analytics.learning.distributed.exchange import Exchange
from analytics.learning.distributed.team import Team
from bridge.codec import decode_state, encode_state
from bridge.commands import Event
from bridge.pipeline import Context

if TYPE_CHECKING:
    from analytics.learning.train import Train

__all__ = ["Gathered", "Member", "Round"]

Array = npt.NDArray[Any]

_AXES = 6  # of an input, at most
_UPDATES = 8  # updates in one round, so that frames are read in between


@dataclass(frozen=True, slots=True)
class Gathered:
    """What a group knows together.

    Attributes
    ----------
    held
        Samples that were held out.
    trained_on
        Simulation to the ranges of offsets that were learned from.
    frames
        Number of frames seen.
    """

    held: tuple[Array, ...]
    trained_on: dict[str, list[tuple[int, int]]]
    frames: int


@dataclass(frozen=True, slots=True)
class Round:
    """What one round came to.

    Attributes
    ----------
    over
        The training has ended, by agreement.
    updates
        Made in it.
    events
        To be told.
    """

    over: bool
    updates: int
    events: Sequence[Event]


class Member:
    """One worker of a team, around the operator that takes in its share of the frames.

    Candidates are judged by worker 0, by what its group held out. Updates are due by the mean
    number of frames over the group, so that as many samples are used for a frame as one worker
    alone would use, in fewer and larger batches. A worker without enough samples follows with a
    weight of 0.

    Parameters
    ----------
    train
        The operator; it only takes in from now on.
    team
        Of the worker.
    exchange_every
        Updates between two exchanges of parameters, where there are several groups.
    """

    def __init__(self, train: Train, team: Team, *, exchange_every: int = 4) -> None:
        self.train = train
        self.team = team
        self.together = False
        train.alone = False
        self._watched = 0
        self._every = exchange_every
        self._exchange: Exchange | None = None
        self._done = 0
        self._context = Context("", "train")

    def turn(self, *, ended: bool, stopped: bool) -> Round:
        """Make the updates that are due; all workers call this in turn.

        Parameters
        ----------
        ended
            This worker has read its share to the end.
        stopped
            Somebody told it to end.

        Raises
        ------
        EngineError
            If another worker does not come in time.
        """
        self._context = Context("", "train")
        over, updates = self._turn(ended=ended, stopped=stopped)
        if over:
            if self.together:
                self._judge_the_last()
            self.team.close()
        return Round(over, updates, self._context.events)

    def _turn(self, *, ended: bool, stopped: bool) -> tuple[bool, int]:
        train, team = self.train, self.team
        ready = train.trainer is not None and train.trainer.ready
        frames, n_ended, n_stopped, n_ready = team.total(
            [train.frames, ended, stopped, ready], everybody=not self.together
        )
        size = len(team.members) if self.together else team.place.size
        # Nobody has ended before anything came: streams may be on their way.
        all_ended, any_stopped = n_ended == size and frames > 0, n_stopped > 0
        if not self.together:
            if n_ready and frames >= train.start_after:
                self._come_together(ready=ready)
            return (all_ended or any_stopped) and not self.together, 0
        assert train.trainer is not None
        assert self._exchange is not None
        due = max(0, train.due(int(frames / size)) - self._done)
        count = min(due, _UPDATES) if n_ready and not any_stopped else 0
        for _ in range(count):
            self._update()
        self._done += count
        if team.place.rank == 0 and train.frames // train.watch_every > self._watched:
            self._watched = train.frames // train.watch_every
            train.look(self._context)
        idle = all_ended and not (due - count and n_ready)
        if team.place.groups == 1:
            return any_stopped or idle, count
        self._exchange.step(count, ended=idle, stopped=any_stopped)
        return self._exchange.over, count

    def _update(self) -> None:
        train = self.train
        trainer = train.trainer
        assert trainer is not None
        update = trainer.update() if trainer.ready else trainer.follow()
        gathered: Gathered | None = None
        if train.judges_after(update) and self.team.place.group == 0:
            gathered = self._gather()
        train.note(update, self._context, judges=self.team.place.rank == 0, gathered=gathered)

    def _judge_the_last(self) -> None:
        """Judge what was learned since the last candidate; the whole group knows whether."""
        trainer = self.train.trainer
        if self.team.place.group or trainer is None:
            return
        if trainer.updates % self.train.candidate_every:
            gathered = self._gather()
            if self.team.place.rank == 0:
                self.train.consider(self._context, gathered)

    def _gather(self) -> Gathered:
        """Bring together what the group held out, in the order of the workers, and learned from."""
        intake = self.train.intake
        most = self.train.held_out_frames // len(self.team.members)
        arrays = intake.held.content() if len(intake.held) else ()
        mine: dict[str, Any] = {str(i): a[-most:] for i, a in enumerate(arrays)}
        mine["trained_on"] = {k: [list(r) for r in v] for k, v in intake.trained_on.items()}
        mine["frames"] = self.train.frames
        parts = [decode_state(data) for data in self.team.gather(encode_state(mine))]
        trained_on = {k: [(a, b) for a, b in v] for p in parts for k, v in p["trained_on"].items()}
        given = [part for part in parts if "0" in part]
        held = tuple(
            np.concatenate([part[str(i)] for part in given])
            for i in range(sum(key.isdecimal() for key in given[0]) if given else 0)
        )
        return Gathered(held, trained_on, sum(part["frames"] for part in parts))

    def _come_together(self, *, ready: bool) -> None:
        """Begin with one model everywhere: that of the worker which has come furthest."""
        train, team = self.train, self.team
        known = [] if train.trainer is None else list(train.trainer.model.input_shape)
        shape = team.most([len(known), *known, *[0] * (_AXES - len(known))])
        trainer = train.ensure(tuple(int(n) for n in shape[1 : 1 + int(shape[0])]))
        if ready:
            train.prepare()
        # One number that tells both who has made most updates, and who that is.
        rank, size = team.place.rank, team.place.size
        own = (1 + trainer.updates) * size + (size - 1 - rank) if ready else -1.0
        (best,) = team.most([own])
        source = size - 1 - int(best) % size
        shared = trainer.shared_state()
        team.share(shared, source)
        trainer.take_shared(shared, updates=int(best) // size - 1, seed=train.seed + rank)
        train.prepared()
        trainer.reduce = team.reduce
        # What was due before is done already, or never will be.
        frames = team.total([train.frames])[0]
        self._done = train.due(int(frames / len(team.members))) if trainer.updates else 0
        self._exchange = Exchange(team, trainer.parameters, every=self._every)
        self.together = True
