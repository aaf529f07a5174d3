"""How many commands were sent lately."""

from __future__ import annotations

from collections import deque

__all__ = ["Rates"]


class Rates:
    """Times at which commands were sent, to one simulation and to all.

    One thread uses it.

    Parameters
    ----------
    keep
        Seconds after which a time is forgotten; no window may be longer.
    """

    def __init__(self, keep: float = 86400.0) -> None:
        self._keep = keep
        self._mine: dict[str, deque[float]] = {}
        self._all: deque[float] = deque()

    def note(self, simulation: str, stamp: float) -> None:
        """Note that a command was sent; times never decrease by much."""
        for times in (self._mine.setdefault(simulation, deque()), self._all):
            times.append(stamp)
            while times[0] < stamp - self._keep:
                times.popleft()

    def find_excess(
        self, simulation: str, now: float, *, per_simulation: int, total: int, window: float
    ) -> str:
        """Return why one more command would be too many, or an empty string.

        Parameters
        ----------
        simulation
            Whom the command is for.
        now
            Unix time in seconds.
        per_simulation, total
            Commands that may be sent within any `window`, in seconds; 0 for no limit.
        """
        mine = self._mine.get(simulation, deque())
        since = now - window
        # The limit's last command but one tells all: only where it is recent is anything counted.
        if per_simulation and len(mine) >= per_simulation and mine[-per_simulation] > since:
            return (
                f"The simulation {simulation!r} was sent {_count(mine, since)} commands within "
                f"{window:g} s; the limit is {per_simulation}."
            )
        if total and len(self._all) >= total and self._all[-total] > since:
            return (
                f"{_count(self._all, since)} commands were sent within {window:g} s to all "
                f"simulations; the limit is {total}."
            )
        return ""


def _count(times: deque[float], since: float) -> int:
    return sum(time > since for time in times)
