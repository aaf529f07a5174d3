"""What clients of staging have in common, be it of one stager or of several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Protocol

from bridge.commands import FrameReference
from bridge.frames import Frame
from bridge.schema import StreamSchema
from bridge.staging.client import AppendResult, Fetched
from bridge.staging.messages import StreamOptions, TopicStatus

__all__ = ["ClientLike"]


class ClientLike(Protocol):
    """What engines and tools need of a client; see `StagerClient`."""

    @property
    def address(self) -> str:
        """Where the stager listens; several, separated by commas."""
        ...

    @property
    def instance(self) -> str:
        """Which stagers answered last; others after one was started anew."""
        ...

    @property
    def mapped(self) -> bool:
        """Whether frames are read from mapped segments."""
        ...

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
        """Read what lies at and behind some offsets."""
        ...

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
        """Read frames of one stream, those of several ranks as their blocks."""
        ...

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
        """Store records at the end of a topic."""
        ...

    def commit(self, group: str, offsets: Mapping[str, int]) -> None:
        """Tell that a group needs nothing below these offsets any more."""
        ...

    def leave(self, group: str, topics: Sequence[str]) -> None:
        """Take a group out of topics."""
        ...

    def topics(self, prefix: str = "", *, schemas: bool = True) -> list[TopicStatus]:
        """Return the state of the topics under a prefix."""
        ...

    def status(self, topic: str) -> TopicStatus:
        """Return the state of one topic."""
        ...

    def watermark(self, topic: str, writer: str) -> int:
        """Return the source offset below which everything of a writer is stored."""
        ...

    def schema(self, simulation: str) -> StreamSchema:
        """Return what a simulation declared."""
        ...

    def read_frame(self, reference: FrameReference) -> Frame:
        """Return one frame, copied."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...

    def __enter__(self) -> ClientLike: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...
