"""Units as text and as openPMD has them."""

from __future__ import annotations

import pytest

from bridge.errors import SchemaError
from bridge.transports.adios.units import factor_between, parse_unit, unit_text


@pytest.mark.parametrize(
    "unit",
    ["nm", "angstrom", "nm/ps", "angstrom/fs", "kJ/mol/nm", "kcal/mol/angstrom", "u", "K", "ps",
     "e", "bar", "nm^3", "kJ/mol", "eV/angstrom", ""],
)  # fmt: skip
def test_there_and_back(unit: str) -> None:
    known = parse_unit(unit)
    assert known is not None
    assert unit_text(*known) == unit


def test_other_ways_to_write_it() -> None:
    assert parse_unit("kJ/(mol nm)") == parse_unit("kJ/mol/nm")
    assert parse_unit("nm ps^-1") == parse_unit("nm/ps")
    assert parse_unit("furlong") is None


def test_what_has_no_name() -> None:
    assert unit_text(3e-10, (1, 0, 0, 0, 0, 0, 0)) == "3e-10 m"
    assert unit_text(1.0, (1, 0, -3, 0, 0, 0, 0)) == "m s^-3"
    assert unit_text(2.5, (0,) * 7) == "2.5"


def test_conversion() -> None:
    assert factor_between("angstrom", "nm") == pytest.approx(0.1)
    assert factor_between("kcal/mol/angstrom", "kJ/mol/nm") == pytest.approx(41.84)
    with pytest.raises(SchemaError, match="another quantity"):
        factor_between("nm", "ps")
    with pytest.raises(SchemaError, match="'parsec' is not known"):
        factor_between("parsec", "nm")
