"""LAMMPS's unit styles, and what one of their units is in nm, ps, kJ/mol, K, u and bar."""

from __future__ import annotations

from dataclasses import dataclass

from bridge.errors import ConfigError

__all__ = ["UnitStyle", "unit_style"]

_AVOGADRO = 6.02214076e23
_JOULE = _AVOGADRO * 1e-3  # kJ/mol
_NEWTON = _JOULE * 1e-9  # kJ/mol/nm
_KILOGRAM = _AVOGADRO * 1e3  # u
_KCAL = 4.184
_EV = 1.602176634e-19 * _JOULE
_HARTREE = 4.3597447222071e-18 * _JOULE
_BOHR = 0.0529177210903  # nm
# LAMMPS's "atomic time unit" of velocities in style electron, as its manual has it.
_ATU = 1.03275e-3  # ps


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitStyle:
    """Factors that turn a style's numbers into Headrace's units, and how those are called.

    Style ``lj`` has no units that could be converted: its numbers stay as they are, and their
    units are called after the parameters that they are multiples of.

    Attributes
    ----------
    name
        The style.
    length, time, velocity, force, energy, mass, pressure, temperature
        What one of the style's units is in nm, ps, nm/ps, kJ/mol/nm, kJ/mol, u, bar and K.
    reduced
        Nothing is converted.
    """

    name: str
    length: float = 1.0
    time: float = 1.0
    velocity: float = 1.0
    force: float = 1.0
    energy: float = 1.0
    mass: float = 1.0
    pressure: float = 1.0
    temperature: float = 1.0
    reduced: bool = False

    def unit(self, quantity: str) -> str:
        """Return what the converted numbers of a quantity are in."""
        return (_REDUCED if self.reduced else _UNITS)[quantity]

    def factor(self, quantity: str) -> float:
        """Return what to multiply the style's numbers of a quantity by."""
        return float(getattr(self, quantity)) if quantity in _FACTORS else 1.0


_UNITS = {
    "length": "nm", "time": "ps", "velocity": "nm/ps", "force": "kJ/mol/nm", "energy": "kJ/mol",
    "mass": "u", "pressure": "bar", "temperature": "K", "volume": "nm^3", "none": "",
}  # fmt: skip
_REDUCED = {
    "length": "sigma", "time": "tau", "velocity": "sigma/tau", "force": "epsilon/sigma",
    "energy": "epsilon", "mass": "m", "pressure": "epsilon/sigma^3", "temperature": "epsilon/kB",
    "volume": "sigma^3", "none": "",
}  # fmt: skip
_FACTORS = frozenset(_UNITS) - {"volume", "none"}

_STYLES = {
    s.name: s
    for s in (
        UnitStyle(name="lj", reduced=True),
        UnitStyle(
            name="real", length=0.1, time=1e-3, velocity=100.0, force=_KCAL * 10, energy=_KCAL,
            pressure=1.01325,
        ),
        UnitStyle(name="metal", length=0.1, velocity=0.1, force=_EV * 10, energy=_EV),
        UnitStyle(
            name="si", length=1e9, time=1e12, velocity=1e-3, force=_NEWTON, energy=_JOULE,
            mass=_KILOGRAM, pressure=1e-5,
        ),
        UnitStyle(
            name="cgs", length=1e7, time=1e12, velocity=1e-5, force=_NEWTON * 1e-5,
            energy=_JOULE * 1e-7, mass=_KILOGRAM * 1e-3, pressure=1e-6,
        ),
        UnitStyle(
            name="electron", length=_BOHR, time=1e-3, velocity=_BOHR / _ATU,
            force=_HARTREE / _BOHR, energy=_HARTREE, pressure=1e-5,
        ),
        UnitStyle(
            name="micro", length=1e3, time=1e6, velocity=1e-3, force=_NEWTON * 1e-9,
            energy=_JOULE * 1e-15, mass=_KILOGRAM * 1e-15, pressure=1e-2,
        ),
        UnitStyle(
            name="nano", time=1e3, velocity=1e-3, force=_NEWTON * 1e-12, energy=_JOULE * 1e-21,
            mass=_KILOGRAM * 1e-21, pressure=10.0,
        ),
    )
}  # fmt: skip


def unit_style(name: str) -> UnitStyle:
    """Return a unit style by the name that LAMMPS has for it.

    Raises
    ------
    ConfigError
        If it is unknown.
    """
    if name not in _STYLES:
        raise ConfigError(
            f"Nobody knows LAMMPS's unit style {name!r} here; there are {', '.join(_STYLES)}."
        )
    return _STYLES[name]
