"""ASE walkers for ``headrace run``: a function of the user's that makes the simulation."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from bridge.config import to_struct
from bridge.errors import ConfigError, MemberFailed, MissingExtra
from bridge.schema import check_name
from bridge.staging.connection import Connection
from sim_adapters.ase import HeadraceObserver, list_capabilities
from sim_adapters.ase_schema import Field, describe
from sim_adapters.ase_thermostats import can_be_moved, find_thermostat, place
from sim_adapters.link import Link
from sim_adapters.lives import check_unused, find_unfinished, read_last_frame
from sim_adapters.member import derive_seed

try:
    from ase.md.md import MolecularDynamics
except ImportError as error:
    raise MissingExtra("ASE", "ase", "ASE simulations") from error

__all__ = ["ASE"]


class _Table(msgspec.Struct, frozen=True, kw_only=True):
    """Keys of the ``[simulation]`` table with ``adapter = "ase"``.

    Attributes
    ----------
    make
        ``file.py:function``: called with ``seed=…``, it returns an integrator of `ase.md` whose
        atoms have a calculator. All random numbers should come from the seed.
    members
        Number of walkers, each in a process of its own.
    prefix
        Walkers are called ``<prefix>-0`` and so on.
    every
        Steps between frames.
    max_steps
        Steps after which a walker ends.
    select, fields, dtype
        What to send; see `sim_adapters.ase.link`.
    temperature_bounds
        Bounds in K within which others may set the temperature; nobody may without them.
    restart
        Whether others may restart walkers.
    """

    make: str
    max_steps: int
    members: int = 1
    prefix: str = "walker"
    every: int = 10
    select: str | tuple[int, ...] = "all"
    fields: tuple[Field, ...] = ("positions",)
    dtype: Literal["<f4", "<f8"] = "<f4"
    temperature_bounds: tuple[float, float] | None = None
    restart: bool = True

    def __post_init__(self) -> None:
        check_name(self.prefix, "prefix")
        for name in ("members", "every", "max_steps"):
            if getattr(self, name) < 1:
                raise ConfigError(
                    f"The key {name!r} is {getattr(self, name)}; it must be at least 1."
                )


class ASE:
    """Walkers of one ASE system; see `sim_adapters.member.Adapter`.

    A walker that is started again goes on from the newest frame of its stream, in a new epoch and
    with new velocities unless the stream carries them.
    """

    def __init__(self, table: _Table, base: Path) -> None:
        self._table = table
        self._base = base

    @classmethod
    def from_table(cls, table: Mapping[str, Any], base: Path) -> ASE:
        """Make the adapter from its configuration table."""
        read = to_struct(_Table, table, "adapter 'ase'")
        file, _, function = read.make.rpartition(":")
        if not file or not function.isidentifier():
            raise ConfigError(
                f"The key 'make' is {read.make!r}; it must be of the form 'file.py:function'."
            )
        if not (base / file).is_file():
            raise ConfigError(f"The file that 'make' names does not exist: {base / file}.")
        return cls(read, base)

    def members(self) -> list[str]:
        """Return the names of the walkers."""
        return [f"{self._table.prefix}-{number}" for number in range(self._table.members)]

    def simulations(self, member: str) -> list[str]:
        """Return the walker's own name."""
        return [member]

    def run(self, member: str, connection: Connection, *, seed: int, resume: bool) -> None:
        """Run a walker to its end.

        Raises
        ------
        ConfigError
            If the function that makes the simulation is not there, or makes something else.
        MemberFailed
            If the function, the calculator or the integrator raised.
        """
        if not resume:
            check_unused([member], connection)
        elif not find_unfinished([member], connection):
            return
        table, make = self._table, self._load()
        # Where a walker goes on is known only when its stream is open, which needs its atoms.
        dynamics = self._make(make, derive_seed(seed, member))
        schema = describe(
            dynamics.atoms, select=table.select, fields=table.fields, dtype=table.dtype
        )
        whole = table.restart and "positions" in table.fields and not schema.selection
        stream = Link(
            member,
            address=connection.address,
            schema=schema,
            every=table.every,
            options=connection.options,
            capabilities=list_capabilities(
                dynamics, restart=whole, temperature=table.temperature_bounds
            ),
            keys=connection.keys or None,
            timeout=connection.timeout,
        )
        with stream:
            life = stream.producer.resumed.incarnation
            if stream.step >= 0:
                dynamics = self._make(make, derive_seed(seed, member, life))
                self._go_on(dynamics, stream, connection, derive_seed(seed, member, -life))
            observer = HeadraceObserver(
                stream, dynamics, select=table.select, seed=derive_seed(seed, member)
            )
            dynamics.attach(observer, interval=1)
            try:
                dynamics.run(max(0, table.max_steps - dynamics.nsteps))
            except ArithmeticError as error:
                message = f"ASE ended {member!r} after step {dynamics.nsteps}: {error}."
                stream.event("failed", message, level="error", step=int(dynamics.nsteps))
                raise MemberFailed(message) from error

    def _load(self) -> Callable[..., Any]:
        file, _, function = self._table.make.rpartition(":")
        spec = importlib.util.spec_from_file_location(Path(file).stem, self._base / file)
        if spec is None or spec.loader is None:
            raise ConfigError(f"The file {self._base / file} is no Python file.")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        found = getattr(module, function, None)
        if not callable(found):
            raise ConfigError(f"The file {self._base / file} has no function {function!r}.")
        made: Callable[..., Any] = found
        return made

    def _make(self, make: Callable[..., Any], seed: int) -> Any:
        dynamics = make(seed=seed)
        if not isinstance(dynamics, MolecularDynamics):
            raise ConfigError(
                f"{self._table.make} returned a {type(dynamics).__name__}; it must return an "
                "integrator of ase.md."
            )
        return dynamics

    def _go_on(self, dynamics: Any, stream: Link, connection: Connection, seed: int) -> None:
        """Take up where an earlier life ended."""
        dynamics.nsteps = stream.step
        frame = read_last_frame(stream.producer, timeout=connection.timeout)
        n = len(dynamics.atoms)
        whole = frame is not None and len(frame.values.get("positions", ())) == n
        if frame is None or not whole or not can_be_moved(dynamics):
            why = (
                f"No whole frame of an earlier life of {stream.simulation!r} is held"
                if not whole
                else f"{type(dynamics).__name__} cannot be put where a frame was"
            )
            stream.event(
                "begun_anew",
                f"{why}; it begins again from its first structure, at step {stream.step}.",
                level="warning",
            )
            return
        arrays = {k: v.astype("<f8") for k, v in frame.values.items() if v.ndim == 2}
        # Without a thermostat the velocities that the function made are as good as any.
        redraw = "velocities" not in arrays and find_thermostat(dynamics) is not None
        place(dynamics, arrays, redraw=redraw, seed=seed)
