"""Where a run is read from: its stager, wherever that listens at present."""

from __future__ import annotations

from collections.abc import Callable

from bridge.dashboard.about import About
from bridge.runs.directory import RunDirectory
from bridge.runs.keyfiles import client_keys
from bridge.staging.client_like import ClientLike
from bridge.staging.rendezvous import find
from bridge.staging.spread import connect

__all__ = ["make_connect"]

PATIENCE = 10.0
"""Seconds that a request may take."""


def make_connect(
    run: RunDirectory | None, address: str | None, keys: str, about: About
) -> Callable[[], ClientLike]:
    """Return what makes a client to the stager of a run, as often as it is needed.

    Parameters
    ----------
    run, address
        Folder of the run, in which its stager says where it listens; or the address itself.
    keys
        Folder of key files, instead of those of the run.
    about
        Of the run.
    """

    def reach() -> ClientLike:
        where = address
        if not where:
            assert run is not None
            # Without an environment: a stager that somebody else announced is not ours.
            where = find(None, run.path, timeout=0.0, environment={}).address
            about.refresh()
        return connect(
            where, name="dashboard", keys=client_keys(keys or about.keys), timeout=PATIENCE
        )

    return reach
