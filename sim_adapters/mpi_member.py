"""Programs under MPI for ``headrace run``: anything that links its ranks by itself."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from bridge.commands import Event
from bridge.config import to_struct
from bridge.errors import ConfigError, HeadraceError, MemberFailed
from bridge.schema import check_name
from bridge.staging.connection import Connection
from bridge.staging.rendezvous import ENVIRONMENT
from bridge.staging.spread import connect
from sim_adapters.keys import pass_keys
from sim_adapters.lives import check_unused, find_unfinished
from sim_adapters.member import derive_seed
from sim_adapters.mpi_launch import find_mpiexec, launch

__all__ = ["MpiProgram", "launch_member"]


class _Table(msgspec.Struct, frozen=True, kw_only=True):
    """Keys of the ``[simulation]`` table with ``adapter = "mpi"``.

    Attributes
    ----------
    command
        Program and arguments of each rank; ``{python}`` stands for this interpreter. It runs in
        the folder of the configuration. The environment tells it the stager's address
        (``HEADRACE_STAGER``), the folder of its keys if it has some (``HEADRACE_KEYS``; it must be
        seen from all nodes), its name (``HEADRACE_SIMULATION``), a seed (``HEADRACE_SEED``), and
        by ``HEADRACE_MEMBER`` that its rank 0 should end when its standard input does.
    ranks
        Processes of each member.
    members
        Number of simulations.
    name
        Of the simulation; several are called ``<name>-0`` and so on.
    """

    command: tuple[str, ...]
    ranks: int = 2
    members: int = 1
    name: str = "simulation"

    def __post_init__(self) -> None:
        check_name(self.name, "name")
        if not self.command:
            raise ConfigError("The key 'command' is empty; it names the program of each rank.")
        for key in ("ranks", "members"):
            if getattr(self, key) < 1:
                raise ConfigError(
                    f"The key {key!r} is {getattr(self, key)}; it must be at least 1."
                )


class MpiProgram:
    """Simulations whose ranks call `link_mpi`; see `sim_adapters.member.Adapter`."""

    def __init__(self, table: _Table, base: Path) -> None:
        self._table = table
        self._base = base

    @classmethod
    def from_table(cls, table: Mapping[str, Any], base: Path) -> MpiProgram:
        """Make the adapter from its configuration table."""
        made = cls(to_struct(_Table, table, "adapter 'mpi'"), base)
        find_mpiexec()
        return made

    def members(self) -> list[str]:
        """Return the names of the simulations."""
        table = self._table
        if table.members == 1:
            return [table.name]
        return [f"{table.name}-{number}" for number in range(table.members)]

    def simulations(self, member: str) -> list[str]:
        """Return the simulation's own name."""
        return [member]

    def run(self, member: str, connection: Connection, *, seed: int, resume: bool) -> None:
        """Run the ranks of a simulation to their end."""
        table = self._table
        names = {"python": sys.executable}
        command = [names.get(word.strip("{}"), word) for word in table.command]
        environment = {
            ENVIRONMENT: connection.address,
            "HEADRACE_MEMBER": member,
            "HEADRACE_SIMULATION": member,
            "HEADRACE_SEED": str(derive_seed(seed, member)),
        }
        launch_member(
            member, command, connection, ranks=table.ranks, resume=resume, base=self._base,
            environment=environment,
        )  # fmt: skip


def launch_member(
    member: str,
    command: list[str],
    connection: Connection,
    *,
    ranks: int,
    resume: bool,
    base: Path,
    environment: Mapping[str, str],
    given: str = "",
) -> None:
    """Run the ranks of a member; where they end badly, an event says how.

    Parameters
    ----------
    given
        A line for the standard input of rank 0.

    Raises
    ------
    MemberFailed
        If a rank was killed or ended with an error.
    StagingError
        If the stream holds frames and `resume` is False.
    """
    if not resume:
        check_unused([member], connection)
    elif not find_unfinished([member], connection):
        return
    try:
        with pass_keys(connection) as keys:
            launch(
                ranks, command, what=repr(member), environment={**environment, **keys},
                directory=base, given=given,
            )  # fmt: skip
    except MemberFailed as error:
        _tell(member, str(error), connection)
        raise


def _tell(member: str, message: str, connection: Connection) -> None:
    event = Event("failed", message, simulation=member, source="adapter", level="error")
    try:
        with connect(
            connection.address,
            name=f"{member} (launcher)",
            keys=connection.keys or None,
            timeout=connection.timeout,
        ) as client:
            client.append("events", [msgspec.msgpack.encode(event)])
    except HeadraceError:
        # Why the ranks ended says more than that nobody can be told.
        return
