"""Memory that a child shares with its parent: what it waits for, until when, and how far it is.

A call of ADIOS2 may wait in C++ for ever and lets no Python code of its process run meanwhile, no
thread and no signal handler. So the child sets a timer of the system before such a call: at the
limit the signal ends the process, whatever it does, and the parent finds here what it waited for.
"""

from __future__ import annotations

import mmap
import os
import signal
import struct
from dataclasses import dataclass
from types import TracebackType

__all__ = ["Beat", "Progress"]

_LAYOUT = struct.Struct("<qqqdH")
_SIZE = 4096
_TEXT = 1024


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a child is."""

    frames: int
    """Frames that went through."""
    skipped: int
    """Steps that were not taken."""
    step: int
    """Step of the newest frame; -1 before the first."""
    limit: float
    """Seconds that what it does now may last; 0 if that is not limited."""
    doing: str
    """What it does, as the end of a sentence."""


class Beat:
    """The shared page. The child writes, the parent reads.

    Parameters
    ----------
    descriptor
        Of the memory, as `create` made it.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._memory = mmap.mmap(descriptor, _SIZE)
        self.frames = 0
        self.skipped = 0
        self.step = -1
        self._doing = ""
        self._text = b""

    @classmethod
    def create(cls) -> Beat:
        """Make the memory; close the descriptor with `close`."""
        descriptor = os.memfd_create("headrace-beat")
        os.ftruncate(descriptor, _SIZE)
        beat = cls(descriptor)
        beat.tell()
        return beat

    def tell(self, limit: float = 0.0, doing: str = "") -> None:
        """Write down how far this is, and what is done now."""
        if doing and doing is not self._doing:
            self._doing, self._text = doing, doing.encode()[:_TEXT]
            self._memory[_LAYOUT.size : _LAYOUT.size + len(self._text)] = self._text
        length = len(self._text) if doing else 0
        _LAYOUT.pack_into(self._memory, 0, self.frames, self.skipped, self.step, limit, length)

    def within(self, limit: float, doing: str) -> _Within:
        """End the process if what happens inside lasts longer than `limit` seconds."""
        return _Within(self, limit, doing)

    def read(self) -> Progress:
        """Return what was written last."""
        frames, skipped, step, limit, length = _LAYOUT.unpack_from(self._memory, 0)
        text = self._memory[_LAYOUT.size : _LAYOUT.size + length]
        return Progress(frames, skipped, step, limit, text.decode(errors="replace"))

    def close(self) -> None:
        """Let go of the memory."""
        self._memory.close()
        os.close(self.descriptor)


class _Within:
    """A time limit; entered several times a step, hence no generator."""

    __slots__ = ("_beat", "_doing", "_limit")

    def __init__(self, beat: Beat, limit: float, doing: str) -> None:
        self._beat = beat
        self._limit = limit
        self._doing = doing

    def __enter__(self) -> None:
        self._beat.tell(self._limit, self._doing)
        signal.setitimer(signal.ITIMER_REAL, self._limit)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        self._beat.tell()
