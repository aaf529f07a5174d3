"""Streams that come a few frames at a time, half of them only when somebody is in a hurry."""

from __future__ import annotations

import threading
from typing import Any

from bridge.frames import FrameBatch
from bridge.testing.sources import END, PAUSE, ScriptedSource

_REST = 0.05  # seconds between two pieces


class Trickle:
    """Puts half of the frames piece by piece; the rest, and the end of the stream, when told to.

    However long an engine takes to start, it is in the middle of a stream until `finish`.

    Attributes
    ----------
    hurry
        Once set, the rest comes at once.
    """

    def __init__(
        self, address: str, streams: dict[str, FrameBatch], *, step: int = 10, **more: Any
    ) -> None:
        self.hurry = threading.Event()
        self.sources = []
        more.setdefault("time_limit", 250.0)
        for name, frames in streams.items():
            script: list[Any] = []
            for at in range(0, len(frames), step):
                script += [frames.take(slice(at, at + step)), PAUSE]
            self.sources.append(ScriptedSource(name, [*script, END], address=address, **more))
        self._pieces = max(-(-len(frames) // step) for frames in streams.values())
        for source in self.sources:
            source.start()
        self._thread = threading.Thread(target=self._drip, daemon=True)
        self._thread.start()

    def _drip(self) -> None:
        for piece in range(self._pieces):
            self.hurry.wait(_REST if 2 * piece < self._pieces else None)
            for source in self.sources:
                source.resume()

    def finish(self) -> None:
        """Put the rest at once, and wait for the end."""
        self.hurry.set()
        self._thread.join(60)
        for source in self.sources:
            source.join()
