"""Windows over one simulation's frames."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from analytics.windows.gathering import Windowed
from bridge.frames import FrameBatch
from bridge.pipeline import Context, KeyedOperator

__all__ = ["Window"]


class Window(Windowed, KeyedOperator):
    """Reduce columns over windows of simulated time, or of steps, of each simulation.

    A window is over when a frame comes whose time is not less than the window's end plus
    `lateness`. The row of that frame is handed on with the window's numbers; all other rows end
    here. Where a frame ends several windows, the rows of the frames after it carry the others,
    one each. A window without frames is not told of. Windows that no row has told of when the
    stream ends are told as events, ``last_window``.

    **Late frames.** A frame that comes after a window of its own is over is left out of it (and
    counted, in ``<output>_late`` and by an event ``late_frames`` at the 1st, 10th, 100th …); those
    of its windows that are open take it up.

    **Restarts.** Where a new epoch begins and the clock has gone back by more than `lateness`, all
    windows are closed and begin anew, since this is another piece of trajectory; where the clock
    goes on, windows do, too.

    Parameters
    ----------
    size, slide, origin
        See `analytics.windows.spans.Spans`; in the unit of the frames' time, or in steps.
        Without `slide`, windows tile.
    by
        The clock: ``time`` or ``step``.
    input
        Column, or list of columns, to reduce; none to count frames alone.
    reductions
        One or several of ``sum``, ``mean``, ``var``, ``std``, ``min``, ``max``, ``first`` and
        ``last``, applied to each column. Sums of integers (such as the counts of a histogram) are
        exact. Frames are added in their order, so that results have the same bits however the
        stream is cut.
    weights
        Column of one weight for each frame, for sums, means and variances; empty for none.
    lateness
        How long after its end a window waits for frames.
    output
        Begin of the names of ``<output>_start`` and ``<output>_end`` (float64 of shape (n,)),
        ``<output>_count`` and ``<output>_late`` (int64: frames in the window, late frames so far)
        and, with weights, ``<output>_weight``. The others are ``<reduction>_<column>``.

    Raises
    ------
    ConfigError
        If a parameter is wrong.
    PipelineError
        If windows begin more often than frames come.
    SchemaError
        On a batch without fitting columns, or with a value that is not finite.
    """

    _now = -np.inf
    _epoch = 0

    def process(self, batch: FrameBatch, context: Context) -> FrameBatch | None:
        """Take up the frames, and hand on the rows that end windows."""
        if not len(batch):
            return None
        data = self._columns(batch)
        clock = self._clock(batch)
        closed: list[tuple[int, dict[str, Any]]] = []
        turns = (np.flatnonzero(np.diff(batch.epochs)) + 1).tolist()
        for start, stop in zip([0, *turns], [*turns, len(batch)], strict=True):
            part = clock[start:stop]
            epoch = int(batch.epochs[start])
            if epoch != self._epoch and part[0] < self._now - self.lateness:
                self._close(2**62)
                self._now = -np.inf
            self._epoch = epoch
            now = np.maximum.accumulate(np.maximum(part, self._now))
            bounds = self.spans.first(now - self.lateness)
            self._gather(batch, part, bounds, context, start, stop, data, closed)
            self._now = float(now[-1])
        return self._rows(batch, closed) if closed else None

    def save(self) -> dict[str, Any]:
        """Return the state."""
        return {**super().save(), "now": self._now, "epoch": self._epoch}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up a state."""
        super().restore(state)
        self._now, self._epoch = float(state["now"]), int(state["epoch"])
