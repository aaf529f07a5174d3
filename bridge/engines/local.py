"""The local engine: a pipeline over all streams of a stager, in one thread, without a JVM."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path

import msgspec

from bridge.commands import Event
from bridge.engines.checkpoint import Checkpoint
from bridge.engines.options import LocalOptions
from bridge.engines.patience import PatientClient
from bridge.engines.progress import Progress
from bridge.engines.protocol import EngineStatistics, Guard, Unguarded, Until
from bridge.engines.publisher import Publisher
from bridge.engines.runner import Runner
from bridge.engines.saving import Saver
from bridge.engines.stopping import Stops
from bridge.engines.turns import Turn
from bridge.errors import HeadraceError, NobodyListening, StagingError, TransportError
from bridge.frames import FrameBatch
from bridge.pipeline import Pipeline
from bridge.staging.client import Fetched, StagerClient
from bridge.staging.messages import StreamOptions

__all__ = ["LocalEngine"]

log = logging.getLogger(__name__)

FRAMES = "frames/"
STATUS = StreamOptions(when_full="drop_oldest", capacity=4 << 20)
_POLL = 0.25  # seconds that a fetch waits at most, so that `stop` is heard
_RECALL = 256  # decisions to look back to when there is no checkpoint


class LocalEngine:
    """Runs a pipeline over the streams of a stager.

    New simulations are picked up as they appear; finished ones are let go. Each batch is acted on
    as soon as it comes; a batch is what came since the last one, so the engine takes larger ones
    the further it is behind. With a checkpoint, the engine may be killed at any moment: started
    again with the same arguments, it gives every frame's result and every command exactly once,
    the same to the bit as if it had not been killed.

    One thread runs the engine, and uses the client alone; `stop` and `statistics` are for any.

    Parameters
    ----------
    pipeline
        What to run.
    client
        To the stager; the engine does not close it.
    group
        Consumer group under which frames are committed; by default the pipeline's name. An engine
        is the only member of its group.
    guard
        Judges commands; without one, all are sent.
    checkpoint
        File to save the state in; its folder also takes a few files whose names begin the same
        way. Without one, frames are committed when they have been analysed, and a killed engine
        begins with operators as new.
    simulations
        Names that must have come and finished before a run until all have finished ends.
    on_status
        Called with the statistics, about once a second, in the engine's thread.
    options
        Everything else.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        client: StagerClient,
        *,
        group: str = "",
        guard: Guard | None = None,
        checkpoint: Path | None = None,
        simulations: Collection[str] = (),
        on_status: Callable[[EngineStatistics], None] | None = None,
        options: LocalOptions | None = None,
    ) -> None:
        self.pipeline = pipeline
        self.group = group or pipeline.name
        self.options = options or LocalOptions()
        self._halt = False
        self._client = PatientClient(client, self.options.reconnect_timeout, lambda: self._halt)
        self._runner = Runner(pipeline, on_error=self.options.on_error)
        self._publisher = Publisher(self._client, pipeline.name, guard or Unguarded())
        self._progress = Progress(pipeline.name, "local")
        self._stops = Stops()
        self._saver = (
            None
            if checkpoint is None
            else Saver(
                checkpoint,
                pipeline.name,
                every=self.options.checkpoint_every,
                every_bytes=self.options.checkpoint_bytes,
            )
        )
        self._on_status = on_status
        self._expected = frozenset(simulations)
        self._positions: dict[str, int] = {}
        self._finished: set[str] = set()
        self._known: tuple[str, ...] = ()
        self._noted: tuple[str, ...] = ()
        self._gaps: dict[str, tuple[int, int, int]] = {}
        self._to_commit: dict[str, int] = {}
        self._committed: dict[str, int] = {}
        self._max_frames = self.options.max_frames
        self._next_status = 0.0
        self._heard = 0.0
        self._idle = False
        self._begun = False

    # -------------------------------------------------------------------- run

    def run(self, until: Until = "finished") -> EngineStatistics:
        """Run, and return what was done.

        Parameters
        ----------
        until
            ``finished``: until all streams have finished and were read to the end; ``stopped``:
            until `stop` is called. Both end when an operator told of a target reached, and all
            simulations that were commanded to stop have answered, or have finished.

        Raises
        ------
        OperatorFailed
            If an operator fails; no frame is lost: a checkpoint stands before those frames.
        ConnectionLost
            If the stager went away and did not come back in time.
        NobodyListening
            If no frame came for `idle_timeout` seconds, though streams have not finished.
        StagingError
            If the stager lost what it held, or the checkpoint cannot be written.
        """
        try:
            self.begin()
            while not self._halt:
                came = self.step(_POLL)
                if self._is_over(until, came):
                    break
            self._end(finish=not self._halt)
        except BaseException as error:
            self._progress.state = "failed"
            if not isinstance(error, TransportError):
                self._tell_failure(error)
            raise
        finally:
            if self._saver is not None:
                self._saver.close()
        return self.statistics()

    def stop(self) -> None:
        """Ask the engine to end after the batch at hand, and to save; from any thread.

        Operators are not told that it is the end: the engine can be started again.
        """
        self._halt = True

    def statistics(self) -> EngineStatistics:
        """Return what was done so far; from any thread."""
        return self._progress.statistics(
            self._runner.seconds, self._publisher.verdicts, self._publisher.events
        )

    def position(self, simulation: str) -> int:
        """Return the offset of the next frame of a simulation to be analysed."""
        return self._positions.get(FRAMES + simulation, 0)

    def begin(self) -> None:
        """Take up the checkpoint and replay what follows it; `run` does it by itself."""
        if self._begun:
            return
        self._begun = True
        if self._saver is not None:
            self._load(self._saver)
        else:
            self._begin_without_checkpoint()
        self._heard = time.monotonic()
        self._progress.state = "running"

    def step(self, wait: float = 0.0) -> int:
        """Take what has come, waiting up to `wait` seconds for it, and return how many frames.

        For who runs the engine by hand; `run` is this in a loop.
        """
        self.begin()
        if self._saver is not None and (self._to_commit or self._uncommitted()):
            # Whoever waits for space waits for the next checkpoint, or the news of it.
            wait = min(wait, 0.0 if self._to_commit else self._saver.due_in(idle=self._idle))
        fetched = self._client.fetch(
            {**self._positions, **self._stops.positions},
            follow=FRAMES,
            group=self.group,
            commit=self._to_commit,
            done=[FRAMES + name for name in self._finished],
            max_frames=self._max_frames,
            max_bytes=self.options.max_bytes,
            # A fetch that may not wait refuses topics that do not exist yet.
            wait=max(wait, 0.001),
        )
        self._committed.update(self._to_commit)
        self._to_commit = {}
        with fetched:
            came = self._take(fetched)
        self._idle = not came
        if self._saver is None:
            self._to_commit = dict(self._uncommitted())
        self._look_after()
        return came

    def _look_after(self) -> None:
        """Do what is due beside the frames."""
        if self._saver is not None:
            self._save(self._saver)
        self._status()

    # ---------------------------------------------------------------- batches

    def _take(self, fetched: Fetched) -> int:
        self._stops.hear(fetched.records)
        for gap in fetched.gaps:
            if gap.topic.startswith(FRAMES):
                self._miss(gap.topic.removeprefix(FRAMES), gap.first, gap.stop)
                self._positions[gap.topic] = gap.stop
        for batch in fetched.batches:
            self._welcome(batch)
        self._meet(batch.simulation for batch in fetched.batches)
        frames = 0
        for piece in self._cut(fetched.batches):
            if self._halt:
                return frames
            if frames:
                self._look_after()
            began = time.monotonic()
            turn = self._note(Turn(piece.simulation, piece.first, piece.stop), piece.nbytes)
            self._analyse(piece, turn)
            self._heard = time.monotonic()
            self._adapt(len(piece), self._heard - began)
            frames += len(piece)
        for topic in sorted(fetched.finished):
            name = topic.removeprefix(FRAMES)
            if topic.startswith(FRAMES) and name not in self._finished:
                end = fetched.positions[topic]
                self._end_stream(self._note(Turn(name, end, end), 0))
                self._heard = time.monotonic()
        return frames

    def _cut(self, batches: Iterable[FrameBatch]) -> Iterator[FrameBatch]:
        """Cut what staging holds in one piece, and would be too much at once."""
        for batch in batches:
            at = 0
            while at < len(batch):
                stop = at + self._max_frames
                whole = at == 0 and len(batch) <= self._max_frames
                yield batch if whole else batch.take(slice(at, stop))
                at = stop

    def _welcome(self, batch: FrameBatch) -> None:
        name = batch.simulation
        if FRAMES + name not in self._positions and batch.first:
            self._publisher.tell(
                Event(
                    "joined_late",
                    f"The stream of {name!r} is read from offset {batch.first} on; what came "
                    "before was released already.",
                    simulation=name,
                    data={"offset": batch.first},
                )
            )
        if name in self._finished:
            self._finished.discard(name)
            self._progress.finished(name, finished=False)

    def _note(self, turn: Turn, size: int) -> Turn:
        """Write a turn ahead."""
        if self._known != self._noted:
            turn = msgspec.structs.replace(turn, known=self._known)
            self._noted = self._known
        if self._saver is not None:
            self._saver.note(turn, size)
        return turn

    def _meet(self, names: Iterable[str]) -> None:
        new = set(names) - set(self._known) - self._finished
        if new:
            self._known = tuple(sorted({*self._known, *new}))

    def _analyse(self, batch: FrameBatch, turn: Turn, *, replayed: bool = False) -> None:
        if turn.known is not None:
            self._known = turn.known
        outcome = self._runner.process(batch, self._known)
        sent = self._publisher.publish(outcome)
        self._stops.watch(outcome, sent)
        # Those that were served go to the end of the queue, so that none is starved.
        self._positions.pop(FRAMES + batch.simulation, None)
        self._positions[FRAMES + batch.simulation] = batch.stop
        self._progress.count(batch, outcome.quarantined, replayed=replayed)

    def _end_stream(self, turn: Turn) -> None:
        if turn.known is not None:
            self._known = turn.known
        outcome = self._runner.finish_simulation(turn.simulation, turn.first, self._known)
        self._stops.watch(outcome, self._publisher.publish_end(outcome))
        self._finished.add(turn.simulation)
        self._known = tuple(name for name in self._known if name != turn.simulation)
        self._noted = self._known
        self._positions[FRAMES + turn.simulation] = turn.first
        self._progress.finished(turn.simulation)

    def _adapt(self, frames: int, seconds: float) -> None:
        """Take no more at once than about `batch_seconds` of work."""
        fit = int(frames * self.options.batch_seconds / max(seconds, 1e-9))
        # Up by halves, so that one quick batch does not bring a very long one.
        wanted = (self._max_frames + fit + 1) // 2 if fit > self._max_frames else fit
        self._max_frames = min(max(wanted, 1), self.options.max_frames)

    def _miss(self, name: str, first: int, stop: int) -> None:
        """Note a gap; told with the next status, since a policy of dropping makes many."""
        self._progress.missed(name, first, stop)
        known = self._gaps.get(name)
        self._gaps[name] = (
            (stop - first, first, stop)
            if known is None
            else (known[0] + stop - first, known[1], stop)
        )

    def _tell_gaps(self) -> None:
        for name, (count, first, stop) in self._gaps.items():
            self._publisher.tell(
                Event(
                    "gap",
                    f"{count} frames of {name!r} were released before they were analysed, between "
                    f"the offsets {first} and {stop - 1}.",
                    simulation=name,
                    level="warning",
                    data={"count": count, "first": first, "stop": stop},
                )
            )
        self._gaps.clear()

    # ----------------------------------------------------------------- saving

    def _uncommitted(self) -> Collection[tuple[str, int]]:
        return self._positions.items() - self._committed.items()

    def _save(self, saver: Saver) -> None:
        self._poll(saver.poll())
        for topic in self._positions:
            if topic not in self._committed:
                # Known to retention from the first moment, so that nothing is released unread.
                self._to_commit.setdefault(topic, 0)
        if not saver.due_in(idle=self._idle) and self._uncommitted():
            saver.save(self._checkpoint)

    def _poll(self, positions: dict[str, int] | None) -> None:
        if positions is not None:
            self._progress.checkpoints += 1
            self._to_commit.update(positions)

    def _checkpoint(self, number: int) -> Checkpoint:
        counts = self._progress.counts()
        counts["events"] = self._publisher.events
        counts |= {f"verdict {k}": n for k, n in self._publisher.verdicts.items()}
        return Checkpoint(
            pipeline=self.pipeline.name,
            number=number,
            positions=dict(self._positions),
            finished=sorted(self._finished),
            known=list(self._known),
            counts=counts,
            decisions=self._publisher.decisions_end,
            stops=self._stops.save(),
            operators=self._runner.save(),
        )

    def _load(self, saver: Saver) -> None:
        checkpoint, turns, complaints = saver.load()
        if checkpoint is not None:
            self._runner.restore(checkpoint.operators)
            self._positions = dict(checkpoint.positions)
            self._finished = set(checkpoint.finished)
            self._known = tuple(checkpoint.known)
            self._stops.restore(checkpoint.stops)
            self._publisher.restore(checkpoint.counts)
            by_name = {t.removeprefix(FRAMES): p for t, p in checkpoint.positions.items()}
            self._progress.restore(checkpoint.counts, by_name)
            for name in self._finished:
                self._progress.finished(name)
        for complaint in complaints:
            log.warning("%s", complaint)
            self._publisher.tell(Event("checkpoint_damaged", complaint, level="error"))
        self._publisher.recall(0 if checkpoint is None else checkpoint.decisions)
        for turn in turns:
            self._replay(turn)
        self._publisher.forget()
        if checkpoint is not None or turns:
            self._publisher.tell(
                Event(
                    "resumed",
                    f"The engine goes on from its checkpoint; {len(turns)} batches after it were "
                    "analysed again.",
                    data={"turns": len(turns)},
                )
            )
            saver.begin(self._checkpoint)
        else:
            saver.begin(None)
        self._noted = self._known

    def _replay(self, turn: Turn) -> None:
        """Take a turn again, cut as it was."""
        if turn.is_end:
            self._end_stream(turn)
            return
        topic = FRAMES + turn.simulation
        position = turn.first
        parts: list[FrameBatch] = []
        while position < turn.stop:
            with self._client.fetch(
                {topic: position}, max_frames=turn.stop - position, wait=_POLL
            ) as fetched:
                for gap in fetched.gaps:
                    self._miss(turn.simulation, gap.first, min(gap.stop, turn.stop))
                parts += [
                    batch.take(slice(0, turn.stop - batch.first)).copy()
                    for batch in fetched.batches
                    if batch.first < turn.stop
                ]
                after = fetched.positions.get(topic, position)
            if after == position:
                raise StagingError(
                    f"The frames {position} to {turn.stop - 1} of {turn.simulation!r}, which were "
                    "analysed before, are not there any more: the stager was started anew without "
                    "what it held. Remove the engine's checkpoint to begin anew."
                )
            position = after
        if parts:
            self._finished.discard(turn.simulation)
            self._analyse(FrameBatch.concatenate(parts), turn, replayed=True)

    def _begin_without_checkpoint(self) -> None:
        for topic in self._client.topics(FRAMES, schemas=False):
            if self.group in topic.groups:
                position = max(topic.groups[self.group], topic.low)
                self._positions[topic.name] = self._committed[topic.name] = position
        for topic in self._client.topics("decisions", schemas=False):
            if topic.name == "decisions":
                self._publisher.decisions_end = max(0, topic.end - _RECALL)

    # -------------------------------------------------------------------- end

    def _is_over(self, until: Until, came: int) -> bool:
        if self._stops.is_over(self._finished, idle=not came, linger=self.options.linger):
            return True
        overdue = self._stops.overdue(self._finished, self.options.stop_timeout)
        if overdue is not None:
            self._publisher.tell(overdue)
            return True
        if until == "stopped" or came:
            return False
        if self._all_finished():
            return True
        quiet = time.monotonic() - self._heard
        if quiet > self.options.idle_timeout:
            names = sorted((self._expected | set(self._known)) - self._finished)
            whom = f"{', '.join(names)} have not finished" if names else "there is no stream"
            raise NobodyListening(
                f"No frame came for {quiet:.0f} s, and {whom}. Look at the simulations, or raise "
                "the engine's 'idle_timeout'."
            )
        return False

    def _all_finished(self) -> bool:
        if not self._finished or self._known or not self._expected <= self._finished:
            return False
        # A stream without a frame is not among those fetched: ask.
        return all(
            topic.finished and topic.name.removeprefix(FRAMES) in self._finished
            for topic in self._client.topics(FRAMES, schemas=False)
        )

    def _end(self, *, finish: bool) -> None:
        self._progress.state = "stopping"
        if self._saver is not None:
            self._poll(self._saver.poll(wait=True))
            self._saver.save(self._checkpoint)
            self._poll(self._saver.poll(wait=True))
        if self._positions:
            self._client.commit(self.group, self._positions)
        if finish:
            # After the last checkpoint: an engine that is started again has operators that were
            # not told of an end, and says what follows a second time, which staging drops.
            for name in self._known:
                position = self._positions.get(FRAMES + name, 0)
                outcome = self._runner.finish_simulation(name, position, self._known)
                self._publisher.publish_end(outcome)
            total = sum(self._positions.values())
            self._publisher.publish_end(self._runner.finish(total, self._known))
        self._progress.state = "finished" if finish else "stopped"
        self._status(now=True)

    def _tell_failure(self, error: BaseException) -> None:
        try:
            said = str(error) if isinstance(error, HeadraceError) else f"{error!r}."
            self._publisher.tell(Event("engine_failed", said, level="error"))
            self._status(now=True)
        except HeadraceError:
            log.warning("The failure of the engine could not be told.")

    def _status(self, *, now: bool = False) -> None:
        if not now and time.monotonic() < self._next_status:
            return
        self._next_status = time.monotonic() + self.options.status_every
        self._tell_gaps()
        ends = {}
        for topic in self._client.topics(FRAMES, schemas=False):
            name = topic.name.removeprefix(FRAMES)
            ends[name] = topic.end
            if not topic.finished:
                self._meet([name])
        self._progress.ends(ends)
        statistics = self.statistics()
        self._client.append(
            f"status/{self.pipeline.name}", [msgspec.msgpack.encode(statistics)], options=STATUS
        )
        if self._on_status is not None:
            self._on_status(statistics)
