"""Where an engine is in the streams, and what it does with each turn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bridge.commands import Event
from bridge.engines.calling import Begun
from bridge.engines.checkpoint import Checkpoint
from bridge.engines.patience import PatientClient
from bridge.engines.progress import Progress
from bridge.engines.publisher import Publisher
from bridge.engines.runner import Runner
from bridge.engines.stopping import Stops
from bridge.engines.turns import Turn
from bridge.errors import StagingError
from bridge.frames import FrameBatch

__all__ = ["FRAMES", "Course"]

FRAMES = "frames/"
_WAIT = 0.25  # seconds that a fetch of frames which are there may take


class Course:
    """Takes turns: a batch through the operators and into staging, or the end of a stream.

    Everything that a checkpoint holds lies here. The same turns taken from the same checkpoint have
    the same effect, and what staging holds of it already is not stored twice.

    Attributes
    ----------
    positions
        Topic of frames to the offset of the next one; the one served last comes last.
    finished
        Simulations whose streams have ended.
    known
        Simulations that operators are told of: those that came, and have not ended.
    """

    def __init__(
        self,
        client: PatientClient,
        runner: Runner,
        publisher: Publisher,
        progress: Progress,
        stops: Stops,
    ) -> None:
        self.positions: dict[str, int] = {}
        self.finished: set[str] = set()
        self.known: tuple[str, ...] = ()
        self._client = client
        self._runner = runner
        self._publisher = publisher
        self._progress = progress
        self._stops = stops
        self._noted: tuple[str, ...] = ()
        self._welcomed: set[str] = set()
        # Simulation, and whether they were passed over, to their number, first offset and end.
        self._gaps: dict[tuple[str, bool], tuple[int, int, int]] = {}

    # ------------------------------------------------------------------ turns

    def meet(self, names: Iterable[str]) -> None:
        """Take up simulations that were not known."""
        new = set(names) - set(self.known) - self.finished
        if new:
            self.known = tuple(sorted({*self.known, *new}))

    def welcome(self, batch: FrameBatch) -> None:
        """Take note of a batch that is about to be analysed, before it is cut into turns."""
        name = batch.simulation
        is_new = FRAMES + name not in self.positions and name not in self._welcomed
        self._welcomed.add(name)
        if is_new and batch.first:
            self._publisher.tell(
                Event(
                    "joined_late",
                    f"The stream of {name!r} is read from offset {batch.first} on; what came "
                    "before was released already.",
                    simulation=name,
                    data={"offset": batch.first},
                )
            )
        if name in self.finished:
            self.finished.discard(name)
            self._progress.finished(name, finished=False)
        self.meet([name])

    def plan(self, simulation: str, first: int, stop: int, *, together: int = 1) -> Turn:
        """Return a turn as it is to be written ahead; an empty range for the end of a stream."""
        known = None if self.known == self._noted else self.known
        self._noted = self.known
        return Turn(simulation, first, stop, known, together)

    def analyse_together(
        self, taken: Sequence[tuple[FrameBatch, Turn, float]], *, replayed: bool = False
    ) -> None:
        """Take the turns of batches, with when each was put, that frame operators see at once."""
        if len(taken) == 1:
            batch, turn, put = taken[0]
            self.analyse(batch, turn, put=put, replayed=replayed)
            return
        begun = self._runner.begin([batch for batch, _, _ in taken])
        for (batch, turn, put), ready in zip(taken, begun, strict=True):
            self.analyse(batch, turn, put=put, replayed=replayed, begun=ready)

    def analyse(
        self,
        batch: FrameBatch,
        turn: Turn,
        *,
        put: float = 0.0,
        replayed: bool = False,
        begun: Begun | None = None,
    ) -> None:
        """Take the turn of a batch, whose newest frame was `put` at that Unix time."""
        self._enter(turn)
        outcome = self._runner.process(batch, self.known, begun=begun)
        sent = self._publisher.publish(outcome)
        self._stops.watch(outcome, sent)
        topic = FRAMES + batch.simulation
        # Those that were served go to the end of the queue, so that none is starved.
        self.positions.pop(topic, None)
        self.positions[topic] = batch.stop
        self._progress.count(batch, outcome.quarantined, put=put, replayed=replayed)

    def end_stream(self, turn: Turn) -> None:
        """Take the turn of a stream that has ended."""
        self._enter(turn)
        name = turn.simulation
        outcome = self._runner.finish_simulation(name, turn.first, self.known)
        self._stops.watch(outcome, self._publisher.publish_end(outcome))
        self.finished.add(name)
        self.known = tuple(other for other in self.known if other != name)
        self._noted = self.known
        self.positions[FRAMES + name] = turn.first
        self._progress.finished(name)

    def end_all(self) -> None:
        """Tell the operators that nothing more will come, from anybody."""
        for name in self.known:
            position = self.positions.get(FRAMES + name, 0)
            self._publisher.publish_end(self._runner.finish_simulation(name, position, self.known))
        total = sum(self.positions.values())
        self._publisher.publish_end(self._runner.finish(total, self.known))

    def _enter(self, turn: Turn) -> None:
        if turn.known is not None:
            self.known = turn.known

    # ------------------------------------------------------------------- gaps

    def miss(self, topic: str, first: int, stop: int, *, passed_over: bool = False) -> None:
        """Note that frames were released unread, or passed over.

        Told by `tell_gaps`, now and then, since a policy of dropping makes many.
        """
        name = topic.removeprefix(FRAMES)
        self._progress.missed(name, first, stop)
        count, begin, _ = self._gaps.get((name, passed_over), (0, first, stop))
        self._gaps[name, passed_over] = (count + stop - first, begin, stop)
        self.positions[topic] = max(stop, self.positions.get(topic, 0))

    def tell_gaps(self) -> None:
        """Tell of the frames that were missed since the last call."""
        for (name, passed_over), (count, first, stop) in self._gaps.items():
            how = (
                "were passed over, as this engine was too far behind"
                if passed_over
                else "were released before they were analysed"
            )
            self._publisher.tell(
                Event(
                    "gap",
                    f"{count} frames of {name!r} {how}, between the offsets {first} and "
                    f"{stop - 1}.",
                    simulation=name,
                    # Whoever may pass frames over was meant to do so.
                    level="info" if passed_over else "warning",
                    data={
                        "count": count,
                        "first": first,
                        "stop": stop,
                        "passed_over": passed_over,
                    },
                )
            )
        self._gaps.clear()

    # ------------------------------------------------------------------ state

    def save(self, number: int) -> Checkpoint:
        """Return the present state."""
        counts = self._progress.counts()
        counts["events"] = self._publisher.events
        counts |= {f"verdict {k}": n for k, n in self._publisher.verdicts.items()}
        return Checkpoint(
            pipeline=self._runner.pipeline.name,
            number=number,
            positions=dict(self.positions),
            finished=sorted(self.finished),
            known=list(self.known),
            counts=counts,
            decisions=self._publisher.decisions_end,
            stops=self._stops.save(),
            operators=self._runner.save(),
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Take up what `save` returned."""
        self._runner.restore(checkpoint.operators)
        self.positions = dict(checkpoint.positions)
        self.finished = set(checkpoint.finished)
        self.known = self._noted = tuple(checkpoint.known)
        self._stops.restore(checkpoint.stops)
        self._publisher.restore(checkpoint.counts)
        by_name = {t.removeprefix(FRAMES): p for t, p in checkpoint.positions.items()}
        self._progress.restore(checkpoint.counts, by_name)
        for name in self.finished:
            self._progress.finished(name)

    def replay(self, turns: Iterable[Turn]) -> None:
        """Take turns again, in their order and cut as they were.

        Raises
        ------
        StagingError
            If the stager does not hold the frames any more.
        """
        waiting = list(turns)
        while waiting:
            count = 1
            # Who was killed while noting a group had not begun with it: it may be cut short.
            while count < min(waiting[0].together, len(waiting)) and not waiting[count].together:
                count += 1
            group, waiting = waiting[:count], waiting[count:]
            if group[0].is_end:
                self.end_stream(group[0])
                continue
            taken = []
            for turn in group:
                self.finished.discard(turn.simulation)
                batch = self._fetch_again(turn)
                if batch is not None:
                    taken.append((batch, turn, 0.0))
            if taken:
                self.analyse_together(taken, replayed=True)
        self._noted = self.known

    def _fetch_again(self, turn: Turn) -> FrameBatch | None:
        topic = FRAMES + turn.simulation
        position = turn.first
        parts: list[FrameBatch] = []
        while position < turn.stop:
            with self._client.fetch(
                {topic: position},
                max_frames=turn.stop - position,
                wait=_WAIT,
                in_blocks=self._runner.in_blocks,
            ) as fetched:
                for gap in fetched.gaps:
                    self.miss(topic, gap.first, min(gap.stop, turn.stop))
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
        return FrameBatch.concatenate(parts) if parts else None
