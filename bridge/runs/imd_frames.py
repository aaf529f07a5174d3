"""Frames of any stream of particles as IMD frames, in the units that version 3 prescribes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from bridge.errors import ConfigError
from bridge.frames import FrameBatch
from bridge.schema import StreamSchema, Variable
from bridge.transports.imd import ENERGY_NAMES, Layout, SessionInfo

__all__ = ["Outgoing", "read_factor"]

# Symbol to its size in Å, ps or kJ/mol, and which of the three it is.
_SYMBOLS: dict[str, tuple[float, str]] = {
    "Å": (1.0, "L"), "A": (1.0, "L"), "angstrom": (1.0, "L"), "nm": (10.0, "L"),
    "pm": (0.01, "L"), "um": (1e4, "L"), "µm": (1e4, "L"), "bohr": (0.529177210903, "L"),
    "fs": (1e-3, "T"), "ps": (1.0, "T"), "ns": (1e3, "T"), "us": (1e6, "T"), "µs": (1e6, "T"),
    "kJ": (1.0, "E"), "kcal": (4.184, "E"), "eV": (96.48533212331, "E"),
    "hartree": (2625.4996394799, "E"), "mol": (1.0, ""),
}  # fmt: skip
_WANTED = {"length": "L", "time": "T", "velocity": "L/T", "force": "E/L", "energy": "E"}
_QUANTITIES = {
    "positions": "length", "velocities": "velocity", "forces": "force", "box": "length",
}  # fmt: skip


def read_factor(unit: str, quantity: str) -> float:
    """Return what to multiply values in a unit by, to have them in Å, ps and kJ/mol.

    Parameters
    ----------
    unit
        For example ``nm/ps`` or ``kJ/mol/nm``.
    quantity
        ``length``, ``time``, ``velocity``, ``force`` or ``energy``.

    Raises
    ------
    ConfigError
        If the unit is unknown, or one of something else.
    """
    factor, above, below = 1.0, "", ""
    for place, symbol in enumerate(unit.split("/")):
        size, what = _SYMBOLS.get(symbol.strip(), (0.0, "?"))
        factor = factor * size if place == 0 else factor / (size or 1.0)
        above, below = (above + what, below) if place == 0 else (above, below + what)
    if "/".join(filter(None, (above, below))) != _WANTED[quantity]:
        raise ConfigError(
            f"Values in {unit or 'no declared unit'!r} cannot be sent as a {quantity} over IMD; if "
            "the stream's unit is called otherwise or missing, declare it: --unit NAME=nm."
        )
    return factor


class Outgoing:
    """Makes IMD frames of a stream's frames.

    Parameters
    ----------
    schema
        Of the stream; ``positions`` must be in it, ``velocities``, ``forces``, ``box`` and the
        nine energies of IMD are sent where they are.
    version
        2 (positions alone) or 3.
    names
        IMD's name to the stream's, where it is another.
    units
        Name of a variable of the stream, or ``time``, to the unit that it is in, instead of what
        the schema declares.

    Raises
    ------
    ConfigError
        If there are no positions, or a unit is unknown.
    """

    def __init__(
        self,
        schema: StreamSchema,
        *,
        version: int = 3,
        names: Mapping[str, str] | None = None,
        units: Mapping[str, str] | None = None,
    ) -> None:
        self._units = dict(units or {})
        self._names: dict[str, str] = {}
        self._factors: dict[str, float] = {}
        for name, quantity in _QUANTITIES.items():
            wanted = (names or {}).get(name, name)
            if wanted in schema.names:
                self._add(name, schema.variable(wanted), quantity)
            elif name == "positions" or name in (names or {}):
                raise ConfigError(
                    f"The stream has no variable {wanted!r} to be sent as {name}; it has "
                    f"{', '.join(schema.names)}. Name the right one: --variable {name}=NAME."
                )
        shapes = {n: schema.variable(v).shape for n, v in self._names.items() if n != "box"}
        if len({shape[0] for shape in shapes.values()}) > 1:
            raise ConfigError(f"The stream's vectors are not of the same atoms: {shapes}.")
        self.atoms = shapes["positions"][0]
        energies = version == 3 and set(ENERGY_NAMES) <= set(schema.names)
        self._energies: dict[str, float] = {}
        for name in ENERGY_NAMES if energies else ():
            unit = self._units.get(name, schema.variable(name).unit)
            self._energies[name] = 1.0 if unit == "K" else read_factor(unit, "energy")
        self._time = 1.0
        if version == 3:
            self._time = read_factor(self._units.get("time", schema.time_unit), "time")
        wrapped = {"true": True, "false": False}.get(schema.attributes.get("wrapped", ""))
        self.info = SessionInfo(
            version=version,
            time=version == 3,
            energies=energies,
            box=version == 3 and "box" in self._names,
            wrapped=bool(wrapped) if version == 3 else None,
            velocities=version == 3 and "velocities" in self._names,
            forces=version == 3 and "forces" in self._names,
        )
        # A version 2 frame of positions alone is laid out as one of version 3 would be.
        self.layout = Layout(self.info, self.atoms)
        self._last: tuple[int, float] | None = None
        self._step_length = 0.0

    def _add(self, name: str, variable: Variable, quantity: str) -> None:
        shape = variable.shape
        right = shape in ((3, 3), (3,)) if name == "box" else len(shape) == 2 and shape[1] == 3
        if not right or variable.numpy_dtype.kind not in "fiu":
            raise ConfigError(
                f"The variable {variable.name!r}, of shape {shape} and dtype {variable.dtype}, "
                f"cannot be sent as {name}."
            )
        self._names[name] = variable.name
        self._factors[name] = read_factor(self._units.get(variable.name, variable.unit), quantity)

    def make(self, batch: FrameBatch) -> npt.NDArray[Any]:
        """Return the frames of a batch as they are sent, of dtype ``layout.dtype``; copies."""
        rows = self.layout.empty(len(batch))
        for name in ("positions", "velocities", "forces", "box"):
            if getattr(self.info, name):
                values = batch[self._names[name]]
                if name == "box" and values.ndim == 2:
                    values = values[:, :, None] * np.eye(3)
                np.multiply(values, self._factors[name], out=rows[name], casting="same_kind")
        if self.info.time:
            times = batch.times * self._time
            rows["time"]["time"] = times
            rows["time"]["step"] = batch.steps
            rows["time"]["dt"] = self._measure_step(batch.steps, times)
        for name, factor in self._energies.items():
            rows["energies"][name] = batch[name] * factor
        if self._energies:
            rows["energies"]["step"] = np.minimum(batch.steps, 2**31 - 1)
        return rows

    def _measure_step(self, steps: npt.NDArray[Any], times: npt.NDArray[Any]) -> float:
        """Return the length of a step, from the two newest frames; of one, from its own time."""
        first = self._last or (0, 0.0)
        if len(steps) > 1:
            first = (int(steps[-2]), float(times[-2]))
        self._last = (int(steps[-1]), float(times[-1]))
        between = self._last[0] - first[0]
        if between > 0 and self._last[1] > first[1]:
            self._step_length = (self._last[1] - first[1]) / between
        return self._step_length
