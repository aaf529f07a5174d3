"""Mean, spread and extremes of columns over all simulations, as the run goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from analytics.features.inputs import matrix_of, output_name
from analytics.statistics.running import RunningMoments
from analytics.statistics.schedule import check_count, segments
from bridge.errors import ConfigError, SchemaError
from bridge.frames import FrameBatch
from bridge.pipeline import Context, GlobalOperator

__all__ = ["Moments", "common_unit", "input_columns"]


def input_columns(value: str | Sequence[str]) -> tuple[str, ...]:
    """Return the names of one or several input columns.

    Raises
    ------
    ConfigError
        If there is none.
    """
    names = (value,) if isinstance(value, str) else tuple(value)
    if not names or not all(isinstance(n, str) and n for n in names):
        raise ConfigError(
            f"The parameter 'input' is {value!r}; it must name a column, or a list of columns."
        )
    return names


def common_unit(columns: Sequence[str], units: Mapping[str, str]) -> str:
    """Return the unit that several columns have in common; empty if they have not, or none."""
    found = {units.get(name, "") for name in columns}
    return found.pop() if len(found) == 1 else ""


class Moments(GlobalOperator):
    """Add the running mean, standard deviation and extremes of columns.

    The numbers are renewed whenever the count of frames, over all simulations, is a multiple of
    `update_every`; a frame gets those of the frames before it. Until the first time they are 0.

    Parameters
    ----------
    input
        Column, or list of columns, of k numbers in all in each frame.
    update_every
        Frames between renewals.
    half_life
        Frames after which a frame counts half; None for no forgetting. Extremes are of all
        frames ever.
    output
        Begin of the names of the columns to add: ``<output>_mean``, ``<output>_std``,
        ``<output>_minimum`` and ``<output>_maximum``, float64 of shape (n, k), and
        ``<output>_ready``, boolean of shape (n,).

    Attributes
    ----------
    moments
        The statistics as of the last frame.

    Raises
    ------
    ConfigError
        If a parameter is wrong.
    SchemaError
        On a batch without fitting columns, or with a value that is not finite.
    """

    def __init__(
        self,
        *,
        input: str | Sequence[str],
        update_every: int = 100,
        half_life: float | None = None,
        output: str = "moments",
    ) -> None:
        self.input = input_columns(input)
        self.update_every = check_count(update_every, "update_every")
        self.output = output_name(output)
        self.moments = RunningMoments(half_life=half_life)
        self._shown: np.ndarray[Any, np.dtype[np.float64]] | None = None

    def reads(self) -> tuple[str, ...]:
        """Return the columns that `process` reads."""
        return self.input

    def column_units(self, inputs: Mapping[str, str]) -> Mapping[str, str]:
        """Return the unit of the columns, where all have the same."""
        unit = common_unit(self.input, inputs)
        names = ("mean", "std", "minimum", "maximum")
        return {f"{self.output}_{name}": unit for name in names}

    def process(self, batch: FrameBatch, context: Context) -> FrameBatch:
        """Add the columns."""
        rows = matrix_of(batch, self.input, "Moments")
        n, k = rows.shape
        known = self.moments.n_features
        if known is not None and known != k:
            raise SchemaError(
                f"Moments got {k} numbers a frame from {batch.simulation!r} in its parameter "
                f"'input', and {known} before."
            )
        out = np.zeros((4, n, k))
        ready = np.zeros(n, np.bool_)
        for start, stop, due in segments(self.moments.count, n, self.update_every):
            if self._shown is not None:
                out[:, start:stop] = self._shown[:, None, :]
                ready[start:stop] = True
            self.moments.partial_fit(rows[start:stop])
            if due:
                m = self.moments
                self._shown = np.stack([m.mean, np.sqrt(m.variance()), m.minimum, m.maximum])
        names = ("mean", "std", "minimum", "maximum")
        columns = {f"{self.output}_{name}": out[i] for i, name in enumerate(names)}
        return batch.with_columns({**columns, f"{self.output}_ready": ready})

    def finish(self, context: Context) -> None:
        """Tell the final numbers."""
        m = self.moments
        if m.count:
            context.event(
                "moments",
                f"Moments of {m.count} frames of {', '.join(self.input)}.",
                count=m.count,
                mean=m.mean.tolist(),
                std=np.sqrt(m.variance()).tolist(),
                minimum=m.minimum.tolist(),
                maximum=m.maximum.tolist(),
            )

    def save(self) -> dict[str, Any]:
        """Return the state."""
        shown = np.zeros((0, 0)) if self._shown is None else self._shown.copy()
        return {**self.moments.save(), "shown": shown}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up a state."""
        self.moments.restore(state)
        shown = np.array(state["shown"], np.float64)
        self._shown = shown if len(shown) else None
