"""How much slower than asked a dashboard goes while a run needs every processor.

Giving way by priority is not enough: whoever sleeps most of the time is let in each time he wakes.
So a dashboard takes no more than a set part of the machine while nothing of it is idle, and shows
less often instead; as soon as there is room again, it shows as often as it is asked.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

__all__ = ["Pace", "read_machine"]

STATISTICS = Path("/proc/stat")

FULL, ROOM = 0.03, 0.06
"""Part of the processors' time that is idle below which there is no room, and above which there is;
in between, all stays as it is."""

SLOWEST = 10.0
"""Times slower than asked, at most: a page that wants ten pictures a second still gets one."""

RISE, FALL = 1.5, 0.67
"""By how much it changes in one look, at most."""

STEP = 0.25
"""Smaller changes are not worth one."""


def read_machine() -> tuple[int, int] | None:
    """Return how long processors were idle, and in all: of those that this process may use.

    Returns
    -------
    idle, total
        In ticks since the machine was started; None where the system does not tell.
    """
    try:
        lines = STATISTICS.read_bytes().splitlines()
        mine = {b"cpu%d" % number for number in os.sched_getaffinity(0)}
    except (OSError, AttributeError):
        return None
    idle = total = 0
    for line in lines:
        name, *fields = line.split()
        if name in mine:
            # user, nice, system, idle, iowait, irq, softirq, steal
            ticks = [int(field) for field in fields[:8]]
            idle += ticks[3] + ticks[4]
            total += sum(ticks)
    return idle, total


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Pace:
    """Says by how much to go slower; looked at about once a second.

    Parameters
    ----------
    share
        Part of the processors that this process may use which it takes at most while none of them
        is idle; 1 for no limit.
    machine, used, clock
        Where the times come from: see `read_machine`; processor time of this process in seconds;
        seconds.
    processors
        How many there are.

    Attributes
    ----------
    factor
        Times slower than asked, from 1 to 10.
    """

    def __init__(
        self,
        share: float,
        *,
        machine: Callable[[], tuple[int, int] | None] = read_machine,
        used: Callable[[], float] = time.process_time,
        clock: Callable[[], float] = time.monotonic,
        processors: int | None = None,
    ) -> None:
        self.factor = 1.0
        self._budget = share * (processors or _processors())
        self._machine, self._used, self._clock = machine, used, clock
        self._before = self._read()
        self._exact = 1.0

    def _read(self) -> tuple[tuple[int, int] | None, float, float]:
        return self._machine(), self._used(), self._clock()

    def look(self) -> bool:
        """Look how busy the machine is; return whether `factor` has changed."""
        before, self._before = self._before, self._read()
        (old, used, since), (new, used_by_now, now) = before, self._before
        if old is None or new is None or new[1] <= old[1] or now <= since:
            return False
        idle = (new[0] - old[0]) / (new[1] - old[1])
        if idle < FULL:
            # What is taken falls as what is shown does.
            wanted = self._exact * (used_by_now - used) / (now - since) / self._budget
        elif idle > ROOM:
            wanted = 1.0
        else:
            return False
        self._exact = min(max(wanted, self._exact * FALL, 1.0), self._exact * RISE, SLOWEST)
        if abs(self._exact - self.factor) < 0.6 * STEP:
            return False
        self.factor = round(self._exact / STEP) * STEP
        return True
