"""Simulated times with units."""

from __future__ import annotations

import pytest

from bridge.errors import ConfigError
from bridge.runs.quantities import convert_time, parse_simulated_time, pick_time_unit


@pytest.mark.parametrize(
    ("text", "expected"),
    [("10 ns", (10.0, "ns")), ("2.5ps", (2.5, "ps")), ("1e3 fs", (1e3, "fs")), (7, (7.0, "")),
     ("50", (50.0, ""))],
)  # fmt: skip
def test_reading(text: str | float, expected: tuple[float, str]) -> None:
    assert parse_simulated_time(text) == expected


@pytest.mark.parametrize("text", ["", "ns", "-1 ns", "0", "1 s", "1 h", "ten ns"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a simulated time"):
        parse_simulated_time(text)


def test_units_are_converted_and_none_stands_for_any() -> None:
    assert convert_time(2.0, "ns", "ps") == pytest.approx(2000.0)
    assert convert_time(2.0, "", "ps") == 2.0
    assert convert_time(2.0, "ns", "") == 2.0
    with pytest.raises(ConfigError, match="'ns' cannot be turned into 'sweeps'"):
        convert_time(1.0, "ns", "sweeps")


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [(0.2, "ps", "fs"), (900.0, "ps", "ps"), (5800.0, "ps", "ns"), (1e10, "ps", "ms"),
     (5.0, "", "")],
)  # fmt: skip
def test_the_readable_unit(value: float, unit: str, shown: str) -> None:
    assert pick_time_unit(value, unit) == shown
