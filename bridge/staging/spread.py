"""Several stagers: a client to all of them, which is used as the client of one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import msgspec

from bridge.closing import Closing
from bridge.commands import FrameReference
from bridge.errors import StagingError, UnknownTopic
from bridge.frames import Frame
from bridge.schema import StreamSchema
from bridge.staging.client import AppendResult, Fetched, Gap, StagerClient, StoredRecord
from bridge.staging.client_like import ClientLike
from bridge.staging.messages import StreamOptions, TopicStatus
from bridge.staging.ownership import owner, split_addresses, subject

__all__ = ["SpreadClient", "connect"]

T = TypeVar("T")

_SLICE = (0.0005, 0.004)
"""Seconds for which one stager is waited for before the next is asked: at first, and at most."""


def connect(
    addresses: str | Sequence[str],
    *,
    name: str = "",
    keys: Any = None,
    timeout: float = 10.0,
    mapped: bool | None = None,
) -> ClientLike:
    """Connect to one stager, or to several.

    Parameters
    ----------
    addresses
        One address, or several: a sequence, or one text with commas between them.
    name, keys, timeout, mapped
        As for `StagerClient`.
    """
    found = split_addresses(addresses)
    if len(found) == 1:
        return StagerClient(found[0], name=name, keys=keys, timeout=timeout, mapped=mapped)
    return SpreadClient(found, name=name, keys=keys, timeout=timeout, mapped=mapped)


class _FetchedOfMany(Fetched):
    """What several stagers brought, as one."""

    __slots__ = ("_parts",)

    def __init__(self) -> None:
        self.batches = []
        self.stamps = []
        self.records: list[StoredRecord] = []
        self.positions = {}
        self.ends = {}
        self.finished = set()
        self.gaps: list[Gap] = []
        self.decomposed = []
        self._parts: list[Fetched] = []

    def add(self, part: Fetched, rename: Callable[[str], str]) -> None:
        """Take up what one stager brought."""
        self._parts.append(part)
        self.batches += part.batches
        self.stamps += part.stamps
        self.records += [
            StoredRecord(rename(r.topic), r.offset, r.data, r.stamp) for r in part.records
        ]
        self.positions |= {rename(t): p for t, p in part.positions.items()}
        self.ends |= {rename(t): p for t, p in part.ends.items()}
        self.finished |= {rename(t) for t in part.finished}
        self.gaps += [Gap(rename(g.topic), g.first, g.stop) for g in part.gaps]

    def release(self) -> None:
        """Let the stagers use the segments again."""
        for part in self._parts:
            part.release()
        self._parts.clear()


class SpreadClient(Closing):
    """A `StagerClient` to several stagers at once; one thread at a time may use it.

    Each topic lies with its `owner`. A topic that lies elsewhere, too, such as the events that each
    stager tells of itself, has the name ``topic@address``.

    Parameters
    ----------
    addresses
        Of all stagers; everybody must be given the same.
    name, keys, timeout, mapped
        As for `StagerClient`.
    """

    def __init__(
        self,
        addresses: str | Sequence[str],
        *,
        name: str = "",
        keys: Any = None,
        timeout: float = 10.0,
        mapped: bool | None = None,
    ) -> None:
        self._addresses = split_addresses(addresses)
        self._clients: dict[str, StagerClient] = {}
        try:
            for address in self._addresses:
                self._clients[address] = StagerClient(
                    address, name=name, keys=keys, timeout=timeout, mapped=mapped
                )
        except BaseException:
            self.close()
            raise
        self._next = 0
        self._owners: dict[str, str] = {}

    @property
    def address(self) -> str:
        """Where the stagers listen, separated by commas."""
        return ",".join(self._addresses)

    @property
    def instance(self) -> str:
        """Which stagers answered last; others after one was started anew."""
        return ",".join(client.instance for client in self._clients.values())

    @property
    def mapped(self) -> bool:
        """Whether frames of all stagers are read from mapped segments."""
        return all(client.mapped for client in self._clients.values())

    # ------------------------------------------------------------------ routes

    def _where(self, topic: str) -> tuple[str, str]:
        """Return the address that a topic lies at, and its name there."""
        plain, _, address = topic.partition("@")
        if address:
            if address not in self._clients:
                raise UnknownTopic(f"There is no topic {topic!r}: {address} is no stager of ours.")
            return address, plain
        about = subject(topic)
        found = self._owners.get(about)
        if found is None:
            if len(self._owners) > 65536:
                self._owners.clear()
            found = self._owners[about] = owner(about, self._addresses)
        return found, topic

    def _name(self, address: str, topic: str) -> str:
        return topic if self._where(topic)[0] == address else f"{topic}@{address}"

    def _of(self, topic: str) -> tuple[StagerClient, str]:
        address, name = self._where(topic)
        return self._clients[address], name

    def _shared_out(self, values: Mapping[str, T]) -> dict[str, dict[str, T]]:
        out: dict[str, dict[str, T]] = {}
        for topic, value in values.items():
            address, name = self._where(topic)
            out.setdefault(address, {})[name] = value
        return out

    # ------------------------------------------------------------------- calls

    def fetch(
        self,
        positions: Mapping[str, int],
        *,
        follow: str = "",
        group: str = "",
        commit: Mapping[str, int] | None = None,
        done: Sequence[str] = (),
        max_frames: int = 4096,
        max_bytes: int = 16 << 20,
        wait: float = 1.0,
        in_blocks: bool = False,
    ) -> Fetched:
        """See `StagerClient.fetch`; `max_frames` and `max_bytes` hold for all stagers together."""
        asked = self._shared_out(positions)
        commits = self._shared_out(commit or {})
        finished = self._shared_out(dict.fromkeys(done, True))
        # Who asks for nothing waits all the same, at the first of them.
        chosen = [a for a in self._addresses if follow or a in asked] or [self._addresses[0]]
        for address in [a for a in commits if a not in chosen]:
            self._clients[address].commit(group, commits.pop(address))
        out = _FetchedOfMany()
        try:
            self._gather(
                out, chosen, asked, commits, finished, follow=follow, group=group,
                max_frames=max_frames, max_bytes=max_bytes, wait=wait, in_blocks=in_blocks,
            )  # fmt: skip
            for address, offsets in commits.items():
                self._clients[address].commit(group, offsets)
        except BaseException:
            out.release()
            raise
        self._next += 1
        return out

    def fetch_blocks(
        self,
        topic: str,
        position: int,
        *,
        share: tuple[int, int],
        group: str = "",
        commit: Mapping[str, int] | None = None,
        max_frames: int = 4096,
        max_bytes: int = 16 << 20,
        wait: float = 1.0,
    ) -> Fetched:
        """See `StagerClient.fetch_blocks`; what is committed lies with the same stager."""
        client, name = self._of(topic)
        return client.fetch_blocks(
            name, position, share=share, group=group, commit=commit,
            max_frames=max_frames, max_bytes=max_bytes, wait=wait,
        )  # fmt: skip

    def _gather(
        self,
        out: _FetchedOfMany,
        chosen: Sequence[str],
        asked: Mapping[str, Mapping[str, int]],
        commits: dict[str, dict[str, int]],
        finished: Mapping[str, Mapping[str, bool]],
        *,
        follow: str,
        group: str,
        max_frames: int,
        max_bytes: int,
        wait: float,
        in_blocks: bool,
    ) -> None:
        """Ask stager after stager; takes out of `commits` what was said on the way."""
        deadline = time.monotonic() + wait
        frames, size = max_frames, max_bytes
        # Each is asked once, hardly waiting, and then again, waiting a little longer each time. The
        # one who comes first changes, so that none is starved where all have much.
        patience, longest = min(wait, _SLICE[0]), _SLICE[1]
        turn = 0
        while frames > 0 and size > 0:
            address = chosen[(self._next + turn) % len(chosen)]
            turn += 1
            part = self._clients[address].fetch(
                asked.get(address, {}),
                follow=follow,
                group=group,
                commit=commits.pop(address, None),
                done=list(finished.get(address, ())),
                max_frames=frames,
                max_bytes=size,
                wait=wait if len(chosen) == 1 else patience,
                in_blocks=in_blocks,
            )
            out.add(part, partial(self._name, address))
            frames -= sum(map(len, part.batches)) + len(part.records)
            size -= sum(b.nbytes for b in part.batches)
            size -= sum(len(r.data) for r in part.records)
            if turn % len(chosen) == 0:
                remaining = deadline - time.monotonic()
                if out or remaining <= 0:
                    return
                patience = min(patience * 1.2, longest, remaining)

    def append(
        self,
        topic: str,
        records: Sequence[bytes | bytearray | memoryview],
        *,
        writer: str = "",
        first: int = -1,
        stop: int = -1,
        options: StreamOptions | None = None,
    ) -> AppendResult:
        """See `StagerClient.append`."""
        client, name = self._of(topic)
        return client.append(name, records, writer=writer, first=first, stop=stop, options=options)

    def commit(self, group: str, offsets: Mapping[str, int]) -> None:
        """See `StagerClient.commit`."""
        for address, theirs in self._shared_out(offsets).items():
            self._clients[address].commit(group, theirs)

    def leave(self, group: str, topics: Sequence[str]) -> None:
        """See `StagerClient.leave`."""
        self.commit(group, dict.fromkeys(topics, -1))

    def topics(self, prefix: str = "", *, schemas: bool = True) -> list[TopicStatus]:
        """See `StagerClient.topics`.

        Raises
        ------
        StagingError
            If a stream lies with another stager than its owner: its simulation was given other
            addresses.
        """
        out = []
        for address, client in self._clients.items():
            for status in client.topics(prefix, schemas=schemas):
                name = self._name(address, status.name)
                if name != status.name and status.kind == "frames":
                    raise StagingError(
                        f"The stream of {subject(status.name)!r} lies at {address}, but among "
                        f"{self.address} it belongs to {self._where(status.name)[0]}. Give the "
                        "same addresses of stagers to simulations and engines."
                    )
                out.append(_renamed(status, name))
        return out

    def status(self, topic: str) -> TopicStatus:
        """See `StagerClient.status`."""
        client, name = self._of(topic)
        return _renamed(client.status(name), topic)

    def watermark(self, topic: str, writer: str) -> int:
        """See `StagerClient.watermark`."""
        client, name = self._of(topic)
        return client.watermark(name, writer)

    def schema(self, simulation: str) -> StreamSchema:
        """See `StagerClient.schema`."""
        return self._of(f"frames/{simulation}")[0].schema(simulation)

    def read_frame(self, reference: FrameReference) -> Frame:
        """See `StagerClient.read_frame`."""
        return self._of(f"frames/{reference.simulation}")[0].read_frame(reference)

    def close(self) -> None:
        """Close all connections; more than once does no harm."""
        _each(self._clients.values(), StagerClient.close)


def _renamed(status: TopicStatus, name: str) -> TopicStatus:
    if name != status.name:
        return msgspec.structs.replace(status, name=name)
    return status


def _each(items: Iterable[T], act: Callable[[T], None]) -> None:
    """Do something to all, whatever becomes of one of them; the first failure is raised."""
    failed: BaseException | None = None
    for item in items:
        try:
            act(item)
        except BaseException as error:
            failed = failed or error
    if failed is not None:
        raise failed
