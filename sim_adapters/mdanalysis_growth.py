"""An analysis of MDAnalysis whose arrays grow, because nobody knows how many frames will come.

Many analyses allocate an array with a row for each frame before the first one. Which arrays those
are is found out by preparing copies for different numbers of frames and comparing what they hold.
Everything else then goes on as MDAnalysis does it: one frame after the other, in order, with the
analysis's own methods, so that the results are the same to the bit.
"""

from __future__ import annotations

import math
from collections import UserDict
from collections.abc import Iterator
from typing import Any, NoReturn

import numpy as np

from bridge.errors import ConfigError, MissingExtra
from sim_adapters.mdanalysis_copies import duplicate, is_shared, writes_files

try:
    from MDAnalysis.analysis.base import AnalysisBase
except ImportError as error:
    raise MissingExtra("MDAnalysis", "mdanalysis", "analysing streams with MDAnalysis") from error

__all__ = ["GrowingAnalysis"]

_PROBES = (2, 37)
"""Numbers of frames for which copies are prepared and compared."""
_FIRST = 32
"""Frames that there is room for at first; doubled whenever it is used up."""
_OURS = frozenset(
    ("n_frames", "frames", "times", "start", "stop", "step", "_trajectory", "_sliced_trajectory")
)

Path = tuple[tuple[str, Any], ...]
"""How to come to a value from an analysis: attributes and items."""


class _LengthNeeded(Exception):
    """An analysis computed with the number of frames, or asked for frames to come."""


class _Count(int):
    """A number of frames that may be used for shapes and loops, and for no arithmetic."""

    def _refuse(self, *_: Any) -> NoReturn:
        raise _LengthNeeded("it computes with the number of frames before they have come")

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = _refuse
    __floordiv__ = __rfloordiv__ = __truediv__ = __rtruediv__ = _refuse
    __mod__ = __rmod__ = __pow__ = __rpow__ = _refuse


class _Ahead:
    """Stands for the frames to be analysed while they have not come."""

    def __init__(self, trajectory: Any, start: int) -> None:
        self.trajectory = trajectory
        self._start = start

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, int) and index == 0:
            return self.trajectory[self._start]
        raise _LengthNeeded("it looks at other frames than the present one")

    def __iter__(self) -> Iterator[Any]:
        raise _LengthNeeded("it goes through the frames more than once")

    def __len__(self) -> int:
        raise _LengthNeeded("it asks for the number of frames")


