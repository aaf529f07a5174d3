"""A client that waits for a stager to come back."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import ParamSpec, TypeVar

from bridge.errors import ConnectionLost, NobodyListening
from bridge.schema import StreamSchema
from bridge.staging.client import AppendResult, Fetched
from bridge.staging.client_like import ClientLike
from bridge.staging.messages import StreamOptions, TopicStatus

__all__ = ["PatientClient"]

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")


class PatientClient:
    """The calls of a `StagerClient` that an engine makes, repeated while the stager is away.

    Parameters
    ----------
    client
        Whose calls.
    timeout
        Seconds to wait for the stager before `ConnectionLost` is raised; each call takes the
        client's own time limit at least.
    given_up
        Asked between tries; true ends the waiting.

    Attributes
    ----------
    absences
        For each time that the stager was started anew, the seconds without an answer; whoever tells
        of them takes them out.
    """

    def __init__(self, client: ClientLike, timeout: float, given_up: Callable[[], bool]) -> None:
        self.absences: deque[float] = deque(maxlen=64)
        self._instance = client.instance
        self._answered = time.monotonic()
        self._client = client
        self._timeout = timeout
        self._given_up = given_up

    @property
    def address(self) -> str:
        """Where the stager is."""
        return self._client.address

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
        """See `StagerClient.fetch`."""
        return self._patiently(
            self._client.fetch,
            positions,
            follow=follow,
            group=group,
            commit=commit,
            done=done,
            max_frames=max_frames,
            max_bytes=max_bytes,
            wait=wait,
            in_blocks=in_blocks,
        )

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
        """See `StagerClient.fetch_blocks`."""
        return self._patiently(
            self._client.fetch_blocks,
            topic,
            position,
            share=share,
            group=group,
            commit=commit,
            max_frames=max_frames,
            max_bytes=max_bytes,
            wait=wait,
        )

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
        return self._patiently(
            self._client.append,
            topic,
            records,
            writer=writer,
            first=first,
            stop=stop,
            options=options,
        )

    def commit(self, group: str, offsets: Mapping[str, int]) -> None:
        """See `StagerClient.commit`."""
        self._patiently(self._client.commit, group, offsets)

    def topics(self, prefix: str = "", *, schemas: bool = True) -> list[TopicStatus]:
        """See `StagerClient.topics`."""
        return self._patiently(self._client.topics, prefix, schemas=schemas)

    def schema(self, simulation: str) -> StreamSchema:
        """Return what a simulation declared."""
        return self._patiently(self._client.schema, simulation)

    def _patiently(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        began = time.monotonic()
        while True:
            try:
                answer = call(*args, **kwargs)
            except (ConnectionLost, NobodyListening) as error:
                waited = time.monotonic() - began
                if waited >= self._timeout or self._given_up():
                    raise ConnectionLost(
                        f"Waited {waited:.0f} s for the stager at {self._client.address} to come "
                        "back; the engine ends. Start the stager where it was, then the engine: "
                        "it goes on from its checkpoint."
                    ) from error
                log.warning("The stager does not answer; waiting.", extra={"waited": waited})
            else:
                self._note_answer()
                return answer

    def _note_answer(self) -> None:
        now = time.monotonic()
        if self._client.instance != self._instance:
            self._instance = self._client.instance
            self.absences.append(now - self._answered)
        self._answered = now
