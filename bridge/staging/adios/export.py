"""Topics out of staging into ADIOS2: archived to a file, or published live for other tools."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bridge.errors import ConfigError, UnknownTopic
from bridge.schema import StreamSchema
from bridge.staging.adios.output import Output
from bridge.staging.client_like import ClientLike
from bridge.staging.messages import FullPolicy, TopicStatus
from bridge.transports.adios.writer import Layout

__all__ = ["Exported", "archive", "full_name", "publish"]

_TURN = 0.5


@dataclass(frozen=True, slots=True)
class Exported:
    """What went out."""

    topic: str
    """Name of the topic."""
    frames: int
    """Frames, or records of results, that were written."""
    dropped: int
    """Those that no reader had room for, and those that staging released before they were read."""
    next_offset: int
    """Offset at which to go on."""
    finished: bool
    """The topic's producer said that no more will come, and all was written."""


def full_name(stream: str) -> str:
    """Return the topic for a simulation's name, or for a topic's.

    Raises
    ------
    ConfigError
        If the topic holds neither frames nor results.
    """
    topic = stream if "/" in stream else f"frames/{stream}"
    if topic.partition("/")[0] not in ("frames", "results"):
        raise ConfigError(
            f"The topic {topic!r} holds neither frames nor results of numbers; name a simulation, "
            "or a topic that begins with frames/ or results/."
        )
    return topic


def archive(
    client: ClientLike,
    stream: str,
    path: Path,
    *,
    follow: bool = True,
    layout: Layout = "plain",
    until: Callable[[], bool] = lambda: False,
    patience: float = 60.0,
    wait: float = 0.0,
    on_written: Callable[[int], None] = lambda count: None,
) -> Exported:
    """Write a topic into a BP5 file, one step a frame or record; go on with the file if it exists.

    `bridge.transports.adios.stored.Archive` reads it, bit for bit the same, and so does any ADIOS2
    reader. What is in the file is committed for the group ``archive/<file>``: staging keeps what
    is not in it yet, and nothing is written twice, however often this is interrupted.

    Parameters
    ----------
    stream
        Name of a simulation, or of a topic of frames or results.
    path
        The file; its name ends in ``.bp``.
    follow
        Go on until the producer says that no more will come; else end with what is there now.
    layout
        ``openpmd`` writes particles by openPMD's convention.
    until
        Asked at least twice a second whether to end.
    patience
        Seconds that a step may take to be written.
    wait
        Seconds to wait for the topic to appear.
    on_written
        Called with the number of frames now and then.

    Raises
    ------
    UnknownTopic
        If there is no such topic.
    ConfigError
        If the file is the archive of something else, or is ahead of the topic.
    HeadraceError
        If the file cannot be written.
    """
    if path.suffix != ".bp":
        raise ConfigError(f"An archive's name ends in .bp; {str(path)!r} does not.")
    topic = full_name(stream)
    status = _find(client, topic, wait, until)
    with Output(
        str(path), status.schema, engine="BP5", layout=layout, topic=topic, resume=True,
        patience=patience,
    ) as output:  # fmt: skip
        start = output.before.offset + 1
        if start > status.end:
            raise ConfigError(
                f"{path} holds {topic} up to offset {start - 1}, and the topic ends before "
                f"{status.end}: it is another run's. Name another file."
            )
        pump = _Pump(client, topic, status.schema, output, group=f"archive/{path.name}")
        out = pump.run(start, None if follow else status.end, until, on_written)
    return out


