"""Train a model on the stream, and bring it into service when it is better."""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from analytics.learning.buffers import make_buffer
from analytics.learning.drift import Drift
from analytics.learning.held_out import HoldOut
from analytics.learning.intake import Intake, check_lag, check_target, part_of, rows_of
from analytics.learning.judge import Judge
from analytics.learning.model import MODELS, StreamModel, make_model
from analytics.learning.schedule import Schedule, check_choice
from analytics.learning.tensors import choose_device
from analytics.learning.trainer import Trainer, Update, check_limits
from analytics.learning.waiting import Waiting
from analytics.learning.watching import DriftWatch
from analytics.statistics.moments import input_columns
from analytics.statistics.schedule import check_count
from bridge.config import check_arguments, find_entry_point
from bridge.errors import ConfigError
from bridge.frames import FrameBatch
from bridge.pipeline import Context, GlobalOperator
from bridge.schema import check_name

if TYPE_CHECKING:
    from analytics.learning.distributed.member import Gathered, Member

__all__ = ["Train"]

Array = npt.NDArray[Any]

_PREPARE = 8192  # samples from which the scaling of inputs is set, and a model is settled
_TOLD = 8  # skipped updates after which only powers of two are told of


class Train(GlobalOperator):
    """Learns from the frames of all simulations; the last operator of a pipeline of its own.

    Updates are due by the number of frames seen, and all that is random has a seed: the same frames
    in the same order train the same model, however they were cut into batches, and also where the
    trainer was killed and went on.

    Of each stream, blocks of time are held out (see `analytics.learning.held_out.HoldOut`). Every
    `candidate_every` updates a copy of the model is judged on them against the one in service, and
    is served from then on if it is better. The one in service is watched on the newest frames: if
    it gets worse, the one before it comes back. If the frames drift away from what they were, the
    schedule of the learning rate begins anew, and updates come twice as often for a while.

    Adds the columns ``loss`` (of the newest update), ``score`` (of the newest candidate, on frames
    that were held out), both float64, ``updates`` and ``version`` (number in the history of the
    name of what is served), both int64: as they were after each frame (beside other workers: when
    it was read); 0 before there is any. Tells of ``candidate``, ``first_model``, ``promoted``,
    ``refused``, ``rolled_back``, ``drift``, ``retraining``, ``update_skipped``,
    ``samples_left_out`` (with numbers that are not finite) and ``stream_passed_over`` (once others
    were learned from, or beside other workers, a stream without the column is left out).

    Parameters
    ----------
    kind
        Kind of model; see `analytics.learning.model.make_model`.
    input
        Column that it learns from, or several.
    target
        Column, or several, with what a model is to answer; for models that learn to, such as the
        ``regressor``.
    many_samples
        Each row of a frame's columns is a sample of its own, instead of the frame.
    hyper
        Hyper-parameters of the model.
    model
        Name under which versions are kept in the registry.
    registry
        Folder of the registry.
    lag
        Frames between the two of a pair, for models that learn from pairs.
    buffer
        ``kind`` (``fifo``, ``firo``, ``fifo_reuse`` or ``reservoir``) and its parameters; see
        `analytics.learning.buffers`.
    batch_size
        Samples in an update.
    updates_per_frame
        How many updates are due for each frame; may be a fraction.
    start_after
        Frames before the first update; the scaling of inputs is set from them.
    learning_rate, schedule
        See `analytics.learning.schedule.Schedule`, whose keys the schedule has.
    optimiser, weight_decay, clip
        See `analytics.learning.trainer.Trainer`.
    held_out, held_out_block
        Part of the blocks of time that is held out, and their length in frames.
    held_out_frames
        Samples held out that are kept to judge by, the newest.
    candidate_every
        Updates between two candidates.
    keep
        Part of its weights that a model keeps after each candidate; the rest is drawn anew (shrink
        and perturb: Ash and Adams, 2020, arXiv 1910.08475). What is learned from the first few
        frames can hold a network where it is for good: less than 1 lets it find what it has missed.
    watch_every
        Frames between two looks at the model in service, and for drift.
    gate
        Parameters of `analytics.learning.registry.gate.Gate`.
    watch_drift, drift
        Whether to look for drift (which needs River), and the parameters of
        `analytics.learning.drift.DriftMonitor`. It is shown the newest `Gate.window` samples at
        each look.
    retrain_updates
        Updates that drift brings on top of those that are due; as many as `candidate_every` for 0.
    seed
        Of the weights, the noise and the choice of samples.
    device
        ``auto``, ``cpu`` or ``cuda``.
    threads
        Of torch, in the whole process; 0 for its own choice, which is best where cores are idle.

    Raises
    ------
    ConfigError
        If a parameter is out of bounds.
    """

    def __init__(
        self,
        *,
        kind: str,
        input: str | Sequence[str],
        target: str | Sequence[str] = (),
        many_samples: bool = False,
        hyper: Mapping[str, Any] | None = None,
        model: str = "model",
        registry: str = "models",
        lag: int = 0,
        buffer: Mapping[str, Any] | None = None,
        batch_size: int = 64,
        updates_per_frame: float = 0.1,
        start_after: int = 500,
        learning_rate: float = 1e-3,
        schedule: Mapping[str, Any] | None = None,
        optimiser: str = "adam",
        weight_decay: float = 0.0,
        clip: float = 1.0,
        held_out: float = 0.1,
        held_out_block: int = 0,
        held_out_frames: int = 2048,
        candidate_every: int = 500,
        keep: float = 1.0,
        watch_every: int = 500,
        gate: Mapping[str, Any] | None = None,
        watch_drift: bool = True,
        drift: Mapping[str, Any] | None = None,
        retrain_updates: int = 0,
        seed: int = 0,
        device: str = "auto",
        threads: int = 1,
    ) -> None:
        # A kind that there is not, or a parameter that it lacks, is found before anything runs.
        factory = find_entry_point(MODELS, kind, "The parameter 'kind' of train")
        check_arguments(partial(factory, ()), hyper or {}, "The parameter 'hyper' of train")
        self._latent = _default(factory, "latent")
        self.kind = kind
        self.input = input_columns(input)
        self.target = input_columns(target) if target else ()
        self.many_samples = many_samples
        self.hyper = dict(hyper or {})
        self.lag = check_count(lag, "lag", least=0)
        self.batch_size = check_count(batch_size, "batch_size")
        self.start_after = check_count(start_after, "start_after")
        self.candidate_every = check_count(candidate_every, "candidate_every")
        self.watch_every = check_count(watch_every, "watch_every")
        self.threads = check_count(threads, "threads", least=0)
        self.seed = check_count(seed, "seed", least=0)
        self.retrain_updates = (
            check_count(retrain_updates, "retrain_updates", least=0) or self.candidate_every
        )
        if not (math.isfinite(updates_per_frame) and updates_per_frame > 0.0):
            raise ConfigError(
                f"The parameter 'updates_per_frame' is {updates_per_frame}; it must be greater "
                "than 0."
            )
        if not 0.0 <= keep <= 1.0:
            raise ConfigError(f"The parameter 'keep' is {keep}; it must be from 0 to 1.")
        self.keep = keep
        self.updates_per_frame = updates_per_frame
        self.device = device
        check_choice(device.partition(":")[0], ("auto", "cpu", "cuda"), "The parameter 'device'")
        self.optimiser = check_choice(optimiser, ("adam", "adamw"), "The parameter 'optimiser'")
        check_limits(self.batch_size, weight_decay, clip)
        self.weight_decay = weight_decay
        self.clip = clip
        self.schedule = Schedule.from_table(
            learning_rate, schedule or {}, "The parameter 'schedule' of train"
        )
        self.held_out = held_out
        self.held_out_frames = check_count(held_out_frames, "held_out_frames")
        name = check_name(model, "parameter 'model' of train")
        self.judge = Judge(Path(registry).absolute(), name, gate=gate or {})
        self.intake = Intake(
            make_buffer(buffer or {}, seed=seed, where="The parameter 'buffer' of train"),
            HoldOut(held_out, block=held_out_block, lag=self.lag, seed=seed),
            lag=self.lag,
            held=self.held_out_frames,
            recent=self.judge.window,
        )
        self._check_room(self.intake.buffer.max_samples)
        self.waiting = Waiting(self.intake)
        self.drift = DriftWatch(drift or {}, seed=seed) if watch_drift else None
        self.trainer: Trainer | None = None
        self.frames = 0
        self.starved = 0
        self._prepared = False
        self._tried = 0
        self.extra = 0
        self._loss = 0.0
        self._judged_at = 0
        self._why: list[str] = []
        self._passed_over: set[str] = set()
        self.alone = True
        self.workers = 1
        # For people alone: what this process did, and since when.
        self._made, self._began = 0, time.monotonic()

    def reads(self) -> tuple[str, ...]:
        """Return the columns that `process` reads."""
        return (*self.input, *self.target)

    @property
    def coordinates(self) -> int | None:
        """Coordinates that its models give; None where that is known with the first one only."""
        latent = self.hyper.get("latent", self._latent)
        return latent if isinstance(latent, int) else None

    # ----------------------------------------------------------------- frames

    def process(self, batch: FrameBatch, context: Context) -> FrameBatch:
        """Take up the frames, and make the updates that they make due."""
        missing = [name for name in self.reads() if name not in batch]
        if missing and (not self.alone or self.trainer is not None):
            return self._pass_over(batch, missing, context)
        many = self.many_samples
        rows = rows_of(batch, self.input, many=many)
        target = rows_of(batch, self.target, parameter="target", many=many) if self.target else None
        self.ensure(rows.shape[2 if many else 1 :])
        left_out = self.intake.left_out
        portion = self.intake.sort(batch, rows, target, many=many)
        if self.intake.left_out > left_out:
            self._tell_left_out(batch, left_out, context)
        n, start = len(rows), 0
        columns = self._columns(n)
        if not self.alone:
            # Taken up in turn with the others, as updates are made: see `join`.
            self.waiting.add(portion)
            self._show(columns, 0, n)
            return batch.with_columns(columns)
        while start < n:
            stop = min(n, start + self._next() - self.frames)
            self.intake.put(portion, start, stop)
            self._show(columns, start, stop)
            self.frames += stop - start
            self._act(context)
            # What follows from a frame is shown with it.
            self._show(columns, stop - 1, stop)
            start = stop
        return batch.with_columns(columns)

    def _pass_over(self, batch: FrameBatch, missing: list[str], context: Context) -> FrameBatch:
        """Learn nothing from a stream that lacks a column, which others have or may have."""
        if batch.simulation not in self._passed_over:
            self._passed_over.add(batch.simulation)
            context.event(
                "stream_passed_over",
                f"Nothing is learned from {batch.simulation!r}: its frames lack "
                f"{', '.join(map(repr, missing))}; there are: "
                f"{', '.join(batch.columns) or 'none'}. Others go on.",
                level="warning",
                missing=missing,
            )
        columns = self._columns(len(batch))
        self._show(columns, 0, len(batch))
        return batch.with_columns(columns)

    def _tell_left_out(self, batch: FrameBatch, before: int, context: Context) -> None:
        n = self.intake.left_out
        # As those of skipped updates: the first few, then whenever they have become twice as many.
        if n > _TOLD and n.bit_length() == before.bit_length():
            return
        context.event(
            "samples_left_out",
            f"Nothing is learned from {n - before} samples of {batch.simulation!r} between the "
            f"offsets {batch.offsets[0]} and {batch.offsets[-1]}: numbers in "
            f"{', '.join(map(repr, self.reads()))} are not finite in float32. {n} samples were "
            "left out so far; look at that simulation.",
            level="warning",
            left_out=n,
        )

    def finish(self, context: Context) -> None:
        """Judge what was learned since the last candidate."""
        trainer = self.trainer
        if trainer is not None and trainer.updates > self._judged_at:
            self.consider(context)

    def _columns(self, n: int) -> dict[str, Any]:
        counts = {name: np.zeros(n, np.int64) for name in ("updates", "version")}
        return {"loss": np.zeros(n), "score": np.zeros(n), **counts}

    def _show(self, columns: dict[str, Any], start: int, stop: int) -> None:
        part = slice(start, stop)
        columns["loss"][part] = self._loss
        columns["score"][part] = self.judge.score
        columns["updates"][part] = 0 if self.trainer is None else self.trainer.updates
        columns["version"][part] = self.judge.number

    def due(self, frames: int) -> int:
        """Return how many updates are due once so many frames came."""
        return int(max(0, frames - self.start_after) * self.updates_per_frame)

    def _next(self) -> int:
        """Return the number of frames at which there is something to do next."""
        look = self.frames + self.watch_every - self.frames % self.watch_every
        if self.frames < self.start_after:
            return min(look, self.start_after)
        wanted = self.due(self.frames) + 1
        at = self.start_after + math.ceil(wanted / self.updates_per_frame)
        # What rounding did to the division must not make a frame come late, or early for ever.
        while self.due(at) < wanted:
            at += 1
        while at - 1 > self.frames and self.due(at - 1) >= wanted:
            at -= 1
        return min(look, at)

    def _act(self, context: Context) -> None:
        trainer = self.trainer
        assert trainer is not None
        if not self._prepared and self.frames >= self.start_after:
            self.prepare()
        due = self.due(self.frames)
        if self._prepared:
            for _ in range(due - self._tried):
                self._update(trainer, context)
                if self.extra:
                    self._update(trainer, context)
                    self.extra -= 1
                    if not self.extra and trainer.updates > self._judged_at:
                        self.consider(context)
        self._tried = due
        if not self.frames % self.watch_every and self.watch(context):
            self.retrain(context)

    # ---------------------------------------------------------------- learning

    def ensure(self, shape: tuple[int, ...]) -> Trainer:
        """Return the trainer, which is made for inputs of a shape if there is none."""
        if self.trainer is None:
            self.trainer = self._make(shape)
        return self.trainer

    def _make(self, shape: tuple[int, ...]) -> Trainer:
        if self.threads:
            torch.set_num_threads(self.threads)
        self._made, self._began = 0, time.monotonic()
        device = choose_device(self.device)
        model = self._fresh(shape, self.seed)
        check_lag(self.lag, model.lagged, self.kind)
        check_target(self.target, model.supervised, self.kind)
        return Trainer(
            model,
            self.intake.buffer,
            optimiser=self.optimiser,
            schedule=self.schedule,
            batch_size=self.batch_size,
            weight_decay=self.weight_decay,
            clip=self.clip,
            seed=self.seed,
            device=device,
        )

    def _fresh(self, shape: tuple[int, ...], seed: int) -> StreamModel:
        """Return a model that has not learned."""
        # Its weights come from torch's own generator, which is put back.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return make_model(self.kind, shape, self.hyper)

    def prepare(self) -> None:
        """Set the scaling of inputs from what has come, once, if that suffices."""
        trainer = self.trainer
        if self._prepared or trainer is None:
            return
        self._check_room(trainer.buffer.capacity)
        if not trainer.ready:
            return
        x = trainer.buffer.content(_PREPARE)[0]
        with torch.no_grad():
            trainer.model.prepare(torch.from_numpy(x).to(trainer.device))
        self.prepared()

    def _check_room(self, capacity: int) -> None:
        """Refuse a buffer that can never hold a batch; 0 for one whose capacity is not known."""
        if 0 < capacity < self.batch_size:
            raise ConfigError(
                f"The parameter 'buffer' of train has room for {capacity} samples, and an update "
                f"needs {self.batch_size}; raise its 'max_samples' or 'max_bytes', or lower "
                "'batch_size'."
            )

    def prepared(self) -> None:
        """Take note that the scaling of inputs is set."""
        assert self.trainer is not None
        self.trainer.model.eval()
        self._prepared = True

    def _update(self, trainer: Trainer, context: Context) -> None:
        if not trainer.ready:
            self.starved += 1
            return
        self.note(trainer.update(), context)

    def judges_after(self, update: Update) -> bool:
        """Return whether it is time for a candidate, after an update."""
        assert self.trainer is not None
        return update.done and not self.trainer.updates % self.candidate_every

    def note(
        self,
        update: Update,
        context: Context,
        *,
        judges: bool = True,
        gathered: Gathered | None = None,
    ) -> None:
        """Take note of an update, and judge a candidate if it is time, if this one `judges`.

        By what was `gathered` from several workers, where there are.
        """
        trainer = self.trainer
        assert trainer is not None
        self._made += 1
        if not update.done:
            if judges:
                self._tell_skipped(trainer, update, context)
            return
        self._loss = update.loss
        if not self.judges_after(update):
            return
        if judges:
            self.consider(context, gathered)
        if self.keep < 1.0:
            # All workers draw the same.
            fresh = self._fresh(trainer.model.input_shape, self.seed + trainer.updates)
            trainer.refresh(fresh, self.keep)

    def _tell_skipped(self, trainer: Trainer, update: Update, context: Context) -> None:
        n = trainer.skipped
        if n > _TOLD and n & (n - 1):
            return
        context.event(
            "update_skipped",
            f"The update after {trainer.updates} was left out: its loss is {update.loss:g} and the "
            f"norm of its gradient {update.norm:g}. {n} were left out so far; a smaller learning "
            "rate may help.",
            level="warning",
            updates=trainer.updates,
            skipped=n,
        )

    # ----------------------------------------------------------------- judging

    def consider(self, context: Context, gathered: Gathered | None = None) -> None:
        """Judge a candidate now."""
        trainer = self.trainer
        if trainer is None:
            return
        self._judged_at = trainer.updates
        intake, frames = self.intake, self.frames
        recent, trained_on = intake.recent.content(), intake.trained_on
        held = intake.held.content()
        if gathered is not None:
            held, trained_on, frames = gathered.held, gathered.trained_on, gathered.frames
        if not self.held_out:
            held = recent
        if not held:
            return
        # A buffer that gives each sample away once, or that of a worker which follows others, may
        # have next to none.
        training = trainer.buffer.content(_PREPARE) if len(trainer.buffer) else ()
        if not training or len(training[0]) < trainer.batch_size:
            training = max((training, recent, held), key=lambda a: len(a[0]) if a else 0)
        if len(training[0]) < trainer.model.least:
            return  # too few of any kind to settle it; there are more for the next one
        self.judge.consider(
            trainer.model,
            held,
            training,
            context,
            trained_on=trained_on,
            frames=frames,
            updates=trainer.updates,
            loss=self._loss,
        )

    def take(self, frames: int) -> None:
        """Take up frames that wait, in a team, until so many were."""
        self.frames += self.waiting.take(frames - self.frames)

    def watch(self, context: Context) -> list[Drift]:
        """Look at the model in service, and for drift, on the newest samples if there are enough.

        Returns
        -------
        list of Drift
            What is to be learned from anew; none where that goes on already, or has not begun.
        """
        recent = self.intake.recent
        if len(recent) < recent.capacity or not recent.capacity:
            return []
        samples = recent.content()
        self.judge.watch(samples, context, frames=self.frames)
        if self.drift is None:
            return []
        newest = samples[0] if self.target else samples[-1]
        drifts = self.drift.update(newest, self.judge.in_service(), self.judge.number)
        for drift in drifts:
            context.event(
                "drift",
                drift.why,
                level="warning",
                what=drift.what,
                value=drift.value,
                reference=drift.reference,
                frames=self.frames,
            )
        self._why = [drift.why for drift in drifts]
        return drifts if self._prepared and not self.extra else []

    def retrain(self, context: Context, *, tells: bool = True) -> None:
        """Begin the schedule anew, and make more updates for a while; tell of it, if it `tells`."""
        trainer = self.trainer
        assert trainer is not None
        self.extra = self.retrain_updates
        trainer.restart_schedule()
        if tells:
            context.event(
                "retraining",
                f"Because of the drift, the schedule begins anew, and {self.extra} updates come "
                "on top of those that are due; then a candidate is judged.",
                updates=trainer.updates,
                extra=self.extra,
                why=self._why,
            )

    def join(self, **place: Any) -> Member:
        """Train together with other workers from now on.

        The operator only keeps frames then, and they are taken up, and the updates made, in the
        rounds of the member that is returned.

        Parameters
        ----------
        **place
            See `analytics.learning.distributed.team.Place`.

        Raises
        ------
        EngineError
            If the others do not come.
        """
        from analytics.learning.distributed.member import Member
        from analytics.learning.distributed.team import Place, Team

        member = Member(self, Team(Place(**place), choose_device(self.device)))
        self.workers = len(member.team.members)
        return member

    def figures(self) -> dict[str, float]:
        """Return what to tell people of the training; see `bridge.runs.training.figures_of`."""
        trainer, buffer = self.trainer, self.intake.buffer.statistics()
        seconds = time.monotonic() - self._began
        return {
            "loss": self._loss,
            "score": self.judge.score,
            "version": self.judge.number,
            "updates": 0 if trainer is None else trainer.updates,
            "updates_per_second": self._made / seconds if seconds > 0.0 else 0.0,
            "skipped": 0 if trainer is None else trainer.skipped,
            "left_out": self.intake.left_out,
            "starved": self.starved,
            "effective_batch_size": self.batch_size * self.workers,
            "samples": buffer.seen,
            "unused": buffer.unused,
            "uses_per_sample": buffer.uses,
        }

    # ------------------------------------------------------------------- state

    def save(self) -> dict[str, Any]:
        """Return the state."""
        state: dict[str, Any] = {
            "frames": self.frames,
            "prepared": self._prepared,
            "counts": [self._tried, self.extra, self._judged_at, self.starved],
            "loss": self._loss,
            "input_shape": None,
        }
        state |= {f"intake {k}": v for k, v in self.intake.save().items()}
        state |= {f"waiting {k}": v for k, v in self.waiting.save().items()}
        state |= {f"judge {k}": v for k, v in self.judge.save().items()}
        if self.drift is not None:
            state |= {f"drift {k}": v for k, v in self.drift.save().items()}
        if self.trainer is not None:
            state["input_shape"] = list(self.trainer.model.input_shape)
            state |= {f"trainer {k}": v for k, v in self.trainer.save().items()}
        return state

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up a state."""
        self.frames = int(state["frames"])
        self._prepared = bool(state["prepared"])
        self._tried, self.extra, self._judged_at, self.starved = map(int, state["counts"])
        self._loss = float(state["loss"])
        self.intake.restore(part_of(state, "intake"))
        self.waiting.restore(part_of(state, "waiting"))
        self.judge.restore(part_of(state, "judge"))
        if self.drift is not None:
            self.drift.restore(part_of(state, "drift"))
        self.trainer = None
        if state["input_shape"] is not None:
            self.trainer = self._make(tuple(state["input_shape"]))
            self.trainer.restore(part_of(state, "trainer"))
            self.trainer.model.eval()


def _default(factory: Callable[..., Any], name: str) -> Any:
    """Return what a parameter is if it is not given; None if it must be, or there is none."""
    found = inspect.signature(factory).parameters.get(name)
    return None if found is None or found.default is found.empty else found.default
