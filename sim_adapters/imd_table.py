"""The configuration of an IMD session."""

from __future__ import annotations

import msgspec

from bridge.errors import ConfigError
from bridge.schema import check_name
from sim_adapters.imd_commands import PullGroup
from sim_adapters.imd_units import engine_units

__all__ = ["ImdTable"]


class ImdTable(msgspec.Struct, frozen=True, kw_only=True):
    """Keys of the ``[simulation]`` table with ``adapter = "imd"``.

    Attributes
    ----------
    port, host
        Where the engine listens.
    name
        Name of the simulation.
    engine, units
        Whose units are sent; see `sim_adapters.imd_units.engine_units`.
    topology
        A file that MDAnalysis reads: names of the atoms, and the box if the session sends none.
    atoms
        Number of atoms that must come; 0 for any, or as many as the topology has.
    box
        Of a session that sends none; see `sim_adapters.imd_gaps.make_box`.
    timestep, start_time, every, first_step
        Of a session that sends none; see `sim_adapters.imd_gaps.Gaps`.
    energies
        Whether a version 2 engine sends energies even if its first frame comes without. They are
        not numbers in frames beside which none come, and `every` numbers those frames.
    rate
        Steps between frames to ask the engine for; 0 to leave it as it is.
    pull
        Names of groups of atoms that others may pull at.
    wait
        What a version 3 engine does when it is left: true to wait for the next reader, false to
        go on; null to leave that as it is.
    patience
        Seconds for which the engine is looked for.
    silence
        Seconds without a word after which an engine that is not paused is given up.
    reconnect
        Seconds for which an engine that is gone is looked for again; 0 to take it for finished.
    command_patience
        Seconds after which a command that had no effect is refused.
    """

    port: int
    host: str = "127.0.0.1"
    name: str = "imd"
    engine: str = ""
    units: str = ""
    topology: str = ""
    atoms: int = 0
    box: tuple[float, ...] = ()
    timestep: float = 0.0
    start_time: float = 0.0
    every: int = 0
    first_step: int = -1
    energies: bool = False
    rate: int = 0
    pull: dict[str, PullGroup] = {}
    wait: bool | None = None
    patience: float = 30.0
    silence: float = 600.0
    reconnect: float = 0.0
    command_patience: float = 10.0

    def __post_init__(self) -> None:
        check_name(self.name, "simulation")
        for name in ("atoms", "timestep", "every", "rate", "reconnect"):
            if not 0 <= getattr(self, name) < 2**31:
                raise ConfigError(f"The key {name!r} is {getattr(self, name)}; it is at least 0.")
        for name in ("patience", "silence", "command_patience"):
            if not 0 < getattr(self, name) < 1e9:
                raise ConfigError(f"The key {name!r} is {getattr(self, name)}; it is above 0.")
        # Told before anything is waited for; the version may make a difference to them later.
        engine_units(self.engine, self.units, 3)
