"""Verbs of the command line that other packages and distributions bring.

Such a verb is an entry point in the group ``headrace.verbs``: its name is the verb, its object a
module with what `ContributedVerb` lists. To show ``headrace --help``, the modules of all verbs are
imported: they must be light, and import what is heavy in `execute` alone, within
`bridge.extras.needs`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from bridge.commands import Event
    from bridge.frames import FrameBatch

__all__ = ["GROUP", "ContributedVerb", "Services"]

GROUP = "headrace.verbs"
"""Group of entry points: verb to module."""


class Services(Protocol):
    """What the command line does for a verb, which itself need not know staging.

    `where` is the folder of a run, or the address of a stager; `keys` a folder of keys, for an
    address with keys.
    """

    def tell(self, where: str, event: Event, *, keys: str = "") -> None:
        """Put an event into the log; stored when this returns.

        Raises
        ------
        ConfigError
            If there is no such run, or it has ended and kept nothing.
        TransportError
            If the stager does not answer.
        """
        ...

    def read(
        self, where: str, topic: str, *, columns: Sequence[str] = (), last: int = 0, keys: str = ""
    ) -> Iterator[FrameBatch]:
        """Yield the frames, or results, that a topic holds, in order; they are the caller's own.

        Parameters
        ----------
        where, keys
            See above.
        topic
            Such as ``frames/NAME`` or ``results/PIPELINE/NAME``.
        columns
            Read these alone; all by default.
        last
            At most so many, the newest; 0 for all.

        Raises
        ------
        ConfigError
            If there is no such run, topic or column.
        TransportError
            If the stager does not answer.
        """
        ...


class ContributedVerb(Protocol):
    """What the module of a verb has."""

    HELP: str
    """What the verb does: one line, without a capital or a full stop."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the arguments; ``--json`` is added by the caller."""
        ...

    def execute(self, arguments: argparse.Namespace, services: Services) -> int:
        """Do it, and return the exit code: 0 for done, 1 for failed."""
        ...
