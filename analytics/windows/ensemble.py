"""Windows over the frames of all simulations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from analytics.statistics.schedule import check_count
from analytics.windows.gathering import Windowed
from bridge.errors import ConfigError
from bridge.frames import FrameBatch
from bridge.pipeline import Context, GlobalOperator

__all__ = ["EnsembleWindow"]

Array = npt.NDArray[np.float64]


class EnsembleWindow(Windowed, GlobalOperator):
    """Reduce columns over windows of simulated time, or of steps, of all simulations together.

    A window is over when the clock of every simulation that is known, and has not finished, has
    passed its end by `lateness`. A simulation's clock is its greatest time so far. Else as for
    `analytics.windows.keyed.Window`, except that a clock that goes back at a restart makes frames
    late, since the other simulations have gone on.

    Which frames are in a window does not depend on the order in which simulations take turns
    (unless `patience` is given), nor do sums of integers; sums of other numbers do to the last
    digits.

    Parameters
    ----------
    members
        Number of simulations without which no window is closed.
    patience
        A simulation whose clock is behind the foremost by more than this (or that has sent
        nothing while the foremost is so far from the origin) is not waited for; what it sends
        then may be late. None to wait for each, however long.
    **common
        As for `analytics.windows.keyed.Window`.

    Raises
    ------
    ConfigError, PipelineError, SchemaError
        As there.
    """

    def __init__(self, *, members: int = 1, patience: float | None = None, **common: Any) -> None:
        super().__init__(**common)
        if patience is not None and not patience > 0:
            raise ConfigError(
                f"The parameter 'patience' is {patience}; it must be greater than 0, or left out."
            )
        self.members = check_count(members, "members")
        self.patience = np.inf if patience is None else float(patience)
        self._clocks: dict[str, float] = {}
        self._bound = -(2**62)

    def process(self, batch: FrameBatch, context: Context) -> FrameBatch | None:
        """Take up the frames, and hand on the rows that end windows."""
        if not len(batch):
            return None
        data = self._columns(batch)
        clock = self._clock(batch)
        before = self._clocks.get(batch.simulation, -np.inf)
        now = np.maximum.accumulate(np.maximum(clock, before))
        bounds = self.spans.first(self._passed(now, batch.simulation, context) - self.lateness)
        bounds = np.maximum.accumulate(np.maximum(bounds, self._bound))
        closed: list[tuple[int, dict[str, Any]]] = []
        self._gather(batch, clock, bounds, context, 0, len(batch), data, closed)
        self._clocks[batch.simulation] = float(now[-1])
        self._bound = int(bounds[-1])
        return self._rows(batch, closed) if closed else None

    def _passed(self, now: Array, simulation: str, context: Context) -> Array:
        """Return the time that all simulations have passed, at each frame."""
        # The engine names those that are known and have not finished.
        alive = context.simulations or tuple(self._clocks)
        others = {name: self._clocks.get(name, -np.inf) for name in alive if name != simulation}
        if len({*self._clocks, *others, simulation}) < self.members:
            return np.full(len(now), -np.inf)
        foremost = np.maximum(now, max(others.values(), default=-np.inf))
        waited = foremost - self.patience
        passed = np.where(now >= waited, now, np.inf)
        for theirs in others.values():
            known = theirs if theirs > -np.inf else self.spans.origin
            awaited = (known >= waited) | np.isinf(self.patience)
            passed = np.where(awaited, np.minimum(passed, theirs), passed)
        return passed

    def save(self) -> dict[str, Any]:
        """Return the state."""
        return {**super().save(), "clocks": dict(self._clocks), "bound": self._bound}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up a state."""
        super().restore(state)
        self._clocks = {name: float(value) for name, value in state["clocks"].items()}
        self._bound = int(state["bound"])