def publish(
    client: ClientLike,
    stream: str,
    contact: str,
    *,
    when_full: FullPolicy = "drop_newest",
    queue: int = 4,
    readers: int = 0,
    layout: Layout = "openpmd",
    from_start: bool = False,
    parameters: Mapping[str, str] | None = None,
    until: Callable[[], bool] = lambda: False,
    patience: float = 60.0,
    wait: float = 0.0,
    on_written: Callable[[int], None] = lambda count: None,
) -> Exported:
    """Send a topic on over SST, for readers that know ADIOS2 or openPMD; until it has finished.

    Readers may come and go, or never come: steps that nobody reads are thrown away.

    Parameters
    ----------
    stream
        As for `archive`.
    contact
        Of the SST stream: the file ``<contact>.sst`` tells readers where it is.
    when_full
        ``drop_newest`` leaves out steps that the slowest reader has no room for; ``block`` waits
        for him, and staging keeps what he has not read; ``latest`` has a queue of one step.
    queue
        Steps that wait for the slowest reader.
    readers
        How many readers to wait for before the first step.
    from_start
        Begin with the oldest frame that staging holds, instead of the next one.
    parameters
        More for SST, such as ``DataTransport``.
    layout, until, patience, wait, on_written
        As for `archive`.

    Raises
    ------
    UnknownTopic, HeadraceError
        As for `archive`.
    """
    topic = full_name(stream)
    status = _find(client, topic, wait, until)
    limit = 1 if when_full == "latest" else max(1, queue)
    with Output(
        contact, status.schema, engine="SST", layout=layout, when_full=when_full, readers=readers,
        parameters={"QueueLimit": str(limit), **(parameters or {})}, topic=topic,
        patience=patience,
    ) as output:  # fmt: skip
        group = f"publish/{Path(contact).name}" if when_full == "block" else ""
        pump = _Pump(client, topic, status.schema, output, group=group)
        start = status.low if from_start or not status.end else status.end
        out = pump.run(start, None, until, on_written)
    return out


def _find(client: ClientLike, topic: str, wait: float, until: Callable[[], bool]) -> TopicStatus:
    deadline = time.monotonic() + wait
    while True:
        try:
            found = client.status(topic)
        except UnknownTopic:
            if time.monotonic() >= deadline or until():
                near = ", ".join(t.name for t in client.topics(topic.partition("/")[0]))
                raise UnknownTopic(
                    f"There is no topic {topic!r} yet; there are: {near or 'none of that kind'}."
                ) from None
            time.sleep(0.05)
        else:
            if topic.startswith("frames/") or found.kind == "records":
                return found


class _Pump:
    """Reads a topic and gives it to an output; commits what ADIOS2 has taken."""

    def __init__(
        self,
        client: ClientLike,
        topic: str,
        schema: StreamSchema | None,
        output: Output,
        *,
        group: str,
    ) -> None:
        self._client = client
        self._topic = topic
        self._schema = schema
        self._output = output
        self._group = group
        # Offsets that were given to the output, oldest first, and how many of all are written.
        self._given: deque[int] = deque()
        self._written = 0
        self._stored = 0
        self._missed = 0

    def run(
        self,
        start: int,
        stop: int | None,
        until: Callable[[], bool],
        on_written: Callable[[int], None],
    ) -> Exported:
        position, finished = start, False
        self._stored = start
        while not finished and (stop is None or position < stop) and not until():
            commit = {self._topic: self._stored} if self._group else None
            with self._client.fetch(
                {self._topic: position}, group=self._group, commit=commit, wait=_TURN
            ) as got:
                self._missed += sum(gap.stop - gap.first for gap in got.gaps)
                for batch in got.batches:
                    for frame in batch:
                        if (stop is None or frame.offset < stop) and self._output.put(
                            frame.step, frame.time, frame.values, epoch=frame.epoch,
                            offset=frame.offset,
                        ):  # fmt: skip
                            self._given.append(frame.offset)
                for record in got.records:
                    if (stop is None or record.offset < stop) and self._output.put_record(
                        record.offset, record.data
                    ):
                        self._given.append(record.offset)
                position = got.positions.get(self._topic, position)
                finished = self._topic in got.finished
            self._output.check()
            self._look(on_written)
        self._output.flush()
        self._look(on_written)
        if self._group:
            self._client.commit(self._group, {self._topic: self._stored})
            if finished:
                self._client.leave(self._group, [self._topic])
        told = self._output.statistics()
        return Exported(
            self._topic, told.written, told.dropped + self._missed, self._stored, finished
        )

    def _look(self, on_written: Callable[[int], None]) -> None:
        written = self._output.written
        if written == self._written:
            return
        for _ in range(written - self._written):
            self._stored = self._given.popleft() + 1
        self._written = written
        on_written(written)
