"""The process that reads ADIOS2 streams and puts their steps into staging."""

from __future__ import annotations

import gc
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from bridge.commands import Acknowledgement
from bridge.errors import ConnectionLost, FrameOrderError, NobodyListening, StreamFull
from bridge.staging.adios.beat import Beat
from bridge.staging.adios.child import Said
from bridge.staging.keys import load_keys
from bridge.staging.messages import StreamOptions
from bridge.staging.producer import Producer
from bridge.transports.adios import Engine, Head, Reader, Source, Status, read_mapping

__all__ = ["ReadTask", "work"]

_GRACE = 5.0
"""Seconds that C++ may take longer than it was told."""

_HANGS = 15.0
"""Seconds after which a look for the next step, which lasts far less, counts as hanging."""

_SHORT, _LONG = 0.0002, 0.004
"""Seconds between two looks for a step, in which other threads run: at least, and at most. While
steps come fast it is a quarter of the time between them, as each look costs processor time."""

_TOGETHER, _LONGEST, _MANY = 0.008, 0.016, 16
"""Seconds for which frames are gathered before they are sent on, while they come fast: this, or as
long as so many take, but no longer than that."""

_PAUSE = 0.002
"""Seconds without a step, or four times what steps take if that is more, after which frames are not
gathered any longer."""

_LARGE, _SEGMENT = 1 << 18, 32 << 20
"""Frames of so many bytes get segments of this size, or of a quarter of the capacity: to ask for
one costs as much as to send a dozen frames on."""

_AWAKE = 0.1
"""Seconds after a step for which looks follow closely."""

_TURN = 0.5
"""Seconds of a wait for room, or of looks for a step, after which it begins anew: to see whether
somebody wants an end, and to show that this process lives."""

_NO_WAY_BACK = (
    "The frames of {!r} come over ADIOS2, which carries no commands: nobody hears of it. Link the "
    "simulation to the stager to steer it."
)

_SAY_AFTER = 30.0
"""Seconds without a step after which people are told."""


class ReadTask(msgspec.Struct, frozen=True, kw_only=True):
    """What to read, and where to put it; see `bridge.staging.adios.ingest.Ingest`."""

    targets: list[str]
    simulation: str
    address: str
    engine: Engine = "auto"
    parameters: dict[str, str] = {}
    mapping: dict[str, Any] = {}
    options: StreamOptions = StreamOptions()
    keys: str = ""
    open_timeout: float = 60.0
    patience: float = 300.0
    room_timeout: float = 600.0
    timeout: float = 10.0
    again: bool = False


class _Stopped(Exception):
    """Somebody asked this process to end."""


def work(task: dict[str, Any], beat: Beat, say: Callable[[Said], None]) -> None:
    """Read until the stream ends."""
    _Ingesting(msgspec.convert(task, ReadTask), beat, say).run()


