"""Guards that have something to do between two commands, and when they do it."""

from __future__ import annotations

import logging
import time
from typing import Protocol, runtime_checkable

from bridge.engines.protocol import Guard
from bridge.errors import ConfigError, HeadraceError

__all__ = ["Keeping", "KeepingGuard"]

log = logging.getLogger(__name__)

EVERY = 0.5
"""Seconds between two times that a keeper is called."""


@runtime_checkable
class KeepingGuard(Protocol):
    """A guard that carries out what people say of commands that wait for them."""

    def keep(self) -> None:
        """Carry out what was said, and what is due."""
        ...

    def conclude(self, pipeline: str) -> None:
        """Find an end for whatever the pipeline asked people about: its job has ended."""
        ...


class Keeping:
    """Lets a guard do its part, where it is a `KeepingGuard`; nothing of that ends an engine.

    Parameters
    ----------
    guard
        The guard.
    pipeline
        Name of the pipeline that it guards.

    Raises
    ------
    ConfigError
        If the guard has people asked, and nobody would carry out what they say.
    """

    def __init__(self, guard: Guard, pipeline: str) -> None:
        asks = getattr(guard, "unkept", ())
        if asks:
            raise ConfigError(
                f"The rules of the pipeline {pipeline!r} have people asked before "
                f"{', '.join(map(repr, asks))}, and its guard carries out neither what they say "
                "nor what holds if nobody does. Make the guard with bridge.steering.KeeperMaker; "
                "or say kept=True where a run, a dashboard or a desk of yours does that."
            )
        self._keeper = guard if isinstance(guard, KeepingGuard) else None
        self._pipeline = pipeline
        self._due = 0.0

    def look_after(self) -> None:
        """Carry out what is due, twice a second."""
        if self._keeper is None or time.monotonic() < self._due:
            return
        try:
            self._keeper.keep()
        except HeadraceError as error:
            log.warning("Commands that wait for approval are left alone for now: %s", error)
        self._due = time.monotonic() + EVERY

    def conclude(self) -> None:
        """End what waits: the job has."""
        if self._keeper is None:
            return
        try:
            self._keeper.conclude(self._pipeline)
        except HeadraceError as error:
            log.warning("Commands that wait for approval are left alone: %s", error)
