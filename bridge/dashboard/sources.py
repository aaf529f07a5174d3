"""Where a run is read from: its stager, wherever that listens at present, or what it left."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from pathlib import Path

from bridge.dashboard.about import About
from bridge.dashboard.follower import Follower
from bridge.dashboard.recording.index import INDEX, read_index
from bridge.dashboard.recording.pictures import Pictures
from bridge.dashboard.recording.reader import load_files, load_recording, take_up
from bridge.dashboard.stores.memory import Memory
from bridge.errors import ConfigError, HeadraceError, NobodyListening
from bridge.runs.directory import RunDirectory
from bridge.runs.keyfiles import client_keys
from bridge.staging.client import StagerClient
from bridge.staging.client_like import ClientLike
from bridge.staging.rendezvous import find
from bridge.staging.spread import connect
from bridge.staging.stager import Stager

__all__ = ["RECORDING", "find_pictures", "go_on", "make_connect", "restore"]

log = logging.getLogger(__name__)

RECORDING = "recording"
"""Folder of the recording in that of the run."""

PATIENCE = 10.0
"""Seconds that a request may take."""


def make_connect(
    run: RunDirectory | None,
    address: str | None,
    keys: str,
    about: About,
    *,
    recover: bool = False,
    patience: float = PATIENCE,
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
    recover
        Where the run is over, and its topics lie on disk: start a stager in this process to read
        them, which ends when the client is closed.
    patience
        Seconds that a request may take.
    """

    def reach() -> ClientLike:
        where = address
        if not where:
            assert run is not None
            try:
                # Without an environment: a stager that somebody else announced is not ours.
                where = find(None, run.path, timeout=0.0, environment={}).address
            except NobodyListening:
                if not (recover and run.topics.is_dir() and run.report.is_file()):
                    raise
                return _Recovered(run)
            about.refresh()
        return connect(
            where, name="dashboard", keys=client_keys(keys or about.keys), timeout=patience
        )

    return reach


def find_pictures(folder: Path) -> Pictures | None:
    """Return the frames that a recording has; None if there is none."""
    try:
        pictures = Pictures(folder, 0)
        pictures.load(read_index(folder)["pictures"])
    except ConfigError:
        return None
    return pictures


class _Recovered(StagerClient):
    """A client to the durable topics of a run that is over, for as long as it is open."""

    temporary = True

    def __init__(self, run: RunDirectory) -> None:
        where = f"memory://recorded-{secrets.token_hex(4)}"
        self._stager = Stager(where, directory=run.topics, durable=True).start()
        try:
            super().__init__(where, name="dashboard", timeout=PATIENCE)
        except BaseException:
            self._stager.stop()
            raise

    def close(self) -> None:
        """Close the connection, and stop the stager."""
        try:
            super().close()
        finally:
            self._stager.stop()


def go_on(run: RunDirectory, memory: Memory) -> None:
    """Take up the recording that a dashboard of this run has begun, if there is one."""
    folder = run.path / RECORDING
    if (folder / INDEX).is_file():
        try:
            take_up(folder, memory)
        except HeadraceError as error:
            log.warning("%s It is begun anew.", error)


def restore(run: RunDirectory, about: About, memory: Memory) -> Pictures | None:
    """Put a run that is over back into memory: from its recording, else from what it left.

    Nothing is done while it has a stager, and no report.

    Returns
    -------
    Pictures or None
        The frames that were recorded.
    """
    if not about.over and _has_stager(run):
        return None
    folder = run.path / RECORDING
    pictures = None
    try:
        if (folder / INDEX).is_file():
            pictures = load_recording(folder, memory)
            memory.restored = True
    except HeadraceError as error:
        log.warning("%s What the run left beside it is read instead.", error)
        memory.reset()
    if not memory.restored and about.over:
        if run.topics.is_dir() and not _has_stager(run):
            _read_topics(run, about, memory)
        else:
            load_files(about, memory)
        memory.restored = True
    return pictures


def _has_stager(run: RunDirectory) -> bool:
    try:
        find(None, run.path, timeout=0.0, environment={})
    except HeadraceError:
        return False
    return True


def _read_topics(run: RunDirectory, about: About, memory: Memory) -> None:
    """Read the durable topics of a run that is over, once."""
    follower = Follower(lambda: _Recovered(run), memory, pipeline=about.pipeline)
    try:
        follower.read_all()
    except HeadraceError as error:
        log.warning("The topics in %s cannot be read: %s", run.topics, error)
        memory.reset()
        load_files(about, memory)
