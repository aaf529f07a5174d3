"""From a stream's declared units to those of MDAnalysis: Å, ps, kJ/mol and what is made of them."""

from __future__ import annotations

from bridge.errors import ConfigError

__all__ = ["to_mdanalysis"]

# Each unit's dimension, as powers of length, time, energy per mole and mass, and its size in Å, ps,
# kJ/mol and u. CODATA 2018.
_UNITS: dict[str, tuple[tuple[int, int, int, int], float]] = {
    **dict.fromkeys(("Å", "A", "Angstrom", "angstrom", "ångström"), ((1, 0, 0, 0), 1.0)),
    **dict.fromkeys(("nm", "nanometer"), ((1, 0, 0, 0), 10.0)),
    "pm": ((1, 0, 0, 0), 0.01),
    "µm": ((1, 0, 0, 0), 1e4),
    "um": ((1, 0, 0, 0), 1e4),
    "m": ((1, 0, 0, 0), 1e10),
    **dict.fromkeys(("bohr", "a0"), ((1, 0, 0, 0), 0.529177210903)),
    "fs": ((0, 1, 0, 0), 1e-3),
    **dict.fromkeys(("ps", "picosecond"), ((0, 1, 0, 0), 1.0)),
    "ns": ((0, 1, 0, 0), 1e3),
    **dict.fromkeys(("us", "µs"), ((0, 1, 0, 0), 1e6)),
    "s": ((0, 1, 0, 0), 1e12),
    "kJ/mol": ((0, 0, 1, 0), 1.0),
    "kcal/mol": ((0, 0, 1, 0), 4.184),
    "eV": ((0, 0, 1, 0), 96.48533212331),
    **dict.fromkeys(("hartree", "Eh"), ((0, 0, 1, 0), 2625.4996394799)),
    "K": ((0, 0, 0, 0), 1.0),
}

_WANTED = {
    "length": (1, 0, 0, 0),
    "time": (0, 1, 0, 0),
    "velocity": (1, -1, 0, 0),
    "force": (-1, 0, 1, 0),
}
_EXAMPLES = {"length": "nm", "time": "ps", "velocity": "nm/ps", "force": "kJ/mol/nm"}


def to_mdanalysis(unit: str, quantity: str, what: str) -> float:
    """Return the factor by which values in a unit are to be multiplied.

    Parameters
    ----------
    unit
        As the stream declares it, such as ``nm/ps``, ``kJ/mol/nm`` or ``eV/Å``.
    quantity
        ``length``, ``time``, ``velocity`` or ``force``.
    what
        Whose unit it is, for the message.

    Raises
    ------
    ConfigError
        If the unit is missing, unknown, or one of something else.
    """
    powers, factor = _read(unit)
    if powers != _WANTED[quantity]:
        kind = "no unit" if not unit else f"the unit {unit!r}"
        raise ConfigError(
            f"The {what} has {kind}, which cannot be converted into a {quantity} in MDAnalysis's "
            f"units; say what it is, as in units={{{what.split()[-1]!r}: {_EXAMPLES[quantity]!r}}}."
        )
    return factor


def _read(unit: str) -> tuple[tuple[int, ...] | None, float]:
    text = unit.replace(" ", "").replace("·", "*").replace("(", "").replace(")", "")
    # What MDAnalysis writes as kJ/(mol*nm) is kJ/mol/nm.
    text = text.replace("*", "/")
    powers, factor, sign = [0, 0, 0, 0], 1.0, 1
    while text:
        name = next((n for n in sorted(_UNITS, key=len, reverse=True) if _begins(text, n)), None)
        if name is None:
            return None, 0.0
        dimension, size = _UNITS[name]
        powers = [p + sign * d for p, d in zip(powers, dimension, strict=True)]
        factor *= size**sign
        text, sign = text[len(name) + 1 :], -1
    return (tuple(powers), factor) if unit else (None, 0.0)


def _begins(text: str, name: str) -> bool:
    return text.startswith(name) and text[len(name) : len(name) + 1] in ("", "/")
