"""A running engine that speaks IMD, as a stream: GROMACS, NAMD, LAMMPS, and whoever else does.

The engine is not touched. A process beside it joins its IMD session, which only one reader can do,
and puts every frame into staging, where as many readers as like may have them. Commands go the
other way: pause, resume, another interval, forces on atoms, the end.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bridge.config import to_struct
from bridge.errors import ConfigError
from bridge.staging.connection import Connection
from sim_adapters.imd_gaps import Gaps, make_box, read_file
from sim_adapters.imd_sidecar import Sidecar
from sim_adapters.imd_table import ImdTable
from sim_adapters.lives import check_unused, find_unfinished

__all__ = ["ImdEngine", "ImdTable"]


class ImdEngine:
    """An engine as a member of a run; see `sim_adapters.member.Adapter`.

    Started again, it goes on after the last frame that the stream holds, in a new epoch.
    """

    def __init__(self, table: ImdTable, base: Path) -> None:
        self._table = table
        self._base = base

    @classmethod
    def from_table(cls, table: Mapping[str, Any], base: Path) -> ImdEngine:
        """Make the adapter from its configuration table."""
        return cls(to_struct(ImdTable, table, "adapter 'imd'"), base)

    def members(self) -> list[str]:
        """Return the name of the simulation."""
        return [self._table.name]

    def simulations(self, member: str) -> list[str]:
        """Return the member's own name."""
        return [member]

    def run(self, member: str, connection: Connection, *, seed: int, resume: bool) -> None:
        """Carry frames and commands until the engine ends.

        Raises
        ------
        NobodyListening
            If no engine can be reached in time.
        ProtocolError, ConnectionLost
            If it sends what it must not, falls silent, or goes away within a frame.
        ConfigError
            If something would have to be guessed.
        """
        if not resume:
            check_unused([member], connection)
        elif not find_unfinished([member], connection):
            return
        Sidecar(self._table, self._fill_gaps(), connection).run()

    def _fill_gaps(self) -> Gaps:
        table = self._table
        topology, box = None, None
        if table.topology:
            topology, box = read_file(self._base / table.topology)
        given = make_box(table.box)
        atoms = table.atoms or None
        if topology is not None:
            count = len(topology.names)
            if atoms not in (None, count):
                raise ConfigError(f"The topology has {count} atoms, the key 'atoms' says {atoms}.")
            atoms = count
        for name, group in table.pull.items():
            if atoms is not None and max(group.atoms) >= atoms:
                raise ConfigError(
                    f"The group {name!r} has atom {max(group.atoms)}; the engine sends {atoms}, "
                    "counted from 0."
                )
        return Gaps(
            atoms=atoms,
            topology=topology,
            box=box if given is None else given,
            timestep=table.timestep,
            start_time=table.start_time,
            every=table.every,
            first_step=table.first_step,
            energies=table.energies,
        )