class GrowingAnalysis:
    """Drives one analysis, frame by frame.

    Parameters
    ----------
    analysis
        Any `MDAnalysis.analysis.base.AnalysisBase` that was not run yet.
    start, step
        Of the frames that it will be given, for its attributes of these names.

    Raises
    ------
    ConfigError
        If it needs to know the number of frames; the message names it and says why.
    """

    def __init__(self, analysis: Any, *, start: int = 0, step: int = 1) -> None:
        if not isinstance(analysis, AnalysisBase):
            raise ConfigError(f"{type(analysis).__name__} is no AnalysisBase of MDAnalysis.")
        self.analysis = analysis
        self.count = 0
        self._start, self._step = start, step
        self._capacity = _FIRST
        if type(analysis).run is not AnalysisBase.run:
            self._refuse("it has a run() of its own")
        self._pristine = duplicate(analysis)
        one, two, again = (
            self._prepared(duplicate(self._pristine), n) for n in (*_PROBES, _PROBES[0])
        )
        self._probe = one
        self._places: list[tuple[Path, int]] = []
        self._seen: set[int] = set()
        self._compare(vars(one), vars(two), vars(again), ())
        del self._probe
        self._prepared(analysis, _FIRST)
        # What a frame does with these would be wrong: they are known at the end.
        del analysis.n_frames, analysis.stop

    # ------------------------------------------------------------------ frames

    def take(self, timestep: Any) -> None:
        """Analyse a frame, the one at which the trajectory stands."""
        analysis, index = self.analysis, self.count
        analysis._frame_index, analysis._ts = index, timestep
        analysis.frames[index], analysis.times[index] = timestep.frame, timestep.time
        try:
            analysis._single_frame()
        except _LengthNeeded as error:
            self._refuse(str(error), error)
        except AttributeError as error:
            if error.obj is analysis and error.name in ("n_frames", "stop"):
                self._refuse("it computes with the number of frames at each frame", error)
            raise
        self.count = index + 1

    def make_room(self) -> None:
        """Make room for one more frame; may move the trajectory, so that it comes between two."""
        if self.count < self._capacity:
            return
        self._capacity *= 2
        larger = self._prepared(duplicate(self._pristine), self._capacity)
        for path, axis in (*self._places, *(((("attribute", n),), 0) for n in ("frames", "times"))):
            old, new = _get(self.analysis, path), _get(larger, path)
            if isinstance(new, list):
                new[: len(old)] = old
            else:
                new[(slice(None),) * axis + (slice(0, old.shape[axis]),)] = old
            _set(self.analysis, path, new)

    # ----------------------------------------------------------------- results

    def so_far(self) -> Any:
        """Return a copy of the analysis as if the present frame were the last one."""
        if writes_files(self.analysis):
            raise ConfigError(
                f"{type(self.analysis).__name__} writes a file, so that it has no results before "
                "the last frame."
            )
        if not self.count:
            raise ConfigError(f"{type(self.analysis).__name__} has no results: no frame has come.")
        return self._concluded(duplicate(self.analysis), self.analysis._sliced_trajectory)

    def conclude(self, frames: Any = None) -> None:
        """Finish the analysis after the last frame.

        Parameters
        ----------
        frames
            The frames that were analysed, where the trajectory can tell.
        """
        ahead = self.analysis._sliced_trajectory
        self._concluded(self.analysis, ahead if frames is None else frames)

    def _concluded(self, analysis: Any, frames: Any) -> Any:
        n = self.count
        for path, axis in (*self._places, *(((("attribute", n),), 0) for n in ("frames", "times"))):
            value = _get(analysis, path)
            if isinstance(value, list):
                _set(analysis, path, value[:n])
            else:
                rows = (slice(None),) * axis + (slice(0, n),)
                _set(analysis, path, value[rows].copy(order="K"))
        analysis.n_frames = n
        analysis.stop = self._start + max(0, n - 1) * self._step + (n > 0)
        analysis._sliced_trajectory = frames
        try:
            analysis._conclude()
        except _LengthNeeded as error:
            self._refuse(str(error), error)
        return analysis

    # --------------------------------------------------------------- preparing

    def _prepared(self, analysis: Any, count: int) -> Any:
        """Prepare an analysis for so many frames, as its `run` would."""
        trajectory = analysis._trajectory
        analysis.start, analysis.step = self._start, self._step
        analysis.n_frames = _Count(count)
        analysis.stop = _Count(self._start + count * self._step)
        analysis.frames, analysis.times = np.zeros(count, int), np.zeros(count)
        analysis._sliced_trajectory = _Ahead(trajectory, self._start)
        try:
            analysis._prepare()
        except _LengthNeeded as error:
            self._refuse(str(error), error)
        except (RuntimeError, TypeError) as error:
            # What a reader says whose length is unknown, or that cannot go back.
            self._refuse(f"it cannot be prepared ({str(error).rstrip('.')})", error)
        return analysis

    def _refuse(self, why: str, error: BaseException | None = None) -> NoReturn:
        raise ConfigError(
            f"{type(self.analysis).__name__} cannot be run while the number of frames is unknown: "
            f"{why}. Run it with its own run() when the simulation has ended, or over what is "
            "there, with so_far=True."
        ) from error

    def _compare(self, one: Any, two: Any, again: Any, path: Path) -> None:
        """Find what has an entry for each frame; refuse whatever else depends on their number.

        `again` was prepared as `one` was: what differs there is random, or was never set.
        """
        few, many = _PROBES
        if one is two or id(one) in self._seen:
            return
        where = _describe(path)
        if type(one) is not type(two):
            self._refuse(f"the type of its {where} depends on it")
        if isinstance(one, np.ndarray):
            if one.shape != two.shape:
                differ = [
                    i for i, s in enumerate(zip(one.shape, two.shape, strict=False)) if s[0] != s[1]
                ]
                fits = one.ndim == two.ndim and len(differ) == 1
                if not fits or (one.shape[differ[0]], two.shape[differ[0]]) != (few, many):
                    self._refuse(
                        f"its {where} has shape {one.shape} for {few} frames and {two.shape} for "
                        f"{many}"
                    )
                self._grows(path, differ[0])
            elif not _same(one, two) and _same(one, again):
                self._refuse(f"its {where} depends on it")
        elif isinstance(one, bool | int | float | complex | str | bytes | np.generic):
            if not _same(one, two) and _same(one, again):
                self._refuse(f"its {where} is {one!r} for {few} frames and {two!r} for {many}")
        elif isinstance(one, list | tuple):
            if isinstance(one, list) and (len(one), len(two)) == _PROBES:
                self._grows(path, 0)
            elif len(one) != len(two):
                self._refuse(f"its {where} has {len(one)} and {len(two)} items")
            else:
                for i, (a, b, c) in enumerate(zip(one, two, again, strict=True)):
                    self._compare(a, b, c, (*path, ("item", i)))
        elif isinstance(one, dict | UserDict):
            if set(one) != set(two):
                self._refuse(f"its {where} has other entries")
            kind = "attribute" if not path else "item"
            for name in one:
                if path or name not in _OURS:
                    self._compare(one[name], two[name], again[name], (*path, (kind, name)))
        elif not is_shared(one) and hasattr(one, "__dict__"):
            self._seen.add(id(one))
            for name, value in vars(one).items():
                others = vars(two).get(name), vars(again).get(name)
                self._compare(value, *others, (*path, ("attribute", name)))

    def _grows(self, path: Path, axis: int) -> None:
        if any(isinstance(_get(self._probe, path[:i]), tuple) for i in range(1, len(path))):
            self._refuse(f"its {_describe(path)} cannot grow")
        self._places.append((path, axis))


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray):
        if one.dtype.kind == "O":
            return True
        return one.shape == other.shape and np.array_equal(
            one, other, equal_nan=one.dtype.kind in "fc"
        )
    if isinstance(one, float | np.floating) and math.isnan(one):
        return math.isnan(other)
    return bool(one == other)


def _describe(path: Path) -> str:
    text = ""
    for kind, name in path:
        text += f".{name}" if kind == "attribute" else f"[{name!r}]"
    return text.removeprefix(".")


def _get(value: Any, path: Path) -> Any:
    for kind, name in path:
        value = getattr(value, name) if kind == "attribute" else value[name]
    return value


def _set(value: Any, path: Path, new: Any) -> None:
    holder = _get(value, path[:-1])
    kind, name = path[-1]
    if kind == "attribute":
        setattr(holder, name, new)
    else:
        holder[name] = new
