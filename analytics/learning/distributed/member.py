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
_GRID = 32  # frames of each worker between two looks whether all can begin


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

    Frames wait until all workers have come as far, and each takes up as many of its own before an
    update, whatever the clock says: where streams are there from the beginning, the same frames
    train the same model. Who has nothing to read is not waited for.

    Candidates are judged by worker 0, by what its group held out, and so is drift, by the newest
    frames of its own. Updates are due by the mean number of frames over the group, so that as many
    samples are used for a frame as one worker alone would use, in fewer and larger batches. A
    worker without enough samples follows with a weight of 0.

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
        self._every = exchange_every
        self._exchange: Exchange | None = None
        self._done = 0
        self._context = Context("", "train")
        # Frames that each worker has taken up, if it has as many; the same on all of a group.
        self._level = int(team.most([train.frames])[0])
        self._asked = -1
        self._looked = self._watched = 0
        self._before = -1

    @property
    def _come(self) -> int:
        """Number of frames that have come to this worker."""
        return self.train.frames + self.train.waiting.frames

    @property
    def hungry(self) -> bool:
        """Whether frames are wanted; not while there are some that the others are not ready for."""
        step = 1 if self.together else _GRID - self._level % _GRID
        return self._come < self._level + step

    def turn(self, *, ended: bool, stopped: bool) -> Round:
        """Make the updates that are due; all workers call this in turn.

        Whoever was `hungry` before, and brings no more frames now, is not waited for.

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
        # Frames that wait are work; whoever has none must bring more to the next turn.
        self._before = self._come if self.hungry else -1
        return Round(over, updates, self._context.events)

    def _turn(self, *, ended: bool, stopped: bool) -> tuple[bool, int]:
        train, team = self.train, self.team
        ranks = team.members if self.together else list(range(team.place.size))
        at_work = not ended and self._come != self._before
        mine = [self._come * (rank == team.place.rank) for rank in ranks]
        busy = [at_work and rank == team.place.rank for rank in ranks]
        told = team.total([*mine, *busy, ended, stopped], everybody=not self.together)
        size = len(ranks)
        counts = [int(n) for n in told[:size]]
        working = [n for n, works in zip(counts, told[size : 2 * size], strict=True) if works]
        # As far as all have come that still read; where nobody does, as far as anybody has.
        most = max(self._level, min(working) if working else max(counts))
        # Nobody has ended before anything came: streams may be on their way.
        all_ended, any_stopped = told[-2] == size and sum(counts) > 0, told[-1] > 0
        if not self.together:
            if not any_stopped:
                self._gather_for_the_first(counts, most, on_grid=bool(working))
            return (all_ended or any_stopped) and not self.together, 0
        assert self._exchange is not None
        count, drift, left = 0, False, not any_stopped
        while left and count < _UPDATES:
            made, drifted, left = self._advance(counts, most)
            count += made
            drift = drift or drifted
        idle = all_ended and not left
        if team.place.groups == 1:
            return any_stopped or idle, count
        self._exchange.step(count, ended=idle, stopped=any_stopped, drift=drift)
        if self._exchange.drifted and team.place.group and not train.extra:
            train.retrain(self._context, tells=False)
        return self._exchange.over, count

    # ------------------------------------------------------------------ frames

    def _take(self, level: int) -> None:
        self._level = level
        self.train.take(level)

    def _gather_for_the_first(self, counts: list[int], most: int, *, on_grid: bool) -> None:
        """Take up frames until somebody can make an update, and then begin together."""
        while self._asked < most:
            level = min(most, self._level + _GRID - self._level % _GRID) if self._asked >= 0 else 0
            level = max(level, self._level)
            if on_grid and level % _GRID and self._asked >= 0:
                return  # what comes between depends on the clock
            self._take(level)
            self._asked = level
            trainer = self.train.trainer
            ready = trainer is not None and trainer.ready
            (n_ready,) = self.team.total([ready], everybody=True)
            if n_ready and sum(min(level, n) for n in counts) >= self.train.start_after:
                self._come_together(ready=ready)
                return

    def _advance(self, counts: list[int], most: int) -> tuple[int, bool, bool]:
        """Go on to the next frame at which there is something to do, and do it.

        Returns
        -------
        updates : int
            That were made.
        drift : bool
            Whether drift was found.
        left : bool
            Whether there may be more to do for what has come.
        """
        train = self.train
        look = (self._looked + 1) * train.watch_every
        update = self._due_at(counts, most)
        level = min(look, most + 1 if update is None else update)
        if level > most:
            self._take(most)
            return 0, False, False
        self._take(max(level, self._level))
        made = 0
        if level == update:
            made = self._update_as_due()
        if level < look:
            return made, False, True
        self._looked += 1
        return made, self._look(), True

    def _due_at(self, counts: list[int], most: int) -> int | None:
        """Return how many frames each must have for the next update; None for more than `most`."""

        def is_due(level: int) -> bool:
            mean = sum(min(level, n) for n in counts) // len(counts)
            return self.train.due(mean) > self._done

        low, high = self._level, most
        if not is_due(high):
            return None
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if is_due(middle) else (middle + 1, high)
        return low

    # ----------------------------------------------------------------- updates

    def _update_as_due(self) -> int:
        """Make one update, or two after drift; return how many."""
        train = self.train
        self._done += 1
        self._update()
        if not train.extra:
            return 1
        self._update()
        train.extra -= 1
        if not train.extra:
            self._judge_the_last()
        return 2

    def _update(self) -> None:
        train = self.train
        trainer = train.trainer
        assert trainer is not None
        update = trainer.update() if trainer.ready else trainer.follow()
        if not self.team.weight:
            # Nobody has enough samples; nothing was left out that had been there.
            trainer.skipped -= 1
            train.starved += 1
            return
        gathered: Gathered | None = None
        if train.judges_after(update) and self.team.place.group == 0:
            gathered = self._gather()
        train.note(update, self._context, judges=self.team.place.rank == 0, gathered=gathered)

    def _look(self) -> bool:
        """Let worker 0 look at what is served, and for drift; tell its group what follows."""
        train, team = self.train, self.team
        drifted = False
        if team.place.rank == 0 and train.frames // train.watch_every > self._watched:
            self._watched = train.frames // train.watch_every
            drifted = bool(train.watch(self._context))
        if train.drift is None or team.place.group:
            return False
        if team.total([drifted])[0]:
            train.retrain(self._context, tells=team.place.rank == 0)
            return True
        return False

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
        rate_from, extra = team.most([trainer.rate_from if rank == source else 0, train.extra])
        trainer.take_shared(
            shared,
            updates=int(best) // size - 1,
            rate_from=int(rate_from),
            seed=train.seed + rank,
        )
        train.extra = int(extra)
        train.prepared()
        trainer.reduce = team.reduce
        # What was due before is done already, or never will be.
        frames = team.total([train.frames])[0]
        self._done = train.due(int(frames / len(team.members))) if trainer.updates else 0
        self._looked = self._level // train.watch_every
        self._watched = train.frames // train.watch_every
        self._exchange = Exchange(team, trainer.parameters, every=self._every)
        self.together = True
