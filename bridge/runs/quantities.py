"""Simulated time with its unit: reading it, and turning one unit into another."""

from __future__ import annotations

from bridge.errors import ConfigError

__all__ = ["convert_time", "parse_simulated_time", "pick_time_unit"]

# In picoseconds. Seconds and minutes are left out: nobody simulates molecules for so long, and
# "10 s" is most likely meant as wall time.
_PICOSECONDS = {"fs": 1e-3, "ps": 1.0, "ns": 1e3, "us": 1e6, "µs": 1e6, "ms": 1e9}


def parse_simulated_time(text: str | float) -> tuple[float, str]:
    """Read a simulated time such as ``"10 ns"``.

    Returns
    -------
    value, unit
        The unit is empty for a bare number, which is in the streams' own unit.

    Raises
    ------
    ConfigError
        If it is not a positive number with a known unit.
    """
    if isinstance(text, (int, float)):
        number, unit = float(text), ""
    else:
        digits = text.strip().rstrip("abcdefghijklmnopqrstuvwxyzµ")
        unit = text.strip()[len(digits) :]
        try:
            number = float(digits)
        except ValueError:
            number = 0.0
    if (unit and unit not in _PICOSECONDS) or not number > 0:
        known = ", ".join(_PICOSECONDS)
        raise ConfigError(
            f"{text!r} is not a simulated time; write a number above 0 and one of {known}, or the "
            "number alone, in the unit of the simulation."
        )
    return number, unit


def convert_time(value: float, unit: str, wanted: str) -> float:
    """Return a simulated time in another unit; an empty unit stands for any.

    Raises
    ------
    ConfigError
        If the two units have nothing to do with each other.
    """
    if not unit or not wanted or unit == wanted:
        return value
    if unit not in _PICOSECONDS or wanted not in _PICOSECONDS:
        raise ConfigError(f"A simulated time in {unit!r} cannot be turned into {wanted!r}.")
    return value * _PICOSECONDS[unit] / _PICOSECONDS[wanted]


def pick_time_unit(value: float, unit: str) -> str:
    """Return the unit in which a time is easiest to read: 0.1 to 1000 of it, if there is one."""
    if unit not in _PICOSECONDS:
        return unit
    for candidate in ("fs", "ps", "ns", "µs", "ms"):
        if abs(convert_time(value, unit, candidate)) < 1000.0:
            return candidate
    return "ms"
