"""The two functions of a job: one for partitions, on every worker, and one that coordinates.

Both work in a thread of their own, beside Flink's calls, and pace these themselves: a timer fires,
the function keeps what is due in its state and sets the next timer. No wake-ups can pile up, and
after a restart the timers that a checkpoint held fire at once. One that had fired when the
checkpoint was made is not in it, so a slow source wakes everybody now and then.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pyflink.common import Row, Types
from pyflink.datastream import KeyedProcessFunction
from pyflink.datastream.state import MapStateDescriptor, ValueStateDescriptor

from bridge.engines.coordinator import Coordinator
from bridge.engines.flink.beside import Beside
from bridge.engines.flink.checkpoints import CompletedCheckpoints
from bridge.engines.flink.rest import FlinkRest
from bridge.engines.flink.slots import SLOTS, SlotTable
from bridge.engines.job import Job
from bridge.engines.partials import PartitionReport
from bridge.engines.partition import PartitionStage
from bridge.engines.patience import PatientClient
from bridge.engines.threads import limit_threads
from bridge.errors import EngineError, HeadraceError

__all__ = ["CoordinatorFunction", "PartitionFunction", "Plan"]

log = logging.getLogger(__name__)

WAIT = 0.02
"""Seconds that the work waits for something to do; what Flink calls waits that long, too."""

BUDGET = 0.05
"""Seconds after which work of which there is much lets Flink have its turn."""

PACE = 0.05
"""Seconds between two timers."""

_AGAIN = 1.0  # seconds between two reports on everything

BYTES = Types.PRIMITIVE_ARRAY(Types.BYTE())


@dataclass(frozen=True)
class Plan:
    """What the functions of one submission know besides the job.

    Attributes
    ----------
    job
        What to run.
    name
        Name of the Flink job, unlike any other's.
    rest
        Address of the cluster's REST interface.
    keys
        Key of each slot.
    cancels
        The coordinator cancels the Flink job when all is done; else whoever submitted it does.
    """

    job: Job
    name: str
    rest: str
    keys: tuple[int, ...]
    cancels: bool


class PartitionFunction(KeyedProcessFunction):  # type: ignore[misc]
    """Runs the partition stage for the slots whose keys Flink gives to this worker.

    Keyed state: partition to what `PartitionStage.save` returned, about once a second.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def open(self, runtime_context: Any) -> None:
        """Connect, and find the state."""
        plan = self._plan
        limit_threads(plan.job.options.threads)
        self._state = runtime_context.get_map_state(
            MapStateDescriptor("partitions", Types.STRING(), BYTES)
        )
        self._beside = Beside(self._work, "partitions")
        self._stage = PartitionStage(plan.job, given_up=self._beside.is_over)
        self._client = plan.job.connect(f"slots of {plan.job.name}")
        patient = PatientClient(
            self._client, plan.job.options.reconnect_timeout, self._beside.is_over
        )
        self._table = SlotTable(patient, plan.job.name)
        self._checkpoints = CompletedCheckpoints(plan.rest, plan.name)
        self._slot_of = {key: slot for slot, key in enumerate(plan.keys)}
        self._slots: dict[int, float] = {}
        self._opened: dict[str, int] = {}
        self._pacer: int | None = None
        self._driven = time.monotonic()
        self._refreshed = 0.0
        self._reported = 0.0
        self._news: dict[str, PartitionReport] = {}

    def close(self) -> None:
        """Let go of the connections."""
        if not hasattr(self, "_news"):
            return
        self._checkpoints.end()
        # Whoever does not come to an end keeps his connections: they go with the process.
        if self._beside.end():
            self._stage.end()
            self._client.close()

    def process_element(self, value: Any, ctx: Any) -> Iterator[Row]:
        """Take up the slot of a key that was not seen before, and wake the coordinator."""
        key = ctx.get_current_key()
        now = time.monotonic()
        if now - self._driven > _AGAIN:
            # Whoever drove the others had his timer lost with a worker that was killed.
            self._pacer, self._driven = key, now
            self._set_timer(key, ctx)
        if self._slot_of[key] not in self._slots:
            with self._beside.paused():
                self._look_after(key, ctx)
            yield Row(0, b"")

    def on_timer(self, timestamp: int, ctx: Any) -> Iterator[Row]:
        """Do what is due for a slot; with the first one's timer, tell what was done."""
        key = ctx.get_current_key()
        with self._beside.paused():
            self._look_after(key, ctx)
            reports = self._due() if key == self._pacer else []
        for report in reports:
            yield Row(0, report.encode())

    def _work(self) -> None:
        self._open_new()
        for report in self._stage.pump(wait=WAIT, budget=BUDGET):
            self._news[report.partition] = report

    def _due(self) -> list[PartitionReport]:
        self._driven = now = time.monotonic()
        news, self._news = self._news, {}
        if now - self._reported <= _AGAIN:
            return list(news.values())
        self._reported = now
        held = self._checkpoints.take()
        if held:
            self._stage.commit(held)
        return self._stage.reports()

    def _look_after(self, key: int, ctx: Any) -> None:
        slot = self._slot_of[key]
        now = time.monotonic()
        if self._pacer is None:
            self._pacer = key
        if slot not in self._slots:
            for partition, saved in list(self._state.items()):
                self._open(partition, slot, saved)
        elif now - self._slots[slot] >= self._plan.job.options.save_every:
            self._save(slot)
        else:
            self._set_timer(key, ctx)
            return
        self._slots[slot] = now
        self._set_timer(key, ctx)

    def _set_timer(self, key: int, ctx: Any) -> None:
        due = PACE if key == self._pacer else self._plan.job.options.save_every
        ctx.timer_service().register_processing_time_timer(int((time.time() + due) * 1000))

    def _open_new(self) -> None:
        """Open partitions of slots that are served here; what was saved of others is open."""
        now = time.monotonic()
        wanted = self._stage.discover()
        if now - self._refreshed > 0.1 and any(self._table.slot(p) is None for p in wanted):
            self._refreshed = now
            self._table.refresh()
        for partition in wanted:
            slot = self._table.slot(partition)
            if slot in self._slots and not self._stage.is_open(partition):
                self._open(partition, slot, None)

    def _open(self, partition: str, slot: int, saved: bytes | None) -> None:
        position = self._stage.open(partition, None if saved is None else bytes(saved))
        self._opened[partition] = slot
        if saved is not None:
            # Perhaps the checkpoint that held it was complete, and nobody heard of it.
            self._checkpoints.note({partition: position})

    def _save(self, slot: int) -> None:
        for partition, theirs in self._opened.items():
            if theirs == slot and self._stage.is_open(partition) and self._stage.dirty(partition):
                saved = self._stage.save(partition)
                if saved is not None:
                    self._state.put(partition, saved)
                    self._checkpoints.note({partition: self._stage.position(partition)})


