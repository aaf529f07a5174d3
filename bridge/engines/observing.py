"""A client that reads along without holding the streams back: for work that may miss frames."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from bridge.closing import Closing
from bridge.commands import FrameReference
from bridge.errors import ConfigError
from bridge.frames import Frame
from bridge.schema import StreamSchema
from bridge.staging.client import AppendResult, Fetched, Gap
from bridge.staging.client_like import ClientLike
from bridge.staging.messages import StreamOptions, TopicStatus

__all__ = ["Observing"]

FRAMES = "frames/"

_LOOK = 0.5
"""Seconds between two looks at which streams there are, and who reads them."""


class Observing(Closing):
    """The calls of a client that an engine makes, for an engine that others must not wait for.

    Staging keeps frames until every consumer group has committed them, so that a slow one slows the
    simulations down. This client commits nothing where another group reads the stream: frames may
    be released before they come here, and are a gap then. Where nobody else reads a stream it
    commits for itself, or the stream would be full for ever; then the simulation waits for `behind`
    frames at the most.

    Parameters
    ----------
    client
        Whose calls; not closed.
    behind
        Frames of one stream to be late at most: half of them, the older ones, are then passed over,
        and told of as a gap. 0 to read all that is there.
    wanted
        Says of a simulation whether its frames are to be read; all by default.
    clock
        Seconds, of a clock that never goes back.

    Raises
    ------
    ConfigError
        If `behind` is negative.
    """

    def __init__(
        self,
        client: ClientLike,
        *,
        behind: int = 0,
        wanted: Callable[[str], bool] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if behind < 0:
            raise ConfigError(f"The key 'behind' must not be negative; it is {behind}.")
        self.behind = behind
        self.passed_over = 0
        self._client = client
        self._wanted = wanted or (lambda name: True)
        self._clock = clock
        self._look_at = -1.0
        self._ends: dict[str, int] = {}
        self._lows: dict[str, int] = {}
        self._alone: set[str] = set()

    # ------------------------------------------------------------------ fetch

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
        """See `StagerClient.fetch`; what is passed over is among the gaps."""
        asked = dict(positions)
        if follow == FRAMES:
            self._look(group)
            follow = ""
            for name, low in self._lows.items():
                if name not in done:
                    asked.setdefault(name, low)
            asked = {
                name: at for name, at in asked.items() if name not in done or name in positions
            }
        gaps = self._pass_over(asked)
        fetched = self._client.fetch(
            asked,
            follow=follow,
            group=group,
            commit=self._own(commit or {}, asked),
            done=done,
            max_frames=max_frames,
            max_bytes=max_bytes,
            wait=wait,
            in_blocks=in_blocks,
        )
        self._ends.update(fetched.ends)
        fetched.gaps.extend(gaps)
        for gap in gaps:
            self.passed_over += gap.stop - gap.first
            fetched.positions.setdefault(gap.topic, gap.stop)
        return fetched

    def _look(self, group: str) -> None:
        now = self._clock()
        if now < self._look_at:
            return
        self._look_at = now + _LOOK
        for topic in self.topics(FRAMES, schemas=False):
            self._ends[topic.name] = topic.end
            self._lows[topic.name] = topic.low
            others = topic.groups.keys() - {group}
            if not others:
                self._alone.add(topic.name)
                continue
            self._alone.discard(topic.name)
            if group in topic.groups:
                self._client.leave(group, [topic.name])

    def _pass_over(self, asked: dict[str, int]) -> list[Gap]:
        gaps = []
        for name, position in asked.items():
            end = self._ends.get(name, 0)
            if self.behind and end - position > self.behind:
                asked[name] = end - self.behind // 2
                gaps.append(Gap(name, position, asked[name], passed_over=True))
        return gaps

    def _own(self, commit: Mapping[str, int], asked: Mapping[str, int]) -> dict[str, int]:
        """Return what may be committed: of the streams that nobody else reads."""
        out = {
            name: position
            for name, position in commit.items()
            if not name.startswith(FRAMES) or name in self._alone
        }
        if self.behind:
            for name in self._alone & asked.keys():
                late = self._ends[name] - self.behind
                if late > max(out.get(name, -1), 0):
                    out[name] = min(late, asked[name])
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
        """See `StagerClient.fetch_blocks`."""
        return self._client.fetch_blocks(
            topic,
            position,
            share=share,
            group=group,
            commit=self._own(commit or {}, {}),
            max_frames=max_frames,
            max_bytes=max_bytes,
            wait=wait,
        )

    # ------------------------------------------------------------------ others

    @property
    def address(self) -> str:
        """Where the stager listens."""
        return self._client.address

    @property
    def instance(self) -> str:
        """Which stagers answered last."""
        return self._client.instance

    @property
    def mapped(self) -> bool:
        """Whether frames are read from mapped segments."""
        return self._client.mapped

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
        return self._client.append(
            topic, records, writer=writer, first=first, stop=stop, options=options
        )

    def commit(self, group: str, offsets: Mapping[str, int]) -> None:
        """Commit the offsets of streams that nobody else reads."""
        own = self._own(offsets, {})
        if own:
            self._client.commit(group, own)

    def leave(self, group: str, topics: Sequence[str]) -> None:
        """See `StagerClient.leave`."""
        self._client.leave(group, topics)

    def topics(self, prefix: str = "", *, schemas: bool = True) -> list[TopicStatus]:
        """Return the state of the topics under a prefix; of frames, the wanted ones alone."""
        return [
            topic
            for topic in self._client.topics(prefix, schemas=schemas)
            if not topic.name.startswith(FRAMES) or self._wanted(topic.name.removeprefix(FRAMES))
        ]

    def status(self, topic: str) -> TopicStatus:
        """See `StagerClient.status`."""
        return self._client.status(topic)

    def watermark(self, topic: str, writer: str) -> int:
        """See `StagerClient.watermark`."""
        return self._client.watermark(topic, writer)

    def schema(self, simulation: str) -> StreamSchema:
        """See `StagerClient.schema`."""
        return self._client.schema(simulation)

    def read_frame(self, reference: FrameReference) -> Frame:
        """See `StagerClient.read_frame`."""
        return self._client.read_frame(reference)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()
