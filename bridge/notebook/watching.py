"""`watch`: from the name of a run to something that Jupyter shows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bridge.dashboard.feed import Feed, open_feed
from bridge.errors import ConfigError
from bridge.extras import needs
from bridge.notebook.pump import Pump, Question
from bridge.runs.directory import RunDirectory

if TYPE_CHECKING:
    from bridge.notebook.widget import LiveView

__all__ = ["watch"]


def watch(
    run: str | os.PathLike[str] | RunDirectory | Feed,
    *,
    x: str = "",
    y: str = "",
    colour: str = "time",
    series: Sequence[str] = (),
    simulations: Sequence[str] | None = None,
    pipeline: str = "",
    every: float = 0.5,
    seconds: float = 12 * 3600.0,
    points: int = 20_000,
    rows: int = 1000,
) -> LiveView:
    """Show a run below the cell, and go on showing what is new while other cells are run.

    Returns at once. One thread reads; at most one message is under way to the browser, so a slow
    one sees fewer pictures, never old ones. The thread ends by itself when the run is over, after
    `seconds`, on `LiveView.stop`, when the widget is closed, and with the kernel; the last picture
    stays.

    Parameters
    ----------
    run
        Folder of a run (live or over), address of a stager such as ``tcp://127.0.0.1:5555``, or a
        feed that is open already, which is then left open.
    x, y
        Columns of the reduced space, such as ``"tica[0]"``; the run's own where left out.
    colour
        Column of the colour; ``time``, ``wall``, ``step``, ``simulation`` and ``epoch`` are known.
    series
        Columns over simulated time; the first scalar result where left out.
    simulations
        Of these alone.
    pipeline
        Whose results, at the address of a stager; found where there is one only.
    every
        Seconds between two pictures at least.
    seconds
        Time limit of following the run.
    points, rows
        Points of the reduced space, and rows of one series, at most; more are thinned out, and the
        picture says so.

    Raises
    ------
    ConfigError
        If there is no such run, or a limit makes no sense.
    MissingExtra
        If anywidget is not installed.
    """
    with needs("notebook", "showing a run in Jupyter"):
        from bridge.notebook.widget import LiveView
    question = Question(
        x=x, y=y, colour=colour, series=tuple(series), points=points, rows=rows,
        simulations=None if simulations is None else tuple(simulations),
    )  # fmt: skip
    if isinstance(run, RunDirectory):
        feed = open_feed(run, pipeline=pipeline or None)
    elif not isinstance(run, str | os.PathLike):
        # A feed, or what a dashboard has made of one.
        return LiveView(Pump(run, question, every=every, seconds=seconds))
    elif "://" in os.fspath(run):
        feed = open_feed(address=os.fspath(run), pipeline=pipeline or None)
    else:
        path = Path(run)
        if not path.is_dir():
            raise ConfigError(
                f"{path} is not the folder of a run: there is no such folder. Name the folder that "
                "headrace run printed, or the address of a stager (tcp://...)."
            )
        feed = open_feed(RunDirectory(path), pipeline=pipeline or None)
    try:
        return LiveView(Pump(feed, question, every=every, seconds=seconds, owns=True))
    except BaseException:
        feed.close()
        raise
