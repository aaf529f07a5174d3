"""OpenMM walkers for ``headrace run``: a system from files, and a member in each process."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from bridge.config import to_struct
from bridge.errors import ConfigError
from bridge.schema import check_name
from bridge.staging.connection import Connection
from sim_adapters.link import Link
from sim_adapters.lives import check_unused, find_unfinished, read_last_frame
from sim_adapters.member import derive_seed
from sim_adapters.openmm import HeadraceReporter, list_capabilities, place, run
from sim_adapters.openmm_schema import Field, Selection, describe
from sim_adapters.openmm_system import SystemTable, build_simulation, read_structure

__all__ = ["OpenMM"]


class _Table(SystemTable, frozen=True, kw_only=True):
    """Keys of the ``[simulation]`` table with ``adapter = "openmm"``, besides `SystemTable`'s.

    Attributes
    ----------
    members
        Number of walkers, each in a process of its own.
    prefix
        Walkers are called ``<prefix>-0`` and so on.
    every
        Steps between frames.
    max_steps, max_time
        Steps, or simulated time in ps, after which a walker ends; the earlier counts. Without
        both, it runs until it is stopped.
    select, fields, dtype, wrapped
        What to send; see `sim_adapters.openmm.link`.
    temperature_bounds
        Bounds in K within which others may set the temperature; nobody may without them.
    restart
        Whether others may restart walkers.
    """

    members: int = 1
    prefix: str = "walker"
    every: int = 50
    max_steps: int = 0
    max_time: float = 0.0
    select: str | tuple[int, ...] = "all"
    fields: tuple[Field, ...] = ("positions",)
    dtype: Literal["<f4", "<f8"] = "<f4"
    wrapped: bool = False
    temperature_bounds: tuple[float, float] | None = None
    restart: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_name(self.prefix, "prefix")
        for name in ("members", "every"):
            if getattr(self, name) < 1:
                raise ConfigError(
                    f"The key {name!r} is {getattr(self, name)}; it must be at least 1."
                )
        if self.max_steps < 0 or self.max_time < 0:
            raise ConfigError("The keys 'max_steps' and 'max_time' must not be negative.")

    @property
    def last(self) -> int:
        """Step at which a walker ends."""
        ends = [self.max_steps] if self.max_steps else []
        if self.max_time:
            ends.append(round(self.max_time / self.timestep))
        return min(ends, default=2**62)


class OpenMM:
    """Walkers of one OpenMM system; see `sim_adapters.member.Adapter`.

    A walker that is started again goes on from the newest frame of its stream, in a new epoch and
    with new velocities unless the stream carries them.
    """

    def __init__(self, table: _Table, base: Path) -> None:
        self._table = table
        self._base = base

    @classmethod
    def from_table(cls, table: Mapping[str, Any], base: Path) -> OpenMM:
        """Make the adapter from its configuration table."""
        out = cls(to_struct(_Table, table, "adapter 'openmm'"), base)
        out._table.check_files(base)
        return out

    def members(self) -> list[str]:
        """Return the names of the walkers."""
        return [f"{self._table.prefix}-{number}" for number in range(self._table.members)]

    def simulations(self, member: str) -> list[str]:
        """Return the walker's own name."""
        return [member]

    def run(self, member: str, connection: Connection, *, seed: int, resume: bool) -> None:
        """Run a walker to its end."""
        if not resume:
            check_unused([member], connection)
        elif not find_unfinished([member], connection):
            return
        table = self._table
        structure = read_structure(table, self._base)
        select: Selection = table.select
        schema = describe(
            structure.topology,
            structure.system,
            select=select,
            fields=table.fields,
            dtype=table.dtype,
            wrapped=table.wrapped,
        )
        whole = table.restart and "positions" in table.fields and not schema.selection
        stream = Link(
            member,
            address=connection.address,
            schema=schema,
            every=table.every,
            options=connection.options,
            capabilities=list_capabilities(
                driven=True, restart=whole, temperature=table.temperature_bounds
            ),
            keys=connection.keys or None,
            timeout=connection.timeout,
        )
        with stream:
            life = stream.producer.resumed.incarnation
            simulation = build_simulation(structure, table, derive_seed(seed, member, life))
            self._go_on(simulation, stream, connection, derive_seed(seed, member, -life))
            reporter = HeadraceReporter(
                stream,
                simulation,
                select=select,
                wrapped=table.wrapped,
                driven=True,
                seed=derive_seed(seed, member),
            )
            run(simulation, reporter, last=table.last)

    def _go_on(self, simulation: Any, stream: Link, connection: Connection, seed: int) -> None:
        """Take up where an earlier life ended."""
        if stream.step < 0:
            return
        simulation.currentStep = stream.step
        simulation.context.setTime(stream.time)
        frame = read_last_frame(stream.producer, timeout=connection.timeout)
        n = simulation.topology.getNumAtoms()
        if frame is None or len(frame.values.get("positions", ())) != n:
            stream.event(
                "begun_anew",
                f"No whole frame of an earlier life of {stream.simulation!r} is held; it begins "
                f"again from its first structure, at step {stream.step}.",
                level="warning",
            )
            return
        arrays = {k: v.astype("<f8") for k, v in frame.values.items() if v.ndim == 2}
        place(simulation, arrays, redraw="velocities" not in arrays, seed=seed)
