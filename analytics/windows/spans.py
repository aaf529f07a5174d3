"""Which windows a time belongs to, and which are over."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from bridge.errors import ConfigError

__all__ = ["Spans"]

Array = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

# Times are sums of time steps: 0.1 * 3 must count as 0.3, at whichever side rounding left it.
_SNAP = 1e-9


class Spans:
    """Windows ``[origin + j * slide, origin + j * slide + size)``, for all whole j.

    A time that is within a billionth of a `slide` (relative to its distance from the origin, where
    that is more) of a window's border counts as on it.

    Parameters
    ----------
    size
        Length of a window.
    slide
        From the start of one to the start of the next; None for `size`, so that they tile.
    origin
        Start of window 0.

    Raises
    ------
    ConfigError
        If a number is not finite, or the windows have no length, or leave gaps.
    """

    __slots__ = ("origin", "size", "slide")

    def __init__(self, size: float, slide: float | None = None, origin: float = 0.0) -> None:
        slide = size if slide is None else slide
        for name, value in {"size": size, "slide": slide, "origin": origin}.items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ConfigError(f"The parameter {name!r} is {value!r}; it must be a number.")
            if not math.isfinite(value) or (name != "origin" and value <= 0):
                raise ConfigError(
                    f"The parameter {name!r} is {value}; it must be finite, and lengths greater "
                    "than 0."
                )
        if slide > size:
            raise ConfigError(
                f"The parameter 'slide' ({slide}) is greater than 'size' ({size}): frames between "
                "the windows would belong to none."
            )
        if size / slide > 10_000:
            raise ConfigError(
                f"With size {size} and slide {slide} each frame would belong to "
                f"{size / slide:.0f} windows; at most 10,000 are possible. Choose a longer slide."
            )
        self.size, self.slide, self.origin = float(size), float(slide), float(origin)

    def first(self, times: Any) -> Integers:
        """Return the number of the first window that is not over at each time.

        A window is over at its end. Times may be infinite.
        """
        return self._floor(np.asarray(times, np.float64) - self.size) + 1

    def last(self, times: Any) -> Integers:
        """Return the number of the last window that has begun at each time."""
        return self._floor(np.asarray(times, np.float64))

    def bounds(self, number: int) -> tuple[float, float]:
        """Return start and end of a window."""
        start = self.origin + number * self.slide
        return start, start + self.size

    def _floor(self, times: Array) -> Integers:
        places = (times - self.origin) / self.slide
        nearest = np.rint(places)
        with np.errstate(invalid="ignore"):
            near = np.abs(places - nearest) <= _SNAP * np.maximum(1.0, np.abs(places))
        # What is infinite becomes a number that no window reaches.
        whole = np.clip(np.where(near, nearest, np.floor(places)), -(2.0**62), 2.0**62)
        return whole.astype(np.int64)
