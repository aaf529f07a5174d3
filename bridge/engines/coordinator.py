"""The one process of a job that knows all of it: global operators, guard, commands, status, end.

It takes what workers handed on in *rounds* of turns, written ahead in staging, so that a
coordinator which is started again does the same once more, to the same effect.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import numpy as np

from bridge.codec import decode_state, encode_state
from bridge.commands import Event
from bridge.engines.arrivals import Arrivals, Item
from bridge.engines.job import Job, split_partition
from bridge.engines.keeping import Keeping
from bridge.engines.outcome import Outcome
from bridge.engines.partials import PARTIALS, PartitionReport
from bridge.engines.patience import PatientClient
from bridge.engines.progress import STATUS, Progress
from bridge.engines.protocol import EngineState, EngineStatistics, Unguarded
from bridge.engines.publisher import Publisher
from bridge.engines.rounds import Rounds
from bridge.engines.runner import SCOPES, Runner
from bridge.engines.stopping import TARGET, Stops
from bridge.engines.turns import Turn
from bridge.engines.units import Units
from bridge.engines.variables import with_variables
from bridge.engines.workers import Workers
from bridge.errors import NobodyListening, ProtocolError, StagingError
from bridge.staging.client_like import ClientLike

__all__ = ["Coordinator"]

FRAMES = "frames/"
_VERSION = 2
_WAIT = 0.25  # seconds that a fetch of what is there may take


class Coordinator:
    """Runs the gathered part of a job; one thread uses it.

    Parameters
    ----------
    job
        What to run.
    engine
        Kind of engine, for people.
    saved
        What `save` returned; None to begin, with operators as new, where the job's group stands.
    client
        To the stagers; made, and closed at the end, if it is left out.
    moving
        Partitions come to another worker with each batch, which is not worth an event.
    given_up
        Asked while the stager is away; true ends the waiting for it.

    Attributes
    ----------
    page
        Address of the engine's own page, which the status tells; whoever hosts this sets it.

    Raises
    ------
    PipelineError
        If what was saved belongs to another pipeline.
    """

    def __init__(
        self,
        job: Job,
        *,
        engine: str,
        saved: bytes | None = None,
        client: ClientLike | None = None,
        moving: bool = False,
        given_up: Callable[[], bool] = lambda: False,
    ) -> None:
        self.job = job
        self.page = ""
        scopes = SCOPES if job.options.block_groups > 1 else ("global",)
        # Before anything is connected: where operators cannot be made, nothing is left open.
        self._runner = Runner(
            job.gathered,
            scopes=scopes,
            final=True,
            on_error=job.options.on_error,
            units=Units(job.spread, job.gathered),
        )
        self._guarding: list[ClientLike] = []
        self._mine = client is None
        self._raw = job.connect(f"coordinator of {job.name}") if client is None else client
        self._client = PatientClient(self._raw, job.options.reconnect_timeout, given_up)
        try:
            self._set_up(engine, moving=moving)
            self._begin(saved)
        except BaseException:
            self.end()
            raise

    def _set_up(self, engine: str, *, moving: bool) -> None:
        job = self.job
        guard = Unguarded() if job.guard is None else job.guard(self._connect_guard)
        self._keeping = Keeping(guard, job.name)
        self._stops = Stops()
        self._publisher = Publisher(self._client, job.name, guard, self._stops)
        self._progress = Progress(job.name, engine)
        self._arrivals = Arrivals(job)
        self._rounds = Rounds(self._client, job.name, job.merger)
        self._workers = Workers(
            None if moving else self._publisher.tell, None if job.is_gathered else self._progress
        )
        self._positions: dict[str, int] = {}
        self._taken: dict[str, int] = {}
        self._finished: set[str] = set()
        # Simulations as they are known now, and as the turns that were taken have it: what
        # operators are told must come out the same when these are taken again.
        self._known: tuple[str, ...] = ()
        self._noted: tuple[str, ...] = ()
        self._round = self._rounds.begin
        self._at = 0
        self._turns: list[Turn] | None = None
        self._next_status = 0.0
        self._heard = time.monotonic()
        self._streams_over = False
        self._behind_streams = True
        self._overdue = False

    def _connect_guard(self, name: str) -> ClientLike:
        self._guarding.append(self.job.connect(name))
        return self._guarding[-1]

    # ------------------------------------------------------------------ state

    def _begin(self, saved: bytes | None) -> None:
        downtime = self._downtime()
        if saved is None:
            self._begin_anew()
        else:
            self._restore(saved)
        self._publisher.announce()
        self._publisher.recall(self._publisher.decisions_end)
        self._replay_until = self._rounds.end
        if saved is not None or self._round < self._rounds.end:
            told = "" if downtime is None else f" after {downtime:.1f} s"
            self._publisher.tell(
                Event(
                    "resumed",
                    f"The engine goes on from its checkpoint{told}; "
                    f"{self._rounds.end - self._round} rounds after it are taken again.",
                    data={
                        "rounds": self._rounds.end - self._round,
                        "downtime": downtime if downtime is None else round(downtime, 3),
                    },
                )
            )
        self._progress.state = "running"

    def _downtime(self) -> float | None:
        """Return the seconds since the job last gave a sign of life; None if it never did."""
        topic = f"status/{self.job.name}"
        for status in self._client.topics(topic, schemas=False):
            if status.name == topic and status.end:
                return max(0.0, time.time() - status.last_stamp)
        return None

    def _begin_anew(self) -> None:
        for topic in self._client.topics(f"{PARTIALS}{self.job.name}/", schemas=False):
            position = max(topic.low, topic.groups.get(self.job.merger, 0))
            self._taken[topic.name] = position
        self._arrivals.begin(self._taken)

    def save(self) -> bytes:
        """Return everything from which another coordinator can go on."""
        counts = self._progress.counts()
        counts["events"] = self._publisher.events
        counts |= {f"verdict {k}": n for k, n in self._publisher.verdicts.items()}
        state: dict[str, Any] = {
            "version": _VERSION,
            "pipeline": self.job.name,
            "position": self._round,
            "round": self._round,
            "at": self._at,
            "taken": dict(self._taken),
            "positions": dict(self._positions),
            "finished": sorted(self._finished),
            "known": list(self._noted),
            "counts": counts,
            "decisions": self._publisher.decisions_end,
            "stops": self._stops.save(),
            "operators": np.frombuffer(self._runner.save(), np.uint8),
        }
        return encode_state(state)

    def _restore(self, saved: bytes) -> None:
        state = decode_state(saved)
        if state.get("version") != _VERSION or state.get("pipeline") != self.job.name:
            raise ProtocolError(
                f"The saved state of the coordinator belongs to the pipeline "
                f"{state.get('pipeline')!r} and version {state.get('version')!r}, not to "
                f"{self.job.name!r} and {_VERSION}; begin anew without it."
            )
        self._runner.restore(state["operators"].data)
        self._round, self._at = state["round"], state["at"]
        self._taken = dict(state["taken"])
        self._arrivals.begin(self._taken)
        self._positions = dict(state["positions"])
        self._finished = set(state["finished"])
        self._known = self._noted = tuple(state["known"])
        self._stops.restore(state["stops"])
        self._publisher.restore(state["counts"])
        self._publisher.decisions_end = state["decisions"]
        self._progress.restore(state["counts"], self._positions)
        for name in self._finished:
            self._progress.finished(name)

    @property
    def round(self) -> int:
        """Number of the round that comes next."""
        return self._round

    def positions(self) -> dict[str, int]:
        """Return, topic by topic, from where on the present state needs what staging holds."""
        out = {**self._taken, self._rounds.topic: self._round}
        if self.job.wanted != ():
            out |= {FRAMES + name: position for name, position in self._positions.items()}
        return out

    def commit(self, positions: Mapping[str, int]) -> None:
        """Let staging release what lies before positions that a completed checkpoint holds.

        Parameters
        ----------
        positions
            What `positions` returned when that checkpoint was made.
        """
        if positions:
            self._progress.checkpoints += 1
            self._client.commit(self.job.merger, positions)

    # ---------------------------------------------------------------- reports

    def hear(self, report: PartitionReport) -> None:
        """Take note of how a worker is getting on."""
        if not self._workers.hear(report):
            return
        self._heard = time.monotonic()
        if not self.job.is_gathered:
            name, _ = split_partition(report.partition)
            self._positions[name] = report.position
            (self._finished.add if report.finished else self._finished.discard)(name)

    # ----------------------------------------------------------------- rounds

    def pump(self, *, wait: float, budget: float = 0.25) -> int:
        """Take the turns that are due, and do what is due beside them.

        Parameters
        ----------
        wait
            Seconds to wait if there is nothing.
        budget
            Seconds after which to return though there is more.

        Returns
        -------
        int
            Turns that were taken.

        Raises
        ------
        OperatorFailed, PipelineError
            If an operator fails.
        ConnectionLost
            If the stager went away and did not come back in time.
        NobodyListening
            If no frame came for `idle_timeout` seconds, though streams have not finished.
        """
        deadline = time.monotonic() + budget
        taken = 0
        while True:
            came = self._pump_once(0.0 if taken else wait, deadline)
            taken += came
            if not came or time.monotonic() >= deadline:
                break
        self._look_after()
        return taken

    def upto(self, positions: Mapping[str, int], *, patience: float = 30.0) -> None:
        """Take everything that workers handed on up to these positions.

        Parameters
        ----------
        positions
            Partition to the offset after the last frame.
        patience
            Seconds without progress after which `StagingError` is raised.

        Raises
        ------
        StagingError
            If what a worker handed on does not come.
        """
        last = time.monotonic()
        while True:
            came = self._pump_once(0.001, time.monotonic() + 1.0)
            behind = self._behind(positions)
            if came:
                last = time.monotonic()
            elif not behind:
                break
            elif time.monotonic() - last > patience:
                raise StagingError(
                    f"Waited {patience:.0f} s for what workers hand on of "
                    f"{', '.join(map(repr, behind))}."
                )
        self._look_after()

    def _behind(self, positions: Mapping[str, int]) -> list[str]:
        if not self.job.is_gathered:
            return []
        return sorted(
            name
            for partition, stop in positions.items()
            if (name := split_partition(partition)[0]) and self._positions.get(name, 0) < stop
        )

    def _pump_once(self, wait: float, deadline: float) -> int:
        turns = self._turns or self._next_round(wait)
        taken = 0
        if turns is None:
            return 0
        self._turns = turns
        while self._at < len(turns):
            turn = turns[self._at]
            item = self._await(turn)
            self._take(turn, item, replayed=self._round < self._replay_until)
            self._at += 1
            taken += 1
            if time.monotonic() >= deadline and self._at < len(turns):
                return taken
        self._round += 1
        self._at = 0
        self._turns = None
        if self._round >= self._replay_until:
            self._publisher.forget()
        return taken

    def _next_round(self, wait: float) -> list[Turn] | None:
        written = self._rounds.read(self._round)
        if written is not None:
            return written
        items = self._arrivals.items()
        if not items:
            self._read(wait)
            items = self._arrivals.items()
        if not items:
            return None
        turns = []
        noted = self._noted
        for item in items:
            partial = item.partial
            if not partial.is_end:
                # Also one that had ended, and came back.
                self._known = _with(self._known, partial.simulation)
            known = None if self._known == noted else self._known
            noted = self._known
            stop = partial.first if partial.is_end else partial.stop
            turns.append(Turn(partial.simulation, partial.first, stop, known))
        return self._rounds.propose(self._round, turns)

    def _read(self, wait: float) -> None:
        fetched = self._client.fetch(
            {**self._arrivals.positions, **self._stops.positions},
            follow=f"{PARTIALS}{self.job.name}/",
            max_bytes=self.job.options.max_bytes,
            wait=max(wait, 0.001),
        )
        self._stops.hear(fetched.records)
        self._arrivals.add(fetched.records)

    def _await(self, turn: Turn) -> Item:
        """Return what a turn takes; it was there when the turn was written."""
        last, nbytes = time.monotonic(), -1
        while True:
            item = self._arrivals.head(turn.simulation)
            if item is not None and (item.partial.first, item.partial.is_end) >= (
                turn.first,
                turn.is_end,
            ):
                if (item.partial.first, item.partial.is_end) == (turn.first, turn.is_end):
                    return item
                break
            if item is not None:
                # Of a round before the one at hand.
                self._arrivals.drop(item)
                continue
            self._read(_WAIT)
            if self._arrivals.nbytes != nbytes:
                last, nbytes = time.monotonic(), self._arrivals.nbytes
            if time.monotonic() - last > self.job.options.reconnect_timeout:
                break
        raise StagingError(
            f"What workers handed on of the frames {turn.first} to {turn.stop - 1} of "
            f"{turn.simulation!r} is not there any more: the stager was started anew without what "
            "it held. Begin anew, without the saved state."
        )

    def _take(self, turn: Turn, item: Item, *, replayed: bool) -> None:
        partial = item.partial
        name = turn.simulation
        if turn.known is not None:
            self._noted = turn.known
            self._known = _with(self._known, *turn.known)
        if turn.is_end:
            self._end_stream(name, item)
        else:
            self._finished.discard(name)
            self._noted, self._known = _with(self._noted, name), _with(self._known, name)
            if self.job.is_gathered:
                outcome = self._analyse(item)
            else:
                outcome = Outcome(name, partial.first, partial.stop)
            outcome.commands = [*partial.commands, *outcome.commands]
            sent = self._publisher.publish(
                outcome, results=self.job.is_gathered, target=partial.is_target
            )
            if partial.is_target:
                outcome.events.append(Event(TARGET, ""))
            self._stops.watch(outcome, sent)
            if self.job.is_gathered:
                self._count(item, outcome, replayed=replayed)
        self._taken.update(item.records)
        self._arrivals.drop(item)
        self._heard = time.monotonic()

    def _analyse(self, item: Item) -> Outcome:
        partial = item.partial
        span = (partial.first, partial.stop)
        wanted = self.job.wanted
        names = [n for n in partial.variables if wanted is None or n in wanted]
        with with_variables(self._client, partial.batch, names) as batch:
            self._runner.units.learn(self._client, partial.simulation)
            outcome = self._runner.process(
                batch, self._noted, span=span, variables=partial.variables
            )
            outcome.batch = None
            if outcome.results is not None:
                # Views of what is released now.
                outcome.results = outcome.results.copy()
            return outcome

    def _count(self, item: Item, outcome: Outcome, *, replayed: bool) -> None:
        partial = item.partial
        report = self._workers.last(partial.simulation)
        last = None
        if len(partial.batch):
            last = (int(partial.batch.steps[-1]), float(partial.batch.times[-1]))
        elif report is not None:
            last = (report.step, report.time)
        before = self._positions.get(partial.simulation, partial.first)
        if partial.first > before:
            self._progress.missed(partial.simulation, before, partial.first)
        self._positions[partial.simulation] = partial.stop
        self._progress.advance(
            partial.simulation,
            partial.stop,
            frames=partial.stop - partial.first,
            quarantined=partial.quarantined + outcome.quarantined,
            last=last,
            put=partial.put,
            replayed=replayed,
        )

    def _end_stream(self, name: str, item: Item) -> None:
        position = item.partial.first
        outcome = self._runner.finish_simulation(name, position, self._noted)
        outcome.commands = [*item.partial.commands, *outcome.commands]
        self._stops.watch(outcome, self._publisher.publish_end(outcome))
        if self.job.is_gathered:
            self._finished.add(name)
            self._progress.finished(name)
        self._known, self._noted = (
            tuple(other for other in names if other != name) for names in (self._known, self._noted)
        )
        self._positions[name] = max(position, self._positions.get(name, 0))

    def _meet(self, name: str) -> None:
        if name not in self._known and name not in self._finished:
            self._known = _with(self._known, name)

    # ------------------------------------------------------------- what is due

    def _look_after(self) -> None:
        self._publisher.tell_absences()
        self._keeping.look_after()
        now = time.monotonic()
        if now < self._next_status:
            return
        self._status()
        overdue = self._stops.overdue(self._finished, self.job.options.stop_timeout)
        if overdue is not None and not self._overdue:
            self._overdue = True
            self._publisher.tell(overdue)
        quiet = now - self._heard
        if self.job.until == "finished" and not self.over and quiet > self.job.options.idle_timeout:
            names = sorted((set(self.job.expected) | set(self._known)) - self._finished)
            whom = f"{', '.join(names)} have not finished" if names else "there is no stream"
            raise NobodyListening(
                f"No frame came for {quiet:.0f} s, and {whom}. Look at the simulations, or raise "
                "the engine's 'idle_timeout'."
            )

    def _status(self) -> None:
        self._next_status = time.monotonic() + self.job.options.status_every
        topics = self._client.topics(FRAMES, schemas=False)
        ends = {}
        over = bool(topics)
        behind = False
        for topic in topics:
            name = topic.name.removeprefix(FRAMES)
            ends[name] = topic.end
            if not topic.finished:
                self._meet(name)
            # A stream without a frame has nothing to be read; one that came back has more.
            at_end = self._positions.get(name, 0) >= topic.end
            is_done = topic.groups.get(self.job.consumer, -1) >= topic.end
            read = name in self._finished and at_end
            if not self.job.is_gathered:
                # A worker that was started again does not take up what is done altogether.
                read = read or is_done
            if topic.end:
                behind |= not (read or is_done or (at_end and not topic.finished))
            over = over and topic.finished and (read or not topic.end)
        names = {topic.name.removeprefix(FRAMES) for topic in topics}
        if topics:
            self._runner.units.learn(self._client, topics[0].name.removeprefix(FRAMES))
        self._streams_over = over and names.issuperset(self.job.expected)
        self._behind_streams = behind
        self._progress.ends(ends)
        self._client.append(
            f"status/{self.job.name}",
            [msgspec.msgpack.encode(self.statistics())],
            options=STATUS,
        )

    @property
    def over(self) -> bool:
        """Whether nothing is left to be done.

        Either all streams have finished and were analysed to their ends, or a target was reached
        and all who were told to stop have answered.
        """
        # Workers may be behind when the last simulation answers; their operators hear of its end.
        idle = not (self._arrivals.nbytes or self._behind_streams)
        if self._overdue or self._stops.is_over(
            self._finished, idle=idle, linger=self.job.options.linger
        ):
            return True
        return self.job.until == "finished" and self._streams_over and not self._arrivals.nbytes

    def statistics(self) -> EngineStatistics:
        """Return what was done so far."""
        seconds = {**self._runner.seconds, **self._workers.seconds()}
        states = {**self._runner.states(), **self._workers.states()}
        return self._progress.statistics(
            seconds, self._publisher.verdicts, self._publisher.events, states,
            self._runner.units.of_results(), self.page,
        )  # fmt: skip

    def tell(self, event: Event) -> None:
        """Store an event."""
        self._publisher.tell(event)

    def finish(self) -> EngineStatistics:
        """Tell the operators that it is the end, and everybody the final status."""
        self._progress.state = "stopping"
        for name in self._known:
            position = self._positions.get(name, 0)
            outcome = self._runner.finish_simulation(name, position, self._known)
            self._publisher.publish_end(outcome)
        total = sum(self._positions.values())
        self._publisher.publish_end(self._runner.finish(total, self._known))
        self._client.commit(self.job.merger, self.positions())
        self._keeping.conclude()
        return self._close("finished")

    def stop(self) -> EngineStatistics:
        """Tell everybody that the job rests; it can be started again."""
        return self._close("stopped")

    def fail(self, reason: str) -> None:
        """Tell everybody that the job failed, and why."""
        self._publisher.tell(Event("engine_failed", reason, level="error"))
        self._progress.state = "failed"
        self._status()

    def _close(self, state: EngineState) -> EngineStatistics:
        self._progress.state = state
        self._status()
        return self.statistics()

    def end(self) -> None:
        """Let go of the connections; more than once does no harm."""
        for client in self._guarding:
            client.close()
        self._guarding.clear()
        if self._mine:
            self._raw.close()


def _with(names: tuple[str, ...], *more: str) -> tuple[str, ...]:
    return names if all(name in names for name in more) else tuple(sorted({*names, *more}))
