"""What the command line does for verbs of others: telling events, reading frames."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from bridge.codec import decode_batch
from bridge.commands import Event
from bridge.errors import ConfigError
from bridge.frames import FrameBatch
from bridge.runs.directory import RunDirectory
from bridge.runs.keyfiles import client_keys
from bridge.runs.recorded import open_run
from bridge.staging.client import StagerClient

__all__ = ["CommandLine"]


class CommandLine:
    """See `bridge.verbs.Services`."""

    def tell(self, where: str, event: Event, *, keys: str = "") -> None:
        """Put an event into the log."""
        if not event.stamp:
            event = msgspec.structs.replace(event, stamp=time.time())
        with _open(where, keys) as client:
            client.append("events", [msgspec.msgpack.encode(event)])

    def read(
        self, where: str, topic: str, *, columns: Sequence[str] = (), last: int = 0, keys: str = ""
    ) -> Iterator[FrameBatch]:
        """Yield what a topic holds."""
        with _open(where, keys) as client:
            batches = _read(client, where, topic, columns, last)
            yield from _newest(batches, last) if last else batches


def _read(
    client: StagerClient, where: str, topic: str, columns: Sequence[str], last: int
) -> Iterator[FrameBatch]:
    topics = {one.name: one for one in client.topics(schemas=False)}
    if topic not in topics:
        raise ConfigError(
            f"{where} has no topic {topic!r}; it has: {', '.join(sorted(topics)) or 'none'}."
        )
    position, end = topics[topic].low, topics[topic].end
    if last and topic.startswith("frames/"):
        # Elsewhere a place in the topic holds any number of frames.
        position = max(position, end - last)
    before = -1
    while before < position < end:
        before = position
        with client.fetch({topic: position}, wait=1.0) as fetched:
            found = [*fetched.batches]
            found += [decode_batch(one.data)[0] for one in fetched.records]
            position = fetched.positions.get(topic, position)
            batches = [_own(batch, columns, topic) for batch in found]
        # Outside the block: what was fetched is released while the caller works.
        yield from batches


def _newest(batches: Iterable[FrameBatch], last: int) -> Iterable[FrameBatch]:
    kept: deque[FrameBatch] = deque()
    held = 0
    for batch in batches:
        kept.append(batch)
        held += len(batch)
        while held - len(kept[0]) >= last:
            held -= len(kept.popleft())
    if held > last:
        kept[0] = kept[0].take(slice(held - last, None))
    return kept


def _own(batch: FrameBatch, columns: Sequence[str], topic: str) -> FrameBatch:
    missing = [name for name in columns if name not in batch]
    if missing:
        raise ConfigError(
            f"{topic} has no column {missing[0]!r}; it has: {', '.join(sorted(batch.columns))}."
        )
    return (batch.select(columns) if columns else batch).copy()


@contextlib.contextmanager
def _open(where: str, keys: str) -> Iterator[StagerClient]:
    if "://" in where:
        with StagerClient(where, name="headrace", keys=client_keys(keys)) as client:
            yield client
        return
    with open_run(RunDirectory(Path(where))) as found:
        if found is None:
            raise ConfigError(
                f"The run in {where} kept its topics in memory, and they ended with it; only a "
                "run with durable = true in [staging] can be opened again."
            )
        yield found
