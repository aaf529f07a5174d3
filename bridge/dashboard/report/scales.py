"""Round numbers for axes, the way numbers are written there, and colours."""

from __future__ import annotations

import math

__all__ = ["LINES", "VIRIDIS", "decades", "label", "ticks"]

LINES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#b58900", "#7a7a7a")
"""Okabe and Ito's colours, which the common kinds of colour blindness tell apart; without black,
and with a darker yellow."""

VIRIDIS = (
    "#440154", "#481a6c", "#472f7d", "#414487", "#39568c", "#31688e", "#2a788e", "#23888e",
    "#1f988b", "#22a884", "#35b779", "#54c568", "#7ad151", "#a5db36", "#d2e21b", "#fde725",
)  # fmt: skip
"""Sixteen steps of viridis (Smith and van der Walt, CC0), dark to bright."""


def ticks(low: float, high: float, count: float = 6) -> list[float]:
    """Return round numbers from `low` to `high`, about `count` of them."""
    span = high - low
    if not (span > 0 and math.isfinite(span)):
        return [low]
    raw = span / max(1.0, count)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10, 20) if m * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [n * step for n in range(first, last + 1)]


def decades(low: float, high: float) -> list[float]:
    """Return the powers of ten between two positive numbers; 2 and 5 times them on short scales."""
    steps = (1, 2, 5) if high / low < 30 else (1,)
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    values = [s * 10.0**n for n in range(first, last + 1) for s in steps]
    return [v for v in values if low * 0.999 <= v <= high * 1.001] or [low]


def label(value: float) -> str:
    """Return a number as an axis shows it."""
    if abs(value) < 1e-12:
        return "0"
    if abs(value) >= 1e6 or abs(value) < 1e-3:
        mantissa, _, power = f"{value:.1e}".partition("e")
        return f"{mantissa.replace('-', '−')}e{int(power)}".replace("e-", "e−")
    return f"{value:.5g}".replace("-", "−")
