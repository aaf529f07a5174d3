"""The TOML file that says what an ADIOS2 stream's variables mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.errors import ConfigError
from bridge.transports.adios import read_mapping


def test_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "map.toml"
    path.write_text(
        'step = "n"\ndt = 0.5\ntime_unit = "ps"\n'
        '[variables]\nenergy = "pe"\n'
        '[variables.positions]\nfrom = ["x", "y", "z"]\nunit = "angstrom"\nto = "nm"\n'
    )
    found = read_mapping(path)
    assert (found.step, found.dt, found.time_unit, found.where) == ("n", 0.5, "ps", str(path))
    assert found.variables["energy"].sources == ("pe",)
    assert found.variables["positions"].sources == ("x", "y", "z")


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"stepp": "n"}, "unknown key 'stepp'; did you mean 'step'"),
        ({"variables": {"x": {"from": "x", "units": "nm"}}}, "did you mean 'unit'"),
        ({"variables": {"x": {"unit": "nm"}}}, "from"),
        ({"variables": {"x/y": "x"}}, "not a valid name"),
        ({"variables": {"x": {"from": ["a", "b"], "columns": [1]}}}, "one variable with 'columns'"),
        ({"time": "t", "dt": 1.0}, "not both"),
        ({"capacity": -1}, "not negative"),
        ({"variables": 3}, "table of variables"),
    ],
)
def test_what_is_wrong_is_told(table: dict[str, object], said: str) -> None:
    with pytest.raises((ConfigError, ValueError), match=said):
        read_mapping(table)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Cannot read"):
        read_mapping(tmp_path / "none.toml")
