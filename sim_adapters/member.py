"""What `headrace run` needs of an adapter: which simulations there are, and how to run one.

A distribution registers an adapter class under the entry-point group ``headrace.adapters``; a run's
configuration names it by ``adapter = "…"`` in its ``[simulation]`` table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import xxhash

from bridge.staging.connection import Connection

__all__ = ["Adapter", "derive_seed"]


class Adapter(Protocol):
    """A kind of simulation, made from a configuration table.

    An instance holds configuration alone; it is made in the supervisor and again in every
    worker process.
    """

    @classmethod
    def from_table(cls, table: Mapping[str, Any], base: Path) -> Adapter:
        """Make an adapter from the ``[simulation]`` table, without the key ``adapter``.

        Parameters
        ----------
        table
            As it stands in the file.
        base
            Folder that relative paths in the table begin at.

        Raises
        ------
        ConfigError
            For an unknown key, a wrong value or a missing file.
        MissingExtra
            If the simulation code is not installed.
        """
        ...

    def members(self) -> Sequence[str]:
        """Return the names of the members; each runs in a worker process of its own."""
        ...

    def simulations(self, member: str) -> Sequence[str]:
        """Return the names of the streams that a member writes; mostly its own name alone."""
        ...

    def run(self, member: str, connection: Connection, *, seed: int, resume: bool) -> None:
        """Run a member until it reached its end or was stopped; called in its worker process.

        Parameters
        ----------
        member
            One of `members`.
        connection
            How to reach staging.
        seed
            Seed of the whole run; members derive their own from it.
        resume
            Whether streams may hold frames of an earlier life already. Then the member goes on
            after the last of them, with a new epoch where it is not the same trajectory.

        Raises
        ------
        HeadraceError
            If staging fails, or a stream holds frames and `resume` is False.
        """
        ...


def derive_seed(seed: int, name: str, life: int = 0) -> int:
    """Return a positive 31-bit seed that differs between members and between their lives."""
    return xxhash.xxh32_intdigest(f"{seed}/{name}/{life}".encode()) % (2**31 - 1) + 1
