"""Work in steps, beside threads that must not wait for all of them at once."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

__all__ = ["rest", "resting"]

_here = threading.local()


@contextlib.contextmanager
def resting(seconds: float) -> Iterator[None]:
    """Let this thread rest for so long at each `rest` inside."""
    before = getattr(_here, "seconds", 0.0)
    _here.seconds = seconds
    try:
        yield
    finally:
        _here.seconds = before


def rest() -> None:
    """Let others work, if this thread is to; between two steps of some milliseconds.

    Two threads of Python take turns, however they wait for each other: a batch that is answered
    while a network is loaded beside it waits for what is done of that in the meantime, so that
    should be little.
    """
    seconds = getattr(_here, "seconds", 0.0)
    if seconds:
        time.sleep(seconds)
