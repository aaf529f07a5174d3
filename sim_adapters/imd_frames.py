"""Frames of an IMD session as frames of a stream: units converted, gaps filled."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bridge.errors import ConfigError
from bridge.schema import StreamSchema, Variable
from bridge.transports.imd import ENERGY_NAMES, Frames, SessionInfo
from sim_adapters.imd_gaps import Gaps
from sim_adapters.imd_units import EngineUnits

__all__ = ["Converter"]

Columns = dict[str, npt.NDArray[Any]]

_QUANTITIES = {"positions": "length", "velocities": "velocity", "forces": "force"}


class Converter:
    """Turns what an engine sends into what a stream carries.

    Parameters
    ----------
    info
        The session.
    first
        Its first frames: they tell what version 2 does not announce.
    units
        Of what is sent.
    gaps
        What is not sent.

    Attributes
    ----------
    schema
        What the stream carries.
    factors
        What to multiply columns by when they are put.

    Raises
    ------
    ConfigError
        If a frame's step or time would have to be guessed.
    """

    def __init__(self, info: SessionInfo, first: Frames, units: EngineUnits, gaps: Gaps) -> None:
        self._units = units.frames
        self._ahead = units.ahead
        self._gaps = gaps
        self._energies = first.energies is not None
        self._counted = first.steps is None
        self._next = gaps.every if gaps.first_step < 0 else gaps.first_step
        if self._counted and not gaps.every:
            raise ConfigError(
                "The engine does not number its frames: give --every, the steps between two of "
                "them, as the engine is set to."
            )
        if first.times is None and not gaps.timestep:
            raise ConfigError(
                "The engine does not tell the time: give --timestep, the length of a step in ps."
            )
        self._box = gaps.box if "box" not in first.vectors else None
        self.schema = self._describe(info, first)
        quantities = {**_QUANTITIES, **{name: _quantity(name) for name in ENERGY_NAMES}}
        if self._box is None:
            quantities["box"] = "length"
        factors = {name: self._units.factor(q) for name, q in quantities.items()}
        self.factors = {
            name: factors[name]
            for name in self.schema.names
            if name in factors and factors[name] != 1.0
        }

    def _describe(self, info: SessionInfo, first: Frames) -> StreamSchema:
        units = self._units
        variables = [
            Variable(name, "<f4", first.vectors[name].shape[1:], units.unit(quantity))
            for name, quantity in _QUANTITIES.items()
            if name in first.vectors
        ]
        if "box" in first.vectors or self._box is not None:
            length = units.unit("length")
            variables.append(
                Variable("box", "<f8", (3, 3), length, description="Rows are vectors.")
            )
        if self._energies:
            variables += [
                Variable(
                    n, "<f4", (), units.unit("temperature" if n == "temperature" else "energy")
                )
                for n in ENERGY_NAMES
            ]
        wrapped = {True: "true", False: "false", None: "unknown"}[info.wrapped]
        attributes = {"source": f"IMD version {info.version}", "wrapped": wrapped}
        if "box" in first.vectors:
            attributes["box"] = "sent with every frame"
        elif self._box is not None:
            attributes["box"] = "constant: the engine sends none"
        if self._counted:
            attributes["step"] = "counted: the engine sends none"
        return StreamSchema(
            tuple(variables),
            time_unit=units.unit("time"),
            topology=self._gaps.topology,
            attributes=attributes,
        )

    def convert(
        self, frames: Frames
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], Columns]:
        """Return steps, times and columns of some frames; `factors` are yet to be applied."""
        count = frames.count
        if frames.steps is not None:
            steps = frames.steps.astype(np.int64) - self._ahead
        else:
            every = self._gaps.every
            steps = np.arange(count, dtype=np.int64) * every + self._next
            self._next += count * every
        times: npt.NDArray[np.float64]
        if frames.times is not None:
            times = frames.times * np.float64(self._units.factor("time"))
        else:
            times = steps.astype(np.float64) * self._gaps.timestep + self._gaps.start_time
        columns: Columns = dict(frames.vectors)
        if "box" in columns:
            columns["box"] = columns["box"].astype(np.float64)
        elif self._box is not None:
            columns["box"] = np.broadcast_to(self._box, (count, 3, 3))
        if frames.energies is not None:
            for name in ENERGY_NAMES:
                columns[name] = frames.energies[name]
        return steps, times, columns


def _quantity(energy: str) -> str:
    return "temperature" if energy == "temperature" else "energy"
