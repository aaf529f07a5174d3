"""What becomes of a column in a window: sums, means, extremes; frame by frame, in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bridge.errors import ConfigError

__all__ = ["REDUCTIONS", "Accumulator", "check_reductions"]

Array = npt.NDArray[Any]

REDUCTIONS = ("sum", "mean", "var", "std", "min", "max", "first", "last")
"""Names of the reductions. Variances are divided by the number of frames, or their weight."""

# Rows are added up in pieces of this size, so that memory stays bounded.
_PIECE = 4 << 20


def check_reductions(value: str | Sequence[str]) -> tuple[str, ...]:
    """Return the names of reductions.

    Raises
    ------
    ConfigError
        If there is none, one comes twice, or one is unknown.
    """
    names = (value,) if isinstance(value, str) else tuple(value)
    unknown = [name for name in names if name not in REDUCTIONS]
    if unknown or not names or len(set(names)) < len(names):
        raise ConfigError(
            f"The parameter 'reductions' is {value!r}; name each at most once of: "
            f"{', '.join(REDUCTIONS)}. (The number of frames is always told.)"
        )
    return names


def _add(total: Array, rows: Array) -> Array:
    """Add rows one after the other: a sum of the same bits, in whichever portions they come."""
    if len(rows) == 1:
        return np.asarray(total + rows[0])
    return np.array(np.add.accumulate(np.concatenate([total[None], rows]))[-1])


class Accumulator:
    """One column in one window.

    Integers are summed as integers, without loss; all else as float64, in the order of the frames.
    Variances are taken around the window's first frame, so that a large mean costs no digits.

    Parameters
    ----------
    reductions
        What will be asked for.
    state
        What `save` returned.
    """

    __slots__ = ("_reductions", "_state")

    def __init__(
        self, reductions: tuple[str, ...], state: Mapping[str, Array] | None = None
    ) -> None:
        self._reductions = reductions
        self._state: dict[str, Array] = {k: np.array(v) for k, v in (state or {}).items()}

    def add(self, rows: Array, weights: Array | None) -> None:
        """Take up rows, shape (n, ...), n at least 1, with weights of shape (n,)."""
        height = max(1, _PIECE // max(1, rows[0].size * 8))
        for top in range(0, len(rows), height):
            piece = slice(top, top + height)
            self._add(rows[piece], None if weights is None else weights[piece])

    def _add(self, rows: Array, weights: Array | None) -> None:
        state, wanted = self._state, self._reductions
        if weights is not None:
            weights = weights.reshape(-1, *[1] * (rows.ndim - 1))
        if "sum" in wanted or "mean" in wanted:
            exact = rows.dtype.kind in "iub" and weights is None
            more = rows.astype(np.int64 if exact else np.float64)
            more = more if weights is None else more * weights
            total = state.get("sum")
            state["sum"] = _add(np.zeros_like(more[0]) if total is None else total, more)
        if "var" in wanted or "std" in wanted:
            origin = state.setdefault("origin", rows[0].astype(np.float64))
            away = rows - origin
            once = away if weights is None else away * weights
            zero = np.zeros_like(origin)
            state["away"] = _add(state.get("away", zero), once)
            state["squares"] = _add(state.get("squares", zero), once * away)
        for name, kernel in (("min", np.minimum), ("max", np.maximum)):
            if name in wanted:
                least = kernel.reduce(rows, axis=0)
                state[name] = np.asarray(kernel(state[name], least) if name in state else least)
        if "first" in wanted:
            state.setdefault("first", np.array(rows[0]))
        if "last" in wanted:
            state["last"] = np.array(rows[-1])

    def result(self, weight: float) -> dict[str, Array]:
        """Return name of the reduction to number(s), given the sum of the weights."""
        state, out = self._state, dict[str, Array]()
        share = 1.0 / weight if weight > 0 else 0.0
        for name in self._reductions:
            if name == "mean":
                out[name] = np.asarray(state["sum"] / weight if share else state["sum"] * 0.0)
            elif name in ("var", "std"):
                mean = state["away"] * share
                variance = np.maximum(state["squares"] * share - mean * mean, 0.0)
                out[name] = np.asarray(variance if name == "var" else np.sqrt(variance))
            else:
                out[name] = state[name]
        return out

    def save(self) -> dict[str, Array]:
        """Return the state."""
        return {name: value.copy() for name, value in self._state.items()}
