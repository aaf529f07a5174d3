"""MDAnalysis's standard analyses over a simulation that still runs.

Their own ``run()`` needs to know the number of frames, which nobody does while the simulation
runs. `run_analysis` gives them one frame after the other as they come::

    u = mda.Universe("topol.psf", "headrace://127.0.0.1:5555/villin")
    rmsd, rmsf = RMSD(u, select="backbone"), RMSF(u.select_atoms("name CA"))
    run_analysis(rmsd, rmsf)                     # returns when the simulation has ended
    print(rmsd.results.rmsd[-1], rmsf.results.rmsf)

For results so far, at any frame::

    run = AnalysisRun(rmsd, rmsf)
    for ts in run:
        if run.n_frames % 100 == 0:
            print(ts.time, run.so_far(rmsf).results.rmsf.max())

After the end, results are the same, to the bit, as those of ``run()`` over the finished stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from bridge.errors import ConfigError, MissingExtra
from sim_adapters.mdanalysis_growth import GrowingAnalysis

try:
    from MDAnalysis.coordinates import base
except ImportError as error:
    raise MissingExtra("MDAnalysis", "mdanalysis", "analysing streams with MDAnalysis") from error

__all__ = ["AnalysisRun", "run_analysis"]

_ONE_WAY: Any = getattr(base, "StreamReaderBase", ())
"""MDAnalysis's own readers of streams, which can go forward only (from version 2.10 on)."""


class AnalysisRun:
    """Analyses that are given frames as they come; iterate over it.

    Parameters
    ----------
    *analyses
        Objects of classes derived from `MDAnalysis.analysis.base.AnalysisBase`, all over the same
        trajectory, which may be one of a stream, of `HeadraceReader` or of anybody else.
    start, stop, step
        Which frames to analyse; without `stop`, all until the simulation ends.

    Raises
    ------
    ConfigError
        If an analysis needs to know the number of frames, or they have several trajectories.
    """

    def __init__(
        self, *analyses: Any, start: int = 0, stop: int | None = None, step: int = 1
    ) -> None:
        if not analyses:
            raise ConfigError("There is nothing to run; name at least one analysis.")
        if start < 0 or step < 1 or (stop is not None and stop < 0):
            raise ConfigError(
                f"Frames from {start} to {stop} in steps of {step} cannot be followed; 'start' and "
                "'stop' must not be negative, and 'step' at least 1."
            )
        self._frames = (start, stop, step)
        self._growing = {id(a): GrowingAnalysis(a, start=start, step=step) for a in analyses}
        trajectories = {id(a._trajectory): a._trajectory for a in analyses}
        if len(trajectories) > 1:
            raise ConfigError(
                "The analyses have different trajectories; make them from one Universe."
            )
        self.trajectory = next(iter(trajectories.values()))
        self.n_frames = 0
        self._concluded = False

    def __iter__(self) -> Iterator[Any]:
        """Analyse frame after frame, yielding each one's Timestep after it was analysed.

        The analyses are concluded after the last frame, or by `conclude`.
        """
        if self.n_frames or self._concluded:
            raise ConfigError("These analyses have been run already; make new ones.")
        for timestep in self._follow():
            kept = _keep(timestep)
            for growing in self._growing.values():
                growing.take(timestep)
                # Some superimpose the frame where it is; the next one must not see that.
                _bring_back(timestep, kept)
            self.n_frames += 1
            yield timestep
            for growing in self._growing.values():
                growing.make_room()
        self.conclude()

    def so_far(self, analysis: Any) -> Any:
        """Return a copy of one of the analyses, concluded as if no more frames came.

        Raises
        ------
        ConfigError
            If no frame has come yet, or the analysis writes files.
        """
        try:
            growing = self._growing[id(analysis)]
        except KeyError:
            raise ConfigError(
                f"This {type(analysis).__name__} is not among those that are run."
            ) from None
        if self._concluded:
            return growing.analysis
        present = self.trajectory.ts.frame
        self._rewind()
        try:
            return growing.so_far()
        finally:
            if not isinstance(self.trajectory, _ONE_WAY):
                self.trajectory[present]

    def conclude(self) -> None:
        """Finish the analyses with the frames that came; more than once does no harm."""
        if self._concluded:
            return
        self._concluded = True
        start, _, step = self._frames
        frames = None
        if _find_length(self.trajectory) is not None:
            end = start + max(0, self.n_frames - 1) * step + (self.n_frames > 0)
            frames = self.trajectory[start:end:step]
        self._rewind()
        for growing in self._growing.values():
            growing.conclude(frames)

    def _rewind(self) -> None:
        # An analysis is concluded at the first frame, as by its own run(); some look at it.
        if not isinstance(self.trajectory, _ONE_WAY):
            self.trajectory.rewind()

    def _follow(self) -> Iterator[Any]:
        start, stop, step = self._frames
        if isinstance(self.trajectory, _ONE_WAY):
            for number, timestep in enumerate(self.trajectory):
                if stop is not None and number >= stop:
                    return
                if number >= start and (number - start) % step == 0:
                    yield timestep
            return
        # By number, since an analysis may look at another frame in between.
        number = start
        while stop is None or number < stop:
            try:
                timestep = self.trajectory[number]
            except IndexError:
                return
            yield timestep
            number += step


def run_analysis(
    *analyses: Any,
    start: int = 0,
    stop: int | None = None,
    step: int = 1,
    every: int = 0,
    report: Callable[[AnalysisRun], object] | None = None,
) -> AnalysisRun:
    """Run analyses over a stream until the simulation ends, and conclude them.

    Parameters
    ----------
    *analyses, start, stop, step
        See `AnalysisRun`.
    every
        Analysed frames between two calls of `report`.
    report
        Called with the run, whose `AnalysisRun.so_far` gives the results so far.

    Returns
    -------
    AnalysisRun
        The run; results are in the analyses, as after their own ``run()``.

    Raises
    ------
    ConfigError
        If an analysis needs to know the number of frames; the message names it.
    StagingError
        If a frame does not come within the trajectory's ``patience``. The run can be concluded
        with what came.
    """
    run = AnalysisRun(*analyses, start=start, stop=stop, step=step)
    for _ in run:
        if report is not None and every and run.n_frames % every == 0:
            report(run)
    return run


def _keep(timestep: Any) -> dict[str, Any]:
    names = [n for n in ("positions", "velocities", "forces") if getattr(timestep, f"has_{n}")]
    return {n: getattr(timestep, n).copy() for n in names} | {"dimensions": timestep.dimensions}


def _bring_back(timestep: Any, kept: dict[str, Any]) -> None:
    for name, value in kept.items():
        setattr(timestep, name, value)


def _find_length(trajectory: Any) -> int | None:
    try:
        return len(trajectory)
    except RuntimeError:
        return None
