"""Windows that are open, those that closed and wait for a row, and the frames that came late."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from analytics.features.inputs import check_finite, output_name
from analytics.statistics.moments import input_columns
from analytics.windows.reductions import Accumulator, check_reductions
from analytics.windows.spans import Spans
from bridge.errors import ConfigError, PipelineError, SchemaError
from bridge.frames import FrameBatch
from bridge.pipeline import Context, Operator

__all__ = ["Clock", "Windowed"]

Array = npt.NDArray[Any]
Clock = Literal["time", "step"]

# So many windows that wait for rows mean that windows begin more often than frames come.
_MOST_WAITING = 10_000
# What an event about an unfinished window may carry of each column.
_MOST_TOLD = 64


class Windowed(Operator):
    """What windows of one simulation, and of all, share: parameters, open windows, rows given.

    Attributes
    ----------
    late
        Frames so far that came after a window of theirs had closed.
    """

    def __init__(
        self,
        *,
        size: float,
        slide: float | None = None,
        by: Clock = "time",
        origin: float = 0.0,
        input: str | Sequence[str] = (),
        reductions: str | Sequence[str] = "mean",
        weights: str = "",
        lateness: float = 0.0,
        output: str = "window",
    ) -> None:
        if by not in ("time", "step"):
            raise ConfigError(f"The parameter 'by' is {by!r}; it must be 'time' or 'step'.")
        if isinstance(lateness, bool) or not 0.0 <= lateness < np.inf:
            raise ConfigError(
                f"The parameter 'lateness' is {lateness!r}; it must be finite and not negative."
            )
        self.spans = Spans(size, slide, origin)
        self.by: Clock = by
        self.input = input_columns(input) if input else ()
        self.reductions = check_reductions(reductions)
        self.weights = weights
        self.lateness = float(lateness)
        self.output = output_name(output)
        self.late = 0
        self._open: dict[int, dict[str, Accumulator]] = {}
        self._counts: dict[int, tuple[int, float]] = {}
        self._waiting: list[dict[str, Any]] = []

    def reads(self) -> tuple[str, ...]:
        """Return the columns that `process` reads."""
        return (*self.input, self.weights) if self.weights else self.input

    # ------------------------------------------------------------ for both kinds

    def column_units(self, inputs: Mapping[str, str]) -> Mapping[str, str]:
        """Return the unit of each column for what is of its kind, and its square for variances."""
        out = {}
        for name in self.input:
            unit = inputs.get(name, "")
            for reduction in self.reductions if unit else ():
                out[f"{reduction}_{name}"] = f"({unit})²" if reduction == "var" else unit
        return out

    def _clock(self, batch: FrameBatch) -> npt.NDArray[np.float64]:
        """Return when each frame is, by the clock that was chosen."""
        return batch.times if self.by == "time" else batch.steps.astype(np.float64)

    def _columns(self, batch: FrameBatch) -> tuple[dict[str, Array], Array | None]:
        """Return the columns and weights, checked."""
        name = type(self).__name__
        columns = {}
        for key in self.input:
            column = batch[key]
            if column.dtype.kind not in "fiub":
                raise SchemaError(
                    f"{name} needs real numbers in the column {key!r}; {batch.simulation!r} sends "
                    f"dtype {column.dtype}."
                )
            if column.dtype.kind == "f":
                check_finite(column, batch, name, f"the column {key!r}")
            columns[key] = column
        if not self.weights:
            return columns, None
        weights = batch[self.weights].reshape(len(batch), -1).astype(np.float64)
        if weights.shape[1] != 1 or not (np.isfinite(weights) & (weights >= 0)).all():
            raise SchemaError(
                f"{name} needs one weight for each frame, finite and not negative, in the column "
                f"{self.weights!r} of {batch.simulation!r}."
            )
        return columns, weights[:, 0]

    def _gather(
        self,
        batch: FrameBatch,
        clock: npt.NDArray[np.float64],
        bounds: npt.NDArray[np.int64],
        context: Context,
        start: int,
        stop: int,
        data: tuple[dict[str, Array], Array | None],
        closed: list[tuple[int, dict[str, Any]]],
    ) -> None:
        """Take up the rows from `start` to `stop`, and close windows below each row's bound.

        `closed` takes the row at which a window appears, and what it came to.
        """
        columns, weights = data
        first, last = self.spans.first(clock), self.spans.last(clock)
        change = (np.diff(first) != 0) | (np.diff(last) != 0) | (np.diff(bounds) != 0)
        # Late frames are told one by one.
        change |= (first < bounds)[1:] | (first < bounds)[:-1]
        cuts = [start, *(np.flatnonzero(change) + 1 + start).tolist(), stop]
        for begin, end in pairwise(cuts):
            bound = int(bounds[begin - start])
            self._close(bound)
            rows = slice(begin, end)
            if first[begin - start] < bound:
                self._tell_late(batch, begin, context)
            lowest = max(bound, int(first[begin - start]))
            for number in range(lowest, int(last[begin - start]) + 1):
                self._add(number, {k: v[rows] for k, v in columns.items()}, weights, rows)
            for row in range(begin, min(end, begin + len(self._waiting))):
                closed.append((row, {**self._waiting.pop(0), "late": self.late}))

    def _rows(self, batch: FrameBatch, closed: list[tuple[int, dict[str, Any]]]) -> FrameBatch:
        """Return the rows at which windows appear, with what they came to."""
        out = batch.take(np.array([row for row, _ in closed]))
        columns = {}
        for key in closed[0][1]:
            name = key if key.startswith("=") else f"={self.output}_{key}"
            columns[name[1:]] = np.stack([values[key] for _, values in closed])
        return out.with_columns(columns)

    def _close(self, bound: int) -> None:
        """Close all windows below a number, in their order."""
        for number in sorted(n for n in self._open if n < bound):
            self._waiting.append(self._result(number))
            del self._open[number], self._counts[number]
        if len(self._waiting) > _MOST_WAITING:
            raise PipelineError(
                f"{type(self).__name__} has {len(self._waiting)} closed windows that wait for "
                "frames to be told with, since windows begin more often than frames come; choose "
                f"a 'slide' longer than {self.spans.slide}."
            )

    def _add(
        self, number: int, columns: dict[str, Array], weights: Array | None, rows: slice
    ) -> None:
        window = self._open.get(number)
        if window is None:
            window = {name: Accumulator(self.reductions) for name in self.input}
            self._open[number], self._counts[number] = window, (0, 0.0)
        mine = None if weights is None else weights[rows]
        count, weight = self._counts[number]
        if mine is None:
            weight += rows.stop - rows.start
        else:
            for value in mine.tolist():
                weight += value
        self._counts[number] = count + rows.stop - rows.start, weight
        for name, accumulator in window.items():
            accumulator.add(columns[name], mine)

    def _result(self, number: int) -> dict[str, Any]:
        start, end = self.spans.bounds(number)
        count, weight = self._counts[number]
        out: dict[str, Any] = {
            "start": np.float64(start),
            "end": np.float64(end),
            "count": np.int64(count),
        }
        if self.weights:
            out["weight"] = np.float64(weight)
        for name, accumulator in self._open[number].items():
            for reduction, value in accumulator.result(weight).items():
                # The sign keeps these apart from the names that get the operator's own before them.
                out[f"={reduction}_{name}"] = value
        return out

    def _tell_late(self, batch: FrameBatch, row: int, context: Context) -> None:
        self.late += 1
        if 10 ** (len(str(self.late)) - 1) == self.late:
            context.event(
                "late_frames",
                f"{self.late} frames came after a window of theirs had closed, the last at "
                f"offset {batch.offsets[row]} of {batch.simulation!r}; they are left out of "
                "it. A greater 'lateness' waits longer.",
                level="warning",
                count=self.late,
                offset=int(batch.offsets[row]),
            )

    # ----------------------------------------------------------------- the end

    def finish(self, context: Context) -> None:
        """Tell of the windows that no row told of: closed ones, and those that were open."""
        left = [(True, values) for values in self._waiting]
        left += [(False, self._result(number)) for number in sorted(self._open)]
        for whole, values in left:
            data: dict[str, Any] = {}
            for key, value in values.items():
                if np.size(value) <= _MOST_TOLD:
                    data[key.removeprefix("=")] = np.asarray(value).tolist()
            context.event(
                "last_window",
                f"The window from {values['start']:g} to {values['end']:g} "
                f"{'closed' if whole else 'was still open'} when the stream ended; it has "
                f"{values['count']} frames.",
                closed=whole,
                **data,
            )
        if self.late:
            context.event(
                "late_frames",
                f"{self.late} frames in all came after a window of theirs had closed.",
                level="warning",
                count=self.late,
            )

    # ------------------------------------------------------------------- state

    def save(self) -> dict[str, Any]:
        """Return the open windows, and those that wait."""
        state: dict[str, Any] = {
            "late": self.late,
            "waiting": len(self._waiting),
            "open": [[n, *self._counts[n]] for n in self._open],
        }
        for place, values in enumerate(self._waiting):
            state |= {f"w{place}/{key}": np.asarray(value) for key, value in values.items()}
        for number, window in self._open.items():
            for name, accumulator in window.items():
                saved = accumulator.save()
                state |= {f"o{number}/{name}/{key}": value for key, value in saved.items()}
        return state

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up a state."""
        self.late = int(state["late"])
        parts: dict[str, dict[str, Array]] = {}
        for path, value in state.items():
            head, _, key = path.rpartition("/")
            if head:
                parts.setdefault(head, {})[key] = value
        self._waiting = [
            {key: value[()] for key, value in parts[f"w{place}"].items()}
            for place in range(int(state["waiting"]))
        ]
        self._counts = {int(n): (int(count), float(weight)) for n, count, weight in state["open"]}
        self._open = {
            number: {
                name: Accumulator(self.reductions, parts.get(f"o{number}/{name}"))
                for name in self.input
            }
            for number in self._counts
        }
