"""Reading a run from its folder: while its stager lives, and afterwards from what it left."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator

from bridge.errors import ConfigError, NobodyListening, TransportError
from bridge.runs.directory import RunDirectory
from bridge.runs.keyfiles import client_keys
from bridge.runs.plan import Plan
from bridge.staging.client import StagerClient
from bridge.staging.rendezvous import find
from bridge.staging.stager import Stager

__all__ = ["open_run"]


@contextlib.contextmanager
def open_run(directory: RunDirectory, *, timeout: float = 5.0) -> Iterator[StagerClient | None]:
    """Give a client to the topics of a run.

    Parameters
    ----------
    directory
        Folder of the run.
    timeout
        Time limit in seconds of each request.

    Yields
    ------
    client or None
        To the run's own stager while it lives; else, if the topics are durable, to one that is
        started in this process for as long; else None.

    Raises
    ------
    ConfigError
        If this is not the folder of a run, or another process has its topics open.
    """
    if not directory.path.is_dir():
        raise ConfigError(f"{directory.path} is not the folder of a run: there is no such folder.")
    live = _live(directory, timeout)
    if live is not None:
        with contextlib.closing(live):
            yield live
    elif directory.topics.is_dir():
        # In this process alone: nobody else is to find it.
        address = f"memory://recorded-{secrets.token_hex(4)}"
        stager = Stager(address, directory=directory.topics, durable=True).start()
        try:
            with contextlib.closing(StagerClient(stager.address, timeout=timeout)) as client:
                yield client
        finally:
            stager.stop()
    else:
        yield None


def _live(directory: RunDirectory, timeout: float) -> StagerClient | None:
    try:
        found = find(None, directory.path, timeout=0.0, environment={})
    except NobodyListening:
        return None
    folder = Plan.read(directory).key_folder if directory.resolved.is_file() else ""
    try:
        return StagerClient(
            found.address, name="inspect", keys=client_keys(folder), timeout=timeout
        )
    except NobodyListening as error:
        raise TransportError(f"The stager of {directory.path} does not answer: {error}") from error
