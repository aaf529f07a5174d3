"""A process that gives way to others, with all of its threads."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

__all__ = ["give_way"]

LEAST = 19
TASKS = Path("/proc/self/task")


def give_way(by: int) -> None:
    """Let others go first, by so much; where that is not possible, nothing happens.

    On Linux `os.nice` is about the thread that calls it, and those that it starts from then on: the
    thread that reads a run, begun before, would still go ahead of the simulations.

    Parameters
    ----------
    by
        From 0 to 19; what the calling thread has is added.
    """
    nice = min(LEAST, os.getpriority(os.PRIO_PROCESS, 0) + by)
    try:
        threads = [int(path.name) for path in TASKS.iterdir()]
    except OSError:
        threads = [0]
    for thread in threads:
        # One may have ended meanwhile.
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, thread, nice)
