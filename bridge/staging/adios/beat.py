"""Memory that a child shares with its parent: what it waits for, until when, and how far it is.

A call of ADIOS2 may wait in C++ for ever and lets no Python code of its process run meanwhile, no
thread and no signal handler. So the child sets a timer of the system before such a call: at the
limit the signal ends the process, whatever it does, and the parent finds here what it waited for.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import struct
from collections.abc import Iterator
from dataclasses import dataclass

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
        text = doing.encode()[:_TEXT]
        _LAYOUT.pack_into(self._memory, 0, self.frames, self.skipped, self.step, limit, len(text))
        if text:
            self._memory[_LAYOUT.size : _LAYOUT.size + len(text)] = text

    @contextlib.contextmanager
    def within(self, limit: float, doing: str) -> Iterator[None]:
        """End the process if what happens inside lasts longer than `limit` seconds."""
        self.tell(limit, doing)
        signal.setitimer(signal.ITIMER_REAL, limit)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            self.tell()

    def read(self) -> Progress:
        """Return what was written last."""
        frames, skipped, step, limit, length = _LAYOUT.unpack_from(self._memory, 0)
        text = self._memory[_LAYOUT.size : _LAYOUT.size + length]
        return Progress(frames, skipped, step, limit, text.decode(errors="replace"))

    def close(self) -> None:
        """Let go of the memory."""
        self._memory.close()
        os.close(self.descriptor)