class _Ingesting:
    def __init__(self, task: ReadTask, beat: Beat, say: Callable[[Said], None]) -> None:
        self.task = task
        self.beat = beat
        self.say = say
        self.stopping = False
        self.last = time.monotonic()
        self.told = False
        self.pace = _LONG  # about how long a step takes; no more than that
        self.epoch = 0
        self.time = 0.0
        self.producer: Producer | None = None
        self.unsent = False
        self.sent = 0.0
        parameters = dict(task.parameters)
        if task.options.when_full == "latest" and len(task.targets) == 1:
            # Of several streams each would skip other steps, and they could hardly be joined.
            parameters.setdefault("AlwaysProvideLatestTimestep", "true")
        self.sources = [
            Source(target, engine=task.engine, parameters=parameters) for target in task.targets
        ]
        self._words = {s: f"a word about the next step of {s.described}" for s in self.sources}
        self._data = f"the data of a step of {self.sources[0].described}"
        if len(self.sources) > 1:
            self._data += f" and of {len(self.sources) - 1} more"
        signal.signal(signal.SIGTERM, self._stop)

    def _stop(self, number: int, frame: object) -> None:
        self.stopping = True

    def run(self) -> None:
        try:
            self._open_all()
            if self._begin_all(self.sources):
                self._ingest()
        except _Stopped:
            pass
        finally:
            with self.beat.within(10.0, f"{self.sources[0].described} to be closed"):
                for source in self.sources:
                    source.close()

    # ------------------------------------------------------------------- begin

    def _open_all(self) -> None:
        deadline = time.monotonic() + self.task.open_timeout
        for source in self.sources:
            left = max(0.5, deadline - time.monotonic())
            with self.beat.within(left + _GRACE, f"a writer of {source.described}"):
                source.open(left)
        self.last = time.monotonic()

    def _begin_all(self, sources: Sequence[Source]) -> bool:
        """Go to the next step of each; False if all have ended."""
        states = [self._begin(source) for source in sources]
        if any(states) and not all(states):
            gone = sources[states.index(False)]
            raise ConnectionLost(
                f"The writer of {gone.described} closed it after step {self.beat.step}, while "
                f"other writers of {self.task.simulation!r} go on; a frame needs all of them."
            )
        return all(states)

    def _begin(self, source: Source) -> bool:
        while True:
            if self.stopping:
                raise _Stopped
            with self.beat.within(_HANGS, self._words[source]):
                status = self._look(source)
            if status == "step":
                now = time.monotonic()
                self.pace += 0.1 * (min(now - self.last, _LONG) - self.pace)
                self.last = now
                self.told = False
                return True
            if status == "end":
                return False
            if status == "lost":
                raise ConnectionLost(
                    f"The writer of {source.described} went away without closing it; "
                    + (
                        f"the newest frame of {self.task.simulation!r} has step {self.beat.step}."
                        if self.beat.step >= 0
                        else f"there is no frame of {self.task.simulation!r} yet."
                    )
                )

    def _look(self, source: Source) -> Status:
        """Look for the next step, again and again for a while."""
        end = 0.0
        while (status := source.begin()) == "later" and not self.stopping:
            now = time.monotonic()
            idle = now - self.last
            if idle < max(_PAUSE, 4.0 * self.pace):
                self._send_together()
            else:
                self._send()
            self._waiting(source, idle)
            end = end or now + _TURN
            if now > end:
                break
            time.sleep(min(max(_SHORT, 0.25 * self.pace), _LONG) if idle < _AWAKE else _LONG)
        return status

    def _waiting(self, source: Source, idle: float) -> None:
        patience = self.task.patience
        if idle >= patience:
            raise NobodyListening(
                f"Waited {patience:g} s for the next step of {source.described}, after step "
                f"{self.beat.step}: the writer neither finished one nor closed the stream. It may "
                "have ended or hang; raise the limit if steps take longer."
            )
        if idle >= min(_SAY_AFTER, patience / 2) and not self.told:
            self.told = True
            self.say(
                Said(
                    "event",
                    "waiting",
                    f"No step of {source.described} came for {idle:.0f} s; after {patience:g} s "
                    "it is given up.",
                    data={"step": self.beat.step, "seconds": round(idle, 1)},
                )
            )

    # -------------------------------------------------------------------- frames

    def _ingest(self) -> None:
        task = self.task
        reader = Reader(self.sources, read_mapping(task.mapping or None))
        options = task.options
        if not options.segment and reader.schema.frame_nbytes >= _LARGE:
            size = min(_SEGMENT, options.capacity // 4)
            options = msgspec.structs.replace(options, segment=size)
        producer = Producer(
            task.simulation,
            reader.schema,
            address=task.address,
            options=options,
            keys=load_keys(Path(task.keys)) if task.keys else None,
            timeout=task.timeout,
            linger=0.0,
        )
        self.producer = producer
        finished = False
        try:
            self._greet(reader, producer)
            # What is there by now stays: the collector need not look at it again.
            gc.freeze()
            finished = self._read_all(reader, producer)
        finally:
            producer.close(finished=finished, timeout=max(task.timeout, 30.0))

    def _greet(self, reader: Reader, producer: Producer) -> None:
        resumed = producer.resumed
        self.epoch, self.time = resumed.last_epoch, resumed.last_time
        self.beat.step = resumed.last_step
        if resumed.next_offset and self.sources[0].engine == "SST":
            # Steps between may be missing, and the simulation may have begun anew.
            self.epoch += 1
        names = ", ".join(f"{v.name}{list(v.shape)}" for v in reader.schema.variables)
        others = ", ".join(reader.plan.left_out)
        others = f" Left out of frames: {others}." if others else ""
        self.say(
            Said(
                "opened",
                message=f"{self.sources[0].described}: {names}.{others}",
                data={"offset": resumed.next_offset, "variables": list(reader.schema.names)},
            )
        )

    def _read_all(self, reader: Reader, producer: Producer) -> bool:
        sources = self.sources
        while True:
            # Until the first frame, steps that are stored already are passed over unread.
            if reader.reads_at_once and self.beat.frames and self._read_at_once(reader, producer):
                if not self._begin_all(sources):
                    return True
                continue
            iterations: list[int | None] = [*reader.iterations(sources[0])]
            for iteration in iterations or [None]:
                with self.beat.within(self.task.patience + _GRACE, self._data):
                    head = self._align(reader, iteration)
                if head is None:
                    return True
                if self._wanted(head):
                    self._put(reader, producer, head)
            with self.beat.within(_HANGS, self._data):
                for source in sources:
                    source.end_step()
            self._send_together()
            if not self._begin_all(sources):
                return True

    def _read_at_once(self, reader: Reader, producer: Producer) -> bool:
        """Read the step of the only stream in one go; False, and nothing, if it is dropped."""
        row = self._room(producer)
        if row is None:
            return False
        with self.beat.within(self.task.patience + _GRACE, self._data):
            head = reader.read_step(row)
            if self._wanted(head):
                # Before the step is ended: that may fail where the writer is gone.
                self._put_row(producer, head)
            self.sources[0].end_step()
        self._send_together()
        return True

    def _align(self, reader: Reader, iteration: int | None) -> Head | None:
        """Bring all streams to the same step, as some may have dropped steps; None at the end."""
        heads = [reader.head(i, iteration) for i in range(len(self.sources))]
        while len({h.step for h in heads}) > 1:
            newest = max(h.step for h in heads)
            for i, source in enumerate(self.sources):
                if heads[i].step < newest:
                    self.beat.skipped += 1
                    self._tell_skewed(source, heads[i].step, newest)
                    source.end_step()
                    if not self._begin(source):
                        return None
                    heads[i] = reader.head(i, iteration)
        return heads[0]

    def _tell_skewed(self, source: Source, step: int, newest: int) -> None:
        if self.beat.skipped in (1, 10, 100, 1000):
            self.say(
                Said(
                    "event",
                    "skipped",
                    f"Step {step} of {source.described} was left out: another writer of "
                    f"{self.task.simulation!r} is at step {newest} and does not have it.",
                    level="warning",
                    data={"step": step, "skipped": self.beat.skipped},
                )
            )

    def _wanted(self, head: Head) -> bool:
        """Whether a step is new: those that the stream holds already are passed over."""
        if head.step > self.beat.step:
            return True
        if self.beat.frames and self.sources[0].engine == "SST":
            raise FrameOrderError(
                f"Step {head.step} of {self.sources[0].described} comes after step "
                f"{self.beat.step}; steps must increase."
            )
        self.beat.skipped += 1
        return False

    def _send_together(self) -> None:
        """Send frames on if the last were sent long enough ago: each message costs time."""
        together = min(max(_TOGETHER, _MANY * self.pace), _LONGEST)
        if self.unsent and time.monotonic() - self.sent >= together:
            self._send()

    def _send(self) -> None:
        """Send frames on, and refuse commands that came: waiting for an answer would be in vain."""
        if self.producer is None:
            return
        if self.unsent:
            self.producer.send()
            self.unsent, self.sent = False, time.monotonic()
        for command in self.producer.commands():
            reason = _NO_WAY_BACK.format(self.task.simulation)
            self.producer.acknowledge(
                Acknowledgement(
                    command.id, self.task.simulation, "refused", self.beat.step, self.time, reason
                )
            )

    def _room(self, producer: Producer) -> dict[str, Any] | None:
        """Wait for a row, in turns, so that one can be told to end meanwhile."""
        began = time.monotonic()
        while True:
            left = self.task.room_timeout - (time.monotonic() - began)
            try:
                return producer.next_row(min(_TURN, max(0.0, left)))
            except StreamFull as error:
                if self.stopping:
                    raise _Stopped from None
                if left <= _TURN:
                    raise StreamFull(f"After {self.task.room_timeout:g} s: {error}") from None

    def _put(self, reader: Reader, producer: Producer, head: Head) -> None:
        row = self._room(producer)
        if row is None:
            self.beat.skipped += 1
            return
        with self.beat.within(self.task.patience + _GRACE, self._data):
            reader.read_into(row, head.iteration)
        self._put_row(producer, head)

    def _put_row(self, producer: Producer, head: Head) -> None:
        epoch = self.epoch if head.epoch is None else head.epoch
        producer.put_row(head.step, head.time, epoch=epoch, send=False)
        self.unsent = True
        self.beat.step, self.time = head.step, head.time
        self.beat.frames += 1
