"""Learning rates as a function of the number of updates alone."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from typing import Any

from bridge.config import refuse_unknown
from bridge.errors import ConfigError

__all__ = ["Schedule", "check_choice"]

_DECAYS = ("constant", "cosine", "exponential", "inverse_sqrt")


def check_choice(value: str, known: Iterable[str], what: str) -> str:
    """Return one of several names, or raise a `ConfigError` that names the nearest."""
    names = sorted(known)
    if value in names:
        return value
    near = difflib.get_close_matches(str(value), names, 1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known are: {', '.join(names)}."
    raise ConfigError(f"{what} is {value!r}; {hint}")


class Schedule:
    """Learning rate of each update.

    Parameters
    ----------
    rate
        Learning rate after the warm-up.
    warmup
        Updates over which it rises from 0, linearly.
    decay
        ``constant``; ``exponential``: halved each `period`; ``inverse_sqrt``: falls with the root
        of the number of updates, from `period` on; ``cosine``: falls to `floor` and begins again
        each `period` (Loshchilov and Hutter, ICLR 2017, arXiv 1608.03983).
    period
        Updates; see `decay`.
    floor
        Part of `rate` below which it never falls. A stream does not end: what learns for ever must
        not stop to move.

    Raises
    ------
    ConfigError
        If a number is out of bounds, or the decay is unknown.
    """

    def __init__(
        self,
        rate: float,
        *,
        warmup: int = 0,
        decay: str = "constant",
        period: int = 1000,
        floor: float = 0.1,
    ) -> None:
        check_choice(decay, _DECAYS, "The key 'decay' of a schedule")
        if not (math.isfinite(rate) and rate > 0.0):
            raise ConfigError(f"The learning rate must be greater than 0; it is {rate}.")
        if warmup < 0 or period < 1 or not 0.0 <= floor <= 1.0:
            raise ConfigError(
                "Of a schedule, 'warmup' must not be negative, 'period' must be at least 1, and "
                f"'floor' be from 0 to 1; they are {warmup}, {period} and {floor}."
            )
        self.rate = rate
        self.warmup = warmup
        self.decay = decay
        self.period = period
        self.floor = floor

    @classmethod
    def from_table(cls, rate: float, table: Mapping[str, Any], where: str) -> Schedule:
        """Make one from the keys beside the rate."""
        refuse_unknown(table, ("warmup", "decay", "period", "floor"), where)
        return cls(rate, **table)

    def __call__(self, update: int) -> float:
        """Return the rate of one update, counted from 0."""
        if update < self.warmup:
            return self.rate * (update + 1) / self.warmup
        t = update - self.warmup
        part = 1.0
        if self.decay == "exponential":
            part = 0.5 ** (t / self.period)
        elif self.decay == "inverse_sqrt":
            part = math.sqrt(self.period / max(t, self.period))
        elif self.decay == "cosine":
            turn = t % self.period / self.period
            return self.rate * (
                self.floor + (1.0 - self.floor) * 0.5 * (1.0 + math.cos(math.pi * turn))
            )
        return self.rate * max(part, self.floor)
