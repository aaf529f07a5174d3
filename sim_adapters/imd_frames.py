"""Frames of an IMD session as frames of a stream: units converted, gaps filled."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from bridge.errors import ConfigError
from bridge.schema import StreamSchema, Variable
from bridge.transports.imd import ENERGY_NAMES, Frames, SessionInfo
from sim_adapters.imd_gaps import Gaps
from sim_adapters.imd_units import EngineUnits

__all__ = ["Columns", "Converter"]

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
        # The first frame decides, however many came together with it.
        numbered = first.first_numbered
        sparse = info.version == 2 and gaps.energies
        self._energies = sparse or (first.energies is not None and numbered)
        self._counted = not numbered
        self._was_counted = False
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
        if info.version == 2 and self._energies and self._gaps.every:
            attributes["step"] = "sent with energies, else counted"
            attributes["energies"] = "not numbers in frames beside which the engine sends none"
        elif self._counted:
            attributes["step"] = "counted: the engine sends none"
        return StreamSchema(
            tuple(variables),
            time_unit=units.unit("time"),
            topology=self._gaps.topology,
            attributes=attributes,
        )

    @property
    def counts(self) -> bool:
        """Whether a frame had to be counted, because its step was not sent."""
        return self._counted

    def convert(
        self, frames: Frames
    ) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], Columns]]:
        """Yield steps, times and columns of some frames; `factors` are yet to be applied.

        Energies are not numbers in frames that came without.

        Raises
        ------
        ConfigError
            After the frames before it, if the step of a frame would have to be guessed, turns out
            to have been counted wrong, or energies come that the stream has no room for.
        """
        steps, good, failure = self._number(frames)
        if good:
            yield self._convert(frames, steps, good)
        if failure:
            raise ConfigError(failure)

    def _number(self, frames: Frames) -> tuple[npt.NDArray[np.int64], int, str]:
        """Return steps, how many frames are right, and what is wrong with the next."""
        every, count = self._gaps.every, frames.count
        told: npt.NDArray[np.bool_] = np.full(count, frames.steps is not None)
        if frames.told is not None:
            told = frames.told
        given = np.zeros(count, np.int64)
        if frames.steps is not None:
            given = frames.steps.astype(np.int64) - self._ahead
        rows = np.arange(count)
        last = np.maximum.accumulate(np.where(told, rows, -1))
        steps = np.where(last < 0, self._next - every, given[last]) + every * (rows - last)
        expected = np.r_[self._next, steps[:-1] + every]
        counted_before = np.r_[self._was_counted, ~told[:-1]]
        unknown = ~told & (every == 0)
        homeless = told & (frames.energies is not None and not self._energies)
        wrong = told & counted_before & (steps != expected)
        bad = unknown | homeless | wrong
        good = int(bad.argmax()) if bad.any() else count
        if good:
            self._next = int(steps[good - 1]) + every
            self._was_counted = not told[good - 1]
            self._counted |= not told[:good].all()
        if good == count:
            return steps, good, ""
        if unknown[good]:
            return steps, good, (
                "A frame came without energies, which alone tell the step in version 2: give "
                "--every, the steps between two frames, as the engine is set to."
            )  # fmt: skip
        if homeless[good]:
            return steps, good, (
                "Energies came after frames without them, and the stream was opened with no place "
                "for them: give --energies if the first frame may have none."
            )  # fmt: skip
        return steps, good, (
            f"The energies tell step {steps[good]} where counting came to {expected[good]}: give "
            "--every, the steps between two frames, and --first-step as the engine is set to."
        )  # fmt: skip

    def _convert(
        self, frames: Frames, steps: npt.NDArray[np.int64], count: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], Columns]:
        steps = steps[:count]
        times: npt.NDArray[np.float64]
        if frames.times is not None:
            times = frames.times[:count] * np.float64(self._units.factor("time"))
        else:
            times = steps.astype(np.float64) * self._gaps.timestep + self._gaps.start_time
        columns: Columns = {name: values[:count] for name, values in frames.vectors.items()}
        if "box" in columns:
            columns["box"] = columns["box"].astype(np.float64)
        elif self._box is not None:
            columns["box"] = np.broadcast_to(self._box, (count, 3, 3))
        if self._energies:
            sent = frames.energies
            for name in ENERGY_NAMES:
                columns[name] = (
                    np.full(count, np.nan, np.float32) if sent is None else sent[name][:count]
                )
        return steps, times, columns


def _quantity(energy: str) -> str:
    return "temperature" if energy == "temperature" else "energy"
