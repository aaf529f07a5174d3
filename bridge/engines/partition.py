"""What a worker of a cluster does: frame and keyed operators, for the partitions that it serves.

Operators are deterministic and appends are idempotent, so frames may be analysed again at any time
without effect. A partition's state is therefore saved now and then (its position and the operators'
states at that position, which belong together), not with each batch: whoever takes the partition up
after a crash goes back to what was saved last.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Collection, Mapping

import msgspec

from bridge.engines.calling import Begun
from bridge.engines.handing import Hand
from bridge.engines.job import Job, split_partition
from bridge.engines.outcome import Outcome
from bridge.engines.partials import PartitionReport
from bridge.engines.partition_state import Partition
from bridge.engines.patience import PatientClient
from bridge.engines.portions import Portions
from bridge.engines.runner import Runner
from bridge.engines.shares import Share
from bridge.errors import StagingError, StreamFull
from bridge.frames import FrameBatch
from bridge.staging.client_like import ClientLike
from bridge.staging.messages import TopicStatus

__all__ = ["FRAMES", "PartitionStage"]

FRAMES = "frames/"
_MOST = 1 << 16  # frames in one fetch
_LOOK = 0.5  # seconds between two looks at which streams there are


class PartitionStage:
    """Runs the spread part of a job for some partitions; one thread uses it.

    Parameters
    ----------
    job
        What to run.
    client
        To the stagers; made, and closed at the end, if it is left out.
    given_up
        Asked while the stager is away; true ends the waiting for it.
    """

    def __init__(
        self,
        job: Job,
        client: ClientLike | None = None,
        *,
        given_up: Callable[[], bool] = lambda: False,
    ) -> None:
        self.job = job
        self.worker = f"{socket.gethostname()}:{os.getpid()}"
        self._runner = Runner(
            job.spread,
            scopes=("frame", "keyed"),
            final=not job.is_gathered,
            on_error=job.options.on_error,
        )
        # After the operators: where these cannot be made, nothing is left open.
        self._mine = client is None
        self._raw = job.connect(f"worker of {job.name}") if client is None else client
        self._client = PatientClient(self._raw, job.options.reconnect_timeout, given_up)
        self._portions = Portions(job.options.max_frames, job.options.batch_seconds)
        self._open: dict[str, Partition] = {}
        self._done: dict[str, Partition] = {}
        self._to_commit: dict[str, dict[str, int]] = {}
        self._streams: dict[str, TopicStatus] = {}
        self._looked = 0.0
        self._hand = Hand(self._client, job)

    # ------------------------------------------------------------- partitions

    def discover(self) -> list[str]:
        """Return the partitions of all streams that are there; looks twice a second.

        A stream that has ended and was read to its end is not among them, unless this stage serves
        it.
        """
        now = time.monotonic()
        if now - self._looked > _LOOK or not self._looked:
            self._looked = now
            self._streams = {
                t.name.removeprefix(FRAMES): t for t in self._client.topics(FRAMES, schemas=False)
            }
            for one in list(self._done.values()):
                found = self._streams.get(one.simulation)
                if found is not None and (not found.finished or found.end > one.position):
                    self._revive(one)
        return [
            partition
            for name, stream in self._streams.items()
            for partition in self.job.partitions(name)
            if self.is_open(partition) or not self._is_read(stream)
        ]

    def _is_read(self, stream: TopicStatus) -> bool:
        committed = stream.groups.get(self.job.consumer, -1)
        return stream.finished and stream.end > 0 and committed >= stream.end

    def _revive(self, one: Partition) -> None:
        """Go on with a stream that had ended: its simulation came back."""
        del self._done[one.name]
        one.finished = False
        self._open[one.name] = one
        self._register(one)

    def is_open(self, partition: str) -> bool:
        """Whether this stage serves a partition; also true for one that has ended."""
        return partition in self._open or partition in self._done

    def open(
        self, partition: str, saved: bytes | None = None, *, position: int | None = None
    ) -> int:
        """Take up a partition, and return its position.

        Parameters
        ----------
        partition
            Its name (`Job.partitions`).
        saved
            What `save` returned; without it, the partition begins at the offset that the job's
            group committed, or at the oldest frame, with operators as new.
        position
            Where to begin without `saved`, if it is known.

        Raises
        ------
        PipelineError
            If what was saved belongs to another pipeline.
        ProtocolError
            If it is damaged.
        """
        self.close(partition)
        one = Partition(partition)
        simulation, group = split_partition(partition)
        if self.job.options.block_groups > 1:
            one.share = Share(self.job, simulation, group)
        if saved is not None:
            keyed = one.restore(saved)
            if keyed is not None:
                self._runner.restore_keyed(simulation, keyed)
                one.states = self._runner.states_of(simulation)
        else:
            one.position = self._first_position(one) if position is None else position
        (self._done if one.finished else self._open)[partition] = one
        if not one.finished:
            self._register(one)
        return one.position

    def _first_position(self, one: Partition) -> int:
        for topic in self._client.topics(one.topic, schemas=False):
            if topic.name == one.topic:
                begun = topic.groups.get(self._group(one), 0)
                if topic.low > begun:
                    self._hand.joined_late(one.name, one.simulation, topic.low)
                return max(topic.low, begun)
        return 0

    def _group(self, one: Partition) -> str:
        _, group = split_partition(one.name)
        groups = self.job.options.block_groups
        return f"{self.job.consumer}#{group}" if groups > 1 else self.job.consumer

    def _register(self, one: Partition) -> None:
        """Let retention know who reads, from the first moment, so that nothing goes unread."""
        self._to_commit.setdefault(self._group(one), {}).setdefault(one.topic, 0)
        if self.job.wanted != ():
            self._client.commit(self.job.merger, {one.topic: 0})
        if self.job.is_gathered:
            self._hand.begin(one.name)

    def position(self, partition: str) -> int:
        """Return the offset of the next frame of a partition to be analysed."""
        return self._find(partition).position

    def close(self, partition: str) -> None:
        """Let go of a partition; it may be taken up again, here or elsewhere."""
        self._open.pop(partition, None)
        if self._done.pop(partition, None) is None:
            self._runner.forget(split_partition(partition)[0])

    def _find(self, partition: str) -> Partition:
        found = self._open.get(partition) or self._done.get(partition)
        if found is None:
            raise StagingError(f"The partition {partition!r} is not served by {self.worker}.")
        return found

    def end(self) -> None:
        """Let go of everything; more than once does no harm."""
        self._open.clear()
        self._done.clear()
        if self._mine:
            self._raw.close()

    # ------------------------------------------------------------------ state

    def dirty(self, partition: str) -> int:
        """Return the bytes of frames, at least 1 for any news, since a partition was saved."""
        return self._find(partition).dirty

    def save(self, partition: str) -> bytes | None:
        """Return position and operators' states as they are now.

        None while something that follows from them could not be stored yet, because what workers
        hand on fills its topic: what was saved before still holds.
        """
        one = self._find(partition)
        if one.pending is not None:
            return None
        keyed = b"" if one.finished else self._runner.save_keyed(one.simulation)
        one.states = {} if one.finished else self._runner.states_of(one.simulation)
        return one.save(keyed)

    def commit(self, positions: Mapping[str, int]) -> None:
        """Note what a completed checkpoint holds; staging is told with the next fetch.

        Parameters
        ----------
        positions
            Partition to position.
        """
        for partition, position in positions.items():
            one = self._open.get(partition) or self._done.get(partition)
            if one is not None:
                self._to_commit.setdefault(self._group(one), {})[one.topic] = position

    def _flush_commits(self) -> None:
        for group, positions in self._to_commit.items():
            if positions:
                self._client.commit(group, positions)
        self._to_commit.clear()

    # ----------------------------------------------------------------- frames

    def pump(
        self, partitions: Collection[str] | None = None, *, wait: float, budget: float
    ) -> list[PartitionReport]:
        """Analyse what has come, and report on the partitions that got further.

        Parameters
        ----------
        partitions
            Which; all that are open, if left out.
        wait
            Seconds to wait if there is nothing.
        budget
            Seconds after which to return though there is more.

        Raises
        ------
        OperatorFailed, PipelineError
            If an operator fails; the job cannot go on.
        ConnectionLost
            If the stager went away and did not come back in time.
        """
        deadline = time.monotonic() + budget
        touched: dict[str, None] = {}
        while True:
            chosen = [
                one
                for name, one in list(self._open.items())
                if partitions is None or name in partitions
            ]
            ready = [one for one in chosen if self._settle(one)]
            came = 0
            if ready and ready[0].share is not None:
                came = self._pump_shares(ready, touched, 0.0 if touched else wait)
            elif ready:
                came = self._pump_frames(ready, touched, 0.0 if touched else wait, deadline)
            if self._to_commit:
                self._flush_commits()
            if not ready and not touched and wait:
                # Nobody may go on until the coordinator has caught up, or there is nothing yet.
                time.sleep(min(wait, 0.005))
            if not came or time.monotonic() >= deadline:
                break
        return [self._find(name).report(self._runner.seconds, self.worker) for name in touched]

    def report(self, partition: str) -> PartitionReport:
        """Report on one partition."""
        return self._find(partition).report(self._runner.seconds, self.worker)

    def reports(self) -> list[PartitionReport]:
        """Report on all partitions; for a coordinator that may have missed some."""
        return [
            one.report(self._runner.seconds, self.worker)
            for one in (*self._open.values(), *self._done.values())
        ]

    def _pump_frames(
        self, chosen: list[Partition], touched: dict[str, None], wait: float, deadline: float
    ) -> int:
        by_topic = {one.topic: one for one in chosen}
        self._portions.gather(self.job.options.gather if self._runner.gathers else 0.0)
        fetched = self._client.fetch(
            {one.topic: one.position for one in chosen},
            group=self.job.consumer,
            commit=self._to_commit.pop(self.job.consumer, None),
            # As much of each of many streams as of one alone: a batch costs, however small.
            max_frames=min(self._portions.frames * len(chosen), _MOST),
            max_bytes=self.job.options.max_bytes,
            # A fetch that may not wait refuses topics that do not exist yet.
            wait=max(wait, 0.001),
            in_blocks=self._runner.in_blocks,
        )
        came = 0
        with fetched:
            for gap in fetched.gaps:
                self._miss(by_topic[gap.topic], gap.first, gap.stop)
                touched[by_topic[gap.topic].name] = None
            for group in self._portions.groups(fetched, together=self._runner.gathers):
                if came and time.monotonic() > deadline:
                    break
                came += self._analyse_group(group, by_topic, touched)
        for topic in fetched.finished:
            one = by_topic[topic]
            if one.position == fetched.positions[topic] and self._settle(one):
                self._end_stream(one)
                touched[one.name] = None
                came += 1
        for name in touched:
            # Those that were served go to the end of the queue.
            if name in self._open:
                self._open[name] = self._open.pop(name)
        return came

    def _analyse_group(
        self,
        group: list[tuple[FrameBatch, float]],
        by_topic: dict[str, Partition],
        touched: dict[str, None],
    ) -> int:
        """Analyse batches whose turn it is; the frame operators see those of a group together."""
        began = time.monotonic()
        several = len(group) > 1
        ready = self._runner.begin([batch for batch, _ in group]) if several else [None]
        came = 0
        for (batch, put), begun in zip(group, ready, strict=True):
            one = by_topic[FRAMES + batch.simulation]
            if one.pending is not None or batch.first != one.position:
                # The rest of this stream comes again.
                continue
            self._analyse(one, batch, put, begun)
            came += len(batch)
            touched[one.name] = None
        if came:
            self._portions.adapt(came, time.monotonic() - began)
        return came

    def _pump_shares(self, chosen: list[Partition], touched: dict[str, None], wait: float) -> int:
        came = 0
        for one in chosen:
            assert one.share is not None
            options = self.job.options
            group = self._group(one)
            with one.share.fetch(
                self._client,
                one.position,
                max_bytes=options.max_bytes,
                wait=max(0.001, wait / len(chosen)),
                group=group,
                commit=self._to_commit.pop(group, None),
            ) as fetched:
                for first, stop in fetched.gaps:
                    self._miss(one, first, stop)
                    touched[one.name] = None
                for outcome, put in one.share.analyse(fetched):
                    self._finish_batch(one, outcome, put, fetched.nbytes)
                    came += 1
                    touched[one.name] = None
                    if one.pending is not None:
                        break
                ended = fetched.finished and one.position == fetched.position
            if ended and self._settle(one):
                self._end_stream(one)
                touched[one.name] = None
        return came

    def advance(
        self, partition: str, stop: int, *, end: bool = False, patience: float = 10.0
    ) -> PartitionReport:
        """Analyse a partition up to an offset exactly, and report on that; counts are of this call.

        Parameters
        ----------
        partition
            Which one; open.
        stop
            Offset after the last frame.
        end
            The stream ends there; its operators are told.
        patience
            Seconds without progress after which `StagingError` is raised.

        Raises
        ------
        OperatorFailed, PipelineError
            If an operator fails.
        StagingError
            If the frames do not come, or cannot be handed on.
        """
        one = self._find(partition)
        if one.finished and stop > one.position:
            self._revive(one)
        before = one.report({}, "")
        last = time.monotonic()
        while one.position < stop or one.pending is not None:
            begun = one.position
            if self._settle(one):
                self._advance_once(one, stop)
            now = time.monotonic()
            if one.position > begun or (one.pending is None and one.position >= stop):
                last = now
            elif now - last > patience:
                why = (
                    "what it handed on is not taken by the coordinator"
                    if one.pending is not None
                    else "staging does not bring them"
                )
                raise StagingError(
                    f"Waited {patience:.0f} s for the frames {one.position} to {stop - 1} of "
                    f"{one.simulation!r}: {why}."
                )
            elif one.pending is not None:
                time.sleep(0.005)
        if end and not one.finished:
            self._end_stream(one)
        if self._to_commit:
            self._flush_commits()
        report = one.report(self._runner.seconds, self.worker)
        counts = ("frames", "batches", "quarantined", "missed", "replayed")
        since = {name: getattr(report, name) - getattr(before, name) for name in counts}
        return msgspec.structs.replace(report, **since)

    def _advance_once(self, one: Partition, stop: int) -> None:
        if one.share is not None:
            with one.share.fetch(
                self._client, one.position, max_bytes=self.job.options.max_bytes, wait=0.25,
                stop=stop,
            ) as shared:  # fmt: skip
                for first, upto in shared.gaps:
                    self._miss(one, first, min(upto, stop))
                for outcome, put in one.share.analyse(shared):
                    self._finish_batch(one, outcome, put, shared.nbytes)
                    if one.pending is not None:
                        return
            return
        frames = min(self._portions.frames, stop - one.position)
        with self._client.fetch(
            {one.topic: one.position},
            max_frames=frames,
            max_bytes=self.job.options.max_bytes,
            wait=0.25,
            in_blocks=self._runner.in_blocks,
        ) as fetched:
            for gap in fetched.gaps:
                self._miss(one, gap.first, min(gap.stop, stop))
            for piece, put in self._portions.cut(fetched):
                if one.pending is not None or piece.first >= stop or piece.first < one.position:
                    continue
                batch = piece if piece.stop <= stop else piece.take(slice(0, stop - piece.first))
                began = time.monotonic()
                self._analyse(one, batch, put)
                self._portions.adapt(len(batch), time.monotonic() - began)

    # ---------------------------------------------------------------- one turn

    def _miss(self, one: Partition, first: int, stop: int) -> None:
        one.missed += max(0, stop - first)
        one.position = max(one.position, stop)
        one.dirty += 1
        self._hand.gap(one.name, one.simulation, first, stop)

    def _analyse(
        self, one: Partition, batch: FrameBatch, put: float, begun: Begun | None = None
    ) -> None:
        self._runner.units.learn(self._client, batch.simulation)
        outcome = self._runner.process(batch, begun=begun)
        one.step, one.time = int(batch.steps[-1]), float(batch.times[-1])
        self._finish_batch(one, outcome, put, batch.nbytes)

    def _finish_batch(self, one: Partition, outcome: Outcome, put: float, size: int) -> None:
        one.position = outcome.stop
        one.dirty += size + 1
        one.frames += outcome.stop - outcome.first
        one.batches += 1
        one.quarantined += outcome.quarantined
        one.put = put
        if outcome.batch is not None and one.share is not None:
            one.step, one.time = int(outcome.batch.steps[-1]), float(outcome.batch.times[-1])
        self._store(one, lambda: self._publish(one, outcome, put))

    def _store(self, one: Partition, store: Callable[[], None]) -> None:
        try:
            store()
            one.pending = None
            one.stamp = time.time()
        except StreamFull:
            one.pending = store

    def _settle(self, one: Partition) -> bool:
        """Store what could not be stored before; false if it still cannot."""
        if one.pending is not None:
            self._store(one, one.pending)
        return one.pending is None

    def _publish(self, one: Partition, outcome: Outcome, put: float) -> None:
        one.replayed += self._hand.on(one.name, outcome, put) - outcome.first

    def _end_stream(self, one: Partition) -> None:
        outcome = self._runner.finish_simulation(one.simulation, one.position)
        self._open.pop(one.name, None)
        self._done[one.name] = one
        one.finished = True
        one.states = {}
        one.dirty += 1
        self._store(one, lambda: self._hand.end(one.name, outcome))
