"""A process that gives way to others, with all of its threads, and cleans up rarely."""

from __future__ import annotations

import contextlib
import gc
import os
from pathlib import Path

__all__ = ["clean_up_rarely", "give_way"]

LEAST = 19
TASKS = Path("/proc/self/task")
YOUNG = 20_000
"""Objects between two collections of garbage; what is read of a run is hardly ever in cycles."""


def clean_up_rarely() -> None:
    """Collect garbage seldom, and never look at what is there by now.

    Python's own pace (700 objects) took a twentieth of a dashboard's processor time beside a run.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, 10, 10)


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