class CoordinatorFunction(KeyedProcessFunction):  # type: ignore[misc]
    """Hosts the coordinator; one instance, one key.

    Keyed state: what `Coordinator.save` returned, about once a second.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def open(self, runtime_context: Any) -> None:
        """Find the state."""
        # It may have a worker of its own, and its global operators compute, too.
        limit_threads(self._plan.job.options.threads)
        self._state = runtime_context.get_state(ValueStateDescriptor("coordinator", BYTES))
        self._coordinator: Coordinator | None = None
        self._saved = 0.0
        self._done = False

    def close(self) -> None:
        """Let go of the connections."""
        if self._coordinator is not None:
            self._checkpoints.end()
            if self._beside.end():
                self._coordinator.end()
                self._client.close()

    def process_element(self, value: Any, ctx: Any) -> Iterator[int]:
        """Hear a report; the first element, empty as it may be, begins everything."""
        coordinator = self._begun(ctx)
        if len(value):
            with self._beside.paused():
                if not self._done:
                    coordinator.hear(PartitionReport.decode(bytes(value)))
        yield from ()

    def on_timer(self, timestamp: int, ctx: Any) -> Iterator[int]:
        """Save, and see whether it is over."""
        coordinator = self._begun(ctx)
        with self._beside.paused():
            if not self._done:
                self._keep(coordinator)
        due = 200 if self._done else int(PACE * 1000)
        ctx.timer_service().register_processing_time_timer(int(time.time() * 1000) + due)
        yield from ()

    def _begun(self, ctx: Any) -> Coordinator:
        if self._coordinator is None:
            plan = self._plan
            self._beside = Beside(self._work, "coordinator")
            self._client = plan.job.connect(f"slots of {plan.job.name}")
            patient = PatientClient(
                self._client, plan.job.options.reconnect_timeout, self._beside.is_over
            )
            self._table = SlotTable(patient, plan.job.name)
            self._patient = patient
            self._dealt = 0.0
            self._checkpoints = CompletedCheckpoints(plan.rest, plan.name)
            self._coordinator = self._make(self._state.value())
            ctx.timer_service().register_processing_time_timer(int(time.time() * 1000))
        return self._coordinator

    def _make(self, saved: bytes | None) -> Coordinator:
        state = None if saved is None else bytes(saved)
        return Coordinator(
            self._plan.job, engine="flink", saved=state, given_up=self._beside.is_over
        )

    def _work(self) -> None:
        coordinator = self._coordinator
        assert coordinator is not None
        if self._done or coordinator.over:
            time.sleep(WAIT)
            return
        now = time.monotonic()
        if now - self._dealt > 0.25:
            self._dealt = now
            self._deal()
        try:
            coordinator.pump(wait=WAIT, budget=BUDGET)
        except HeadraceError as error:
            coordinator.fail(str(error))
            raise

    def _keep(self, coordinator: Coordinator) -> None:
        now = time.monotonic()
        if now - self._saved >= self._plan.job.options.save_every:
            self._saved = now
            self._state.update(coordinator.save())
            self._checkpoints.note(coordinator.positions())
            coordinator.page = self._checkpoints.page
            held = self._checkpoints.take()
            if held:
                coordinator.commit(held)
        if coordinator.over:
            coordinator.finish()
            self._done = True
            self._state.update(coordinator.save())
            if self._plan.cancels:
                self._cancel()

    def _deal(self) -> None:
        names = [
            t.name.removeprefix("frames/")
            for t in self._patient.topics("frames/", schemas=False)
            if not (t.finished and t.groups.get(self._plan.job.consumer, -1) >= t.end > 0)
        ]
        self._table.deal([p for name in names for p in self._plan.job.partitions(name)])

    def _cancel(self) -> None:
        rest = FlinkRest(self._plan.rest)
        try:
            job = rest.find(self._plan.name)
            if job is not None:
                rest.cancel(job)
        except EngineError as error:
            log.warning("The finished job could not be cancelled: %s", error)


def slots_of(keys: tuple[int, ...]) -> str:
    """Return the keys of all slots as the rows of an SQL table."""
    assert len(keys) == SLOTS
    return ", ".join(f"({key})" for key in keys)
