"""Units as text, and as openPMD has them: a factor to SI and the powers of seven base units.

The powers are those of length, mass, time, current, temperature, amount and luminous intensity,
as in the openPMD standard 1.1.0 (doi:10.5281/zenodo.1167843).
"""

from __future__ import annotations

import math
import re
from functools import cache

from bridge.errors import SchemaError

__all__ = ["Powers", "factor_between", "parse_unit", "unit_text"]

Powers = tuple[float, ...]

_NONE: Powers = (0.0,) * 7
_L: Powers = (1.0, 0, 0, 0, 0, 0, 0)
_M: Powers = (0, 1.0, 0, 0, 0, 0, 0)
_T: Powers = (0, 0, 1.0, 0, 0, 0, 0)
_ENERGY: Powers = (2.0, 1.0, -2.0, 0, 0, 0, 0)
_FORCE: Powers = (1.0, 1.0, -2.0, 0, 0, 0, 0)
_PRESSURE: Powers = (-1.0, 1.0, -2.0, 0, 0, 0, 0)
_CHARGE: Powers = (0, 0, 1.0, 1.0, 0, 0, 0)

# CODATA 2018.
_KNOWN: dict[str, tuple[float, Powers]] = {
    "m": (1.0, _L), "nm": (1e-9, _L), "angstrom": (1e-10, _L), "Å": (1e-10, _L),
    "pm": (1e-12, _L), "um": (1e-6, _L), "mm": (1e-3, _L), "cm": (1e-2, _L),
    "bohr": (5.29177210903e-11, _L),
    "s": (1.0, _T), "ms": (1e-3, _T), "us": (1e-6, _T), "ns": (1e-9, _T), "ps": (1e-12, _T),
    "fs": (1e-15, _T),
    "kg": (1.0, _M), "g": (1e-3, _M), "u": (1.66053906660e-27, _M), "amu": (1.66053906660e-27, _M),
    "Da": (1.66053906660e-27, _M),
    "K": (1.0, (0, 0, 0, 0, 1.0, 0, 0)), "mol": (1.0, (0, 0, 0, 0, 0, 1.0, 0)),
    "J": (1.0, _ENERGY), "kJ": (1e3, _ENERGY), "kcal": (4184.0, _ENERGY),
    "eV": (1.602176634e-19, _ENERGY), "hartree": (4.3597447222071e-18, _ENERGY),
    "N": (1.0, _FORCE), "pN": (1e-12, _FORCE),
    "Pa": (1.0, _PRESSURE), "MPa": (1e6, _PRESSURE), "GPa": (1e9, _PRESSURE),
    "bar": (1e5, _PRESSURE), "atm": (101325.0, _PRESSURE),
    "C": (1.0, _CHARGE), "e": (1.602176634e-19, _CHARGE),
    "V": (1.0, (2.0, 1.0, -3.0, -1.0, 0, 0, 0)),
}  # fmt: skip

# Which text stands for which powers and factor, the preferred one first.
_PREFERRED = (
    "nm", "angstrom", "pm", "um", "mm", "cm", "m", "bohr", "ps", "fs", "ns", "us", "ms", "s",
    "u", "g", "kg", "nm/ps", "angstrom/ps", "angstrom/fs", "m/s", "kJ/mol", "kcal/mol", "eV",
    "hartree", "kJ", "J", "kJ/mol/nm", "kcal/mol/angstrom", "eV/angstrom", "hartree/bohr", "pN",
    "N", "e", "C", "K", "bar", "atm", "MPa", "GPa", "Pa", "nm^2", "nm^3", "angstrom^3", "V",
    "u*nm/ps",
)  # fmt: skip
_BASE = ("m", "kg", "s", "ampere", "K", "mol", "cd")
_TOKEN = re.compile(r"([*/·]|\s)?\s*([A-Za-zÅ]+)(?:\^?(-?\d+))?\s*")


@cache
def parse_unit(text: str) -> tuple[float, Powers] | None:
    """Return factor to SI and powers of a unit such as ``kJ/mol/nm``; None if it is not known."""
    text = re.sub(
        r"/\s*\(([^)]*)\)", lambda m: "/" + "/".join(re.split(r"[\s*·]+", m[1].strip())), text
    ).strip()
    if text in ("", "1"):
        return 1.0, _NONE
    factor, powers, at = 1.0, list(_NONE), 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None or found[2] not in _KNOWN:
            return None
        power = int(found[3] or 1) * (-1 if found[1] == "/" else 1)
        one, its = _KNOWN[found[2]]
        factor *= one**power
        powers = [p + power * q for p, q in zip(powers, its, strict=True)]
        at = found.end()
    return factor, tuple(powers)


def unit_text(factor: float, powers: Powers) -> str:
    """Return the text for a factor to SI and seven powers; a product of SI units at the worst."""
    for text in _PREFERRED:
        known = parse_unit(text)
        assert known is not None
        if known[1] == tuple(powers) and math.isclose(known[0], factor, rel_tol=1e-6):
            return text
    if not any(powers):
        return "" if factor == 1.0 else f"{factor:g}"
    parts = [
        name if power == 1 else f"{name}^{power:g}"
        for name, power in zip(_BASE, powers, strict=True)
        if power
    ]
    return " ".join(parts if factor == 1.0 else [f"{factor:g}", *parts])


def factor_between(unit: str, to: str) -> float:
    """Return what a value in `unit` must be multiplied with to be in `to`.

    Raises
    ------
    SchemaError
        If one of them is not known, or they are of different kinds.
    """
    one, other = parse_unit(unit), parse_unit(to)
    for text, known in ((unit, one), (to, other)):
        if known is None or not text:
            raise SchemaError(
                f"The unit {text!r} is not known, so values in {unit!r} cannot be converted to "
                f"{to!r}; leave out 'to', or use units made of {', '.join(sorted(_KNOWN))}."
            )
    assert one is not None
    assert other is not None
    if one[1] != other[1]:
        raise SchemaError(f"Values in {unit!r} cannot be converted to {to!r}: another quantity.")
    return one[0] / other[0]
