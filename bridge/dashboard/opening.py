"""From a run's folder, or a stager's address, to a dashboard that only needs to be served."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bridge.dashboard.app import Dashboard
from bridge.dashboard.compared import ComparedFeed, open_compared
from bridge.dashboard.feed import Feed, open_feed
from bridge.dashboard.options import ServerOptions, make_context
from bridge.dashboard.security import find_token, make_token
from bridge.dashboard.sources import make_connect
from bridge.dashboard.stores.memory import Limits
from bridge.errors import ConfigError
from bridge.runs.dashboard_tables import DashboardTable
from bridge.runs.directory import RunDirectory
from bridge.runs.plan import Plan
from bridge.steering import Desk

__all__ = ["open_dashboard"]


def open_dashboard(
    run: Path | None,
    *,
    address: str | None = None,
    token: str = "",
    keys: str = "",
    pipeline: str | None = None,
    record: bool = False,
    limits: Limits | None = None,
    compare: Sequence[Path] = (),
    **served: Any,
) -> tuple[Dashboard, ServerOptions]:
    """Follow a run, and make what shows it.

    Parameters
    ----------
    run
        Folder of the run; None where there is only a stager.
    address
        Of that.
    token
        That of the run where it is left out, or a new one.
    keys
        Folder of key files, instead of those of the run.
    pipeline
        Its name, where there are several.
    record
        Write the recording of the run.
    limits
        How much is remembered.
    compare
        Folders of other runs, to lay their results over those of this one.
    **served
        See `ServerOptions`.

    Raises
    ------
    ConfigError
        If the folder is not that of a run, or an option is wrong.
    """
    table, rules = DashboardTable(), None
    directory = None if run is None else RunDirectory(run)
    if directory is not None:
        if not directory.resolved.is_file() and not (directory.path / "stager.json").is_file():
            raise ConfigError(
                f"{directory.path} is not the folder of a run: it has neither "
                f"{directory.resolved.name} nor a running stager."
            )
        if directory.resolved.is_file():
            plan = Plan.read(directory)
            # Those of the run hold from the first moment on, before its engine announces them.
            table, rules = plan.configuration.dashboard, plan.rules
        token = token or find_token(directory.path)
    of_the_run = {"alarms": table.alarms, "share": table.share}
    options = ServerOptions(**{**of_the_run, **served, "token": token or make_token()})
    if options.certificate:
        # Before anything is started.
        make_context(options.certificate, options.key)
    feed = open_feed(directory, address, pipeline, keys=keys, limits=limits, record=record)
    watched: Feed | ComparedFeed = feed
    try:
        if compare:
            watched = open_compared(feed, compare, limits=limits)
        connect = make_connect(directory, address, keys, feed.about)
        return Dashboard(watched, Desk(connect, rules), options), options
    except BaseException:
        watched.close()
        raise
