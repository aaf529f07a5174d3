"""The local engine: a pipeline over all streams of a stager, in one thread, without a JVM."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import msgspec

from bridge.commands import Event
from bridge.engines.course import FRAMES, Course
from bridge.engines.keeping import Keeping
from bridge.engines.options import LocalOptions
from bridge.engines.patience import PatientClient
from bridge.engines.portions import Portions
from bridge.engines.progress import STATUS, Progress
from bridge.engines.protocol import EngineStatistics, Guard, Unguarded, Until
from bridge.engines.publisher import Publisher
from bridge.engines.runner import Runner
from bridge.engines.saving import Saver
from bridge.engines.stopping import Stops
from bridge.errors import HeadraceError, NobodyListening, TransportError
from bridge.pipeline import Pipeline
from bridge.staging.client import Fetched
from bridge.staging.client_like import ClientLike

__all__ = ["LocalEngine"]

log = logging.getLogger(__name__)

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
        Judges commands; without one, all are sent. One that has people asked before some must
        carry out what they say as well, as those of `bridge.steering.KeeperMaker` do, unless
        somebody else does.
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

    Raises
    ------
    ConfigError
        If nobody would carry out what people say.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        client: ClientLike,
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
        self._halt = self._finish = False
        self._client = PatientClient(client, self.options.reconnect_timeout, lambda: self._halt)
        self._runner = Runner(pipeline, on_error=self.options.on_error)
        self._stops = Stops()
        guard = guard or Unguarded()
        self._keeping = Keeping(guard, pipeline.name)
        self._publisher = Publisher(self._client, pipeline.name, guard, self._stops)
        self._progress = Progress(pipeline.name, "local")
        self._course = Course(
            self._client, self._runner, self._publisher, self._progress, self._stops
        )
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
        self._to_commit: dict[str, int] = {}
        self._committed: dict[str, int] = {}
        self._portions = Portions(self.options.max_frames, self.options.batch_seconds)
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
            self._end(finish=self._finish or not self._halt)
        except BaseException as error:
            self._progress.state = "failed"
            if not isinstance(error, TransportError):
                self._tell_failure(error)
            raise
        finally:
            if self._saver is not None:
                self._saver.close()
        return self.statistics()

    def stop(self, *, finish: bool = False) -> None:
        """Ask the engine to end after the batch at hand, and to save; from any thread.

        Operators are not told that it is the end, unless they are to `finish` with what they have
        seen. The engine can be started again from what was saved, which is from before that.
        """
        self._finish = finish
        self._halt = True

    def statistics(self) -> EngineStatistics:
        """Return what was done so far; from any thread."""
        return self._progress.statistics(
            self._runner.seconds,
            self._publisher.verdicts,
            self._publisher.events,
            self._runner.states(),
            self._runner.units.of_results(),
        )

    def position(self, simulation: str) -> int:
        """Return the offset of the next frame of a simulation to be analysed."""
        return self._course.positions.get(FRAMES + simulation, 0)

    def operator(self, name: str) -> Any:
        """Return the instance of a frame or global operator; for the engine's own thread."""
        return self._runner.operator(name)

    def tell(self, event: Event) -> None:
        """Put an event into the log; for the engine's own thread, as are the methods below."""
        self._publisher.tell(event)

    def has_read_all(self) -> bool:
        """Return whether all streams that there are have finished, and were read to the end."""
        return not self._course.known and all(
            topic.finished and topic.name.removeprefix(FRAMES) in self._course.finished
            for topic in self._client.topics(FRAMES, schemas=False)
        )

    def end(self) -> None:
        """Save, and end a run by hand; operators are not told that it is the end."""
        try:
            self._end(finish=False)
        finally:
            if self._saver is not None:
                self._saver.close()

    def begin(self) -> None:
        """Take up the checkpoint and replay what follows it; `run` does it by itself."""
        if self._begun:
            return
        self._begun = True
        self._publisher.announce()
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
        self._portions.gather(self.options.gather if self._runner.gathers else 0.0)
        fetched = self._client.fetch(
            {**self._course.positions, **self._stops.positions},
            follow=FRAMES,
            group=self.group,
            commit=self._to_commit,
            done=[FRAMES + name for name in self._course.finished],
            max_frames=self._portions.frames,
            max_bytes=self.options.max_bytes,
            # A fetch that may not wait refuses topics that do not exist yet.
            wait=max(wait, 0.001),
            in_blocks=self._runner.in_blocks,
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
        self._publisher.tell_absences()
        self._keeping.look_after()
        if self._saver is not None:
            self._save(self._saver)
        self._status()

    # ---------------------------------------------------------------- batches

    def _take(self, fetched: Fetched) -> int:
        course = self._course
        self._stops.hear(fetched.records)
        for gap in fetched.gaps:
            if gap.topic.startswith(FRAMES):
                course.miss(gap.topic, gap.first, gap.stop, passed_over=gap.passed_over)
        for batch in fetched.batches:
            self._runner.units.learn(self._client, batch.simulation)
            course.welcome(batch)
        frames = 0
        for group in self._portions.groups(fetched, together=self._runner.gathers):
            if self._halt:
                return frames
            if frames:
                self._look_after()
            began = time.monotonic()
            taken = []
            for number, (piece, put) in enumerate(group):
                together = 0 if number else len(group)
                turn = course.plan(piece.simulation, piece.first, piece.stop, together=together)
                if self._saver is not None:
                    self._saver.note(turn, piece.nbytes)
                taken.append((piece, turn, put))
            course.analyse_together(taken)
            self._heard = time.monotonic()
            count = sum(len(piece) for piece, _ in group)
            self._portions.adapt(count, self._heard - began)
            frames += count
        for topic in sorted(fetched.finished):
            name = topic.removeprefix(FRAMES)
            if topic.startswith(FRAMES) and name not in course.finished:
                end = fetched.positions[topic]
                turn = course.plan(name, end, end)
                if self._saver is not None:
                    self._saver.note(turn, 0)
                course.end_stream(turn)
                self._heard = time.monotonic()
        return frames

    # ----------------------------------------------------------------- saving

    def _uncommitted(self) -> Collection[tuple[str, int]]:
        return self._course.positions.items() - self._committed.items()

    def _save(self, saver: Saver) -> None:
        self._poll(saver.poll())
        for topic in self._course.positions:
            if topic not in self._committed:
                # Known to retention from the first moment, so that nothing is released unread.
                self._to_commit.setdefault(topic, 0)
        if not saver.due_in(idle=self._idle) and self._uncommitted():
            saver.save(self._course.save)

    def _poll(self, positions: dict[str, int] | None) -> None:
        if positions is not None:
            self._progress.checkpoints += 1
            self._to_commit.update(positions)

    def _load(self, saver: Saver) -> None:
        course = self._course
        checkpoint, turns, complaints = saver.load()
        if checkpoint is not None:
            course.restore(checkpoint)
        for complaint in complaints:
            log.warning("%s", complaint)
            self._publisher.tell(Event("checkpoint_damaged", complaint, level="error"))
        self._publisher.recall(0 if checkpoint is None else checkpoint.decisions)
        if turns:
            self._runner.units.learn(self._client, turns[0].simulation)
        course.replay(turns)
        self._publisher.forget()
        if checkpoint is None and not turns:
            saver.begin(None)
            return
        self._publisher.tell(
            Event(
                "resumed",
                f"The engine goes on from its checkpoint; {len(turns)} batches after it were "
                "analysed again.",
                data={"turns": len(turns)},
            )
        )
        saver.begin(course.save)

    def _begin_without_checkpoint(self) -> None:
        for topic in self._client.topics(FRAMES, schemas=False):
            if self.group in topic.groups:
                position = max(topic.groups[self.group], topic.low)
                self._course.positions[topic.name] = self._committed[topic.name] = position
        for topic in self._client.topics("decisions", schemas=False):
            if topic.name == "decisions":
                self._publisher.decisions_end = max(0, topic.end - _RECALL)

    # -------------------------------------------------------------------- end

    def _is_over(self, until: Until, came: int) -> bool:
        if self._stops.is_over(self._course.finished, idle=not came, linger=self.options.linger):
            return True
        overdue = self._stops.overdue(self._course.finished, self.options.stop_timeout)
        if overdue is not None:
            self._publisher.tell(overdue)
            return True
        if until == "stopped" or came:
            return False
        if self._all_finished():
            return True
        quiet = time.monotonic() - self._heard
        if quiet > self.options.idle_timeout:
            names = sorted((self._expected | set(self._course.known)) - self._course.finished)
            whom = f"{', '.join(names)} have not finished" if names else "there is no stream"
            raise NobodyListening(
                f"No frame came for {quiet:.0f} s, and {whom}. Look at the simulations, or raise "
                "the engine's 'idle_timeout'."
            )
        return False

    def _all_finished(self) -> bool:
        if (
            not self._course.finished
            or self._course.known
            or not self._expected <= self._course.finished
        ):
            return False
        # A stream without a frame is not among those fetched: ask.
        return all(
            topic.finished and topic.name.removeprefix(FRAMES) in self._course.finished
            for topic in self._client.topics(FRAMES, schemas=False)
        )

    def _end(self, *, finish: bool) -> None:
        self._progress.state = "stopping"
        if self._saver is not None:
            self._poll(self._saver.poll(wait=True))
            self._saver.save(self._course.save)
            self._poll(self._saver.poll(wait=True))
        if self._course.positions:
            self._client.commit(self.group, self._course.positions)
        if finish:
            # After the last checkpoint: an engine that is started again has operators that were
            # not told of an end, and says what follows a second time, which staging drops.
            self._course.end_all()
            self._keeping.conclude()
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
        self._course.tell_gaps()
        ends = {}
        for topic in self._client.topics(FRAMES, schemas=False):
            name = topic.name.removeprefix(FRAMES)
            ends[name] = topic.end
            if not topic.finished:
                self._course.meet([name])
        self._progress.ends(ends)
        statistics = self.statistics()
        self._client.append(
            f"status/{self.pipeline.name}", [msgspec.msgpack.encode(statistics)], options=STATUS
        )
        if self._on_status is not None:
            self._on_status(statistics)
