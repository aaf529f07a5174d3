"""Stop when what was looked for has been found."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from bridge.errors import ConfigError, SchemaError
from bridge.frames import FrameBatch
from bridge.pipeline import Context, GlobalOperator
from bridge.schema import plain_unit

__all__ = ["StopAtTarget"]


class StopAtTarget(GlobalOperator):
    """Tell when a column is first within bounds, in any simulation, and stop them all.

    At the first such frame there is one event ``target_reached``, with the simulation, the offset,
    step and time of the frame, the value, and ``total_time``: the simulated time over all walkers
    at that moment, each counted to its last frame seen, in the streams' unit of time. All
    simulations are told to stop, one that shows up later at its first frame.

    The batch passes unchanged.

    Parameters
    ----------
    column
        Shape (n,) or (n, ...), flattened to (n, k).
    index
        Which of the k numbers.
    lower, upper
        Bounds, both inside the target; at least one must be given.
    degrees
        The bounds are in degrees, and the column is in radians.
    stop
        False to tell only.

    Raises
    ------
    ConfigError
        If the bounds are missing or the wrong way round.
    """

    def __init__(
        self,
        *,
        column: str,
        index: int = 0,
        lower: float = -math.inf,
        upper: float = math.inf,
        degrees: bool = False,
        stop: bool = True,
    ) -> None:
        if not lower <= upper or (math.isinf(lower) and math.isinf(upper)):
            raise ConfigError(
                f"The target needs 'lower' not greater than 'upper', and at least one of the two; "
                f"they are {lower} and {upper}."
            )
        if index < 0:
            raise ConfigError(f"The parameter 'index' must not be negative; it is {index}.")
        self.column = column
        self.index = index
        self.lower, self.upper = lower, upper
        self.degrees, self.stop = degrees, stop
        self._times: dict[str, float] = {}
        self._reached = ""
        self._told: list[str] = []

    def reads(self) -> tuple[str, ...]:
        """Return the columns that `process` reads."""
        return (self.column,)

    def process(self, batch: FrameBatch, context: Context) -> FrameBatch:
        """Look at the column."""
        if not len(batch):
            return batch
        if self._reached:
            self._stop(context, (batch.simulation,), batch.first)
            return batch
        flat = batch[self.column].reshape(len(batch), -1)
        if self.index >= flat.shape[1]:
            raise SchemaError(
                f"The column {self.column!r} has {flat.shape[1]} numbers for each frame; there is "
                f"no index {self.index}, counted from 0."
            )
        values = flat[:, self.index].astype(np.float64)
        if self.degrees:
            values = np.degrees(values)
        inside = (values >= self.lower) & (values <= self.upper)
        row = int(inside.argmax())
        if not inside[row]:
            self._times[batch.simulation] = float(batch.times[-1])
            return batch
        self._times[batch.simulation] = float(batch.times[row])
        self._tell(batch, row, float(values[row]), context)
        self._stop(context, (*context.simulations, batch.simulation), int(batch.offsets[row]))
        return batch

    def save(self) -> dict[str, Any]:
        """Return the last times seen, and what was reached and told."""
        return {
            "times": dict(self._times),
            "reached": self._reached,
            "told": list(self._told),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what `save` returned."""
        self._times = dict(state["times"])
        self._reached = state["reached"]
        self._told = list(state["told"])

    def _tell(self, batch: FrameBatch, row: int, value: float, context: Context) -> None:
        found = plain_unit(context.units.get(self.column, ""))
        unit = "°" if self.degrees else f" {found}".rstrip()
        flat = batch[self.column].ndim == 1
        name = self.column if flat else f"{self.column}[{self.index}]"
        total = math.fsum(self._times.values())
        self._reached = (
            f"{name} of {batch.simulation} was {value:.4g}{unit} at frame "
            f"{int(batch.offsets[row])}, and the target is {self._describe(unit)}"
        )
        time_unit = f" {context.time_unit}" if context.time_unit else ""
        count = len(self._times)
        context.event(
            "target_reached",
            f"{self._reached}. By then {total:.6g}{time_unit} had been simulated, by "
            f"{count} simulation{'' if count == 1 else 's'} together.",
            simulation=batch.simulation,
            offset=int(batch.offsets[row]),
            step=int(batch.steps[row]),
            time=float(batch.times[row]),
            value=value,
            total_time=total,
            simulations=len(self._times),
        )

    def _describe(self, unit: str) -> str:
        if math.isinf(self.upper):
            return f"at least {self.lower:g}{unit}"
        if math.isinf(self.lower):
            return f"at most {self.upper:g}{unit}"
        return f"{self.lower:g}{unit} to {self.upper:g}{unit}"

    def _stop(self, context: Context, names: tuple[str, ...], at: int) -> None:
        for name in names:
            if self.stop and name not in self._told:
                self._told.append(name)
                context.command(
                    "stop", name, reason=f"The target is reached: {self._reached}.", at=at
                )
