"""Model systems whose walkers cost microseconds: the quickest way to try a sampling policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from bridge.commands import Capability, Command
from bridge.config import to_struct
from bridge.errors import ConfigError
from bridge.schema import StreamSchema, Variable, check_name
from bridge.staging.connection import Connection
from sim_adapters.link import Link
from sim_adapters.lives import check_unused, find_unfinished, read_last_frame
from sim_adapters.member import derive_seed
from sim_adapters.muller_brown import MINIMA, Walkers

__all__ = ["MullerBrown", "run_walkers"]


class _Stream:
    """One walker's link, and the frames that were not put yet."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.steps: list[int] = []
        self.rows: list[Any] = []

    @property
    def next_frame(self) -> int:
        return self.steps[-1] + self.link.every if self.steps else self.link.next_frame

    def flush(self, dt: float) -> None:
        if self.steps:
            steps = np.array(self.steps, np.int64)
            self.link.put_many(steps, steps * dt, positions=np.array(self.rows))
            self.steps, self.rows = [], []


def run_walkers(walkers: Walkers, links: Sequence[Link], *, last: int, batch: int = 1) -> None:
    """Run walkers together, each of which writes a stream and takes commands of its own.

    Returns once every walker was stopped or has done `last` steps; closes the links.

    Parameters
    ----------
    walkers
        As many as links.
    links
        Links with a schema that declares ``positions`` of shape (2,), float64.
    last
        Step at which to end.
    batch
        Frames of a walker to put at once. Commands are applied after each put, and at the steps
        that they ask for.
    """
    streams = [_Stream(link) for link in links]
    for link in links:
        _apply_to(walkers, streams, link)
    while streams:
        now = walkers.steps
        wanted = [s.next_frame for s in streams]
        wanted += [s.link.next_command or last for s in streams]
        target = max(now, min(last, *wanted))
        walkers.step(target - now)
        for row, stream in reversed(list(enumerate(streams))):
            link = stream.link
            if stream.next_frame <= target:
                stream.steps.append(target)
                stream.rows.append(walkers.positions[row].copy())
            full = len(stream.steps) >= batch or target >= last
            if not full and link.next_command != target:
                continue
            stream.flush(walkers.dt)
            if not link.service(target, walkers.time) or target >= last:
                link.close()
                walkers.drop(row)
                del streams[row]


def _apply_to(walkers: Walkers, streams: list[_Stream], link: Link) -> None:
    def row() -> int:
        return next(i for i, s in enumerate(streams) if s.link is link)

    def heat(value: float) -> None:
        walkers.kT[row()] = value

    def place(arrays: Mapping[str, Any], command: Command) -> None:
        walkers.place(row(), arrays["positions"])

    link.on("set", "kT", heat)
    link.on_restart(place, {"positions": (2,)})


class _Table(msgspec.Struct, frozen=True, kw_only=True):
    """Keys of the ``[simulation]`` table with ``adapter = "muller_brown"``.

    Attributes
    ----------
    members
        Number of walkers.
    per_process
        Walkers that share a worker process and are stepped together.
    prefix
        Walkers are called ``<prefix>-0`` and so on.
    every
        Steps between frames.
    max_steps
        Steps after which a walker ends.
    kT, dt
        Thermal energy and time step.
    start
        Where walkers begin; by default the deepest minimum.
    kT_bounds
        Bounds between which others may set kT; nobody may without them.
    restart
        Whether others may restart walkers.
    batch
        Frames to put at once.
    """

    members: int = 8
    per_process: int = 1
    prefix: str = "walker"
    every: int = 20
    max_steps: int = 1_000_000
    kT: float = 15.0  # noqa: N815 - what everybody calls it
    dt: float = 1e-4
    start: tuple[float, float] = (float(MINIMA[0, 0]), float(MINIMA[0, 1]))
    kT_bounds: tuple[float, float] | None = None  # noqa: N815
    restart: bool = True
    batch: int = 1

    def __post_init__(self) -> None:
        check_name(self.prefix, "prefix")
        counts = {
            name: getattr(self, name)
            for name in ("members", "per_process", "every", "max_steps", "batch")
        }
        for name, value in counts.items():
            if value < 1:
                raise ConfigError(f"The key {name!r} is {value}; it must be at least 1.")
        if not (self.kT >= 0 and self.dt > 0):
            raise ConfigError("The key 'kT' must not be negative, and 'dt' must be above 0.")


class MullerBrown:
    """Overdamped walkers on the Müller-Brown potential; each writes a stream ``positions``."""

    def __init__(self, table: _Table) -> None:
        self._table = table

    @classmethod
    def from_table(cls, table: Mapping[str, Any], base: Path) -> MullerBrown:
        """Make the adapter from its configuration table; see `sim_adapters.member.Adapter`."""
        return cls(to_struct(_Table, table, "adapter 'muller_brown'"))

    def members(self) -> list[str]:
        """Return the names of the worker processes."""
        table = self._table
        if table.per_process == 1:
            return self._names()
        groups = -(-table.members // table.per_process)
        return [f"{table.prefix}s-{number}" for number in range(groups)]

    def simulations(self, member: str) -> list[str]:
        """Return the names of a process's walkers."""
        number, count = self.members().index(member), self._table.per_process
        return self._names()[number * count : (number + 1) * count]

    def run(self, member: str, connection: Connection, *, seed: int, resume: bool) -> None:
        """Run a process's walkers to their end."""
        table, names = self._table, self.simulations(member)
        if resume:
            names = find_unfinished(names, connection)
        else:
            check_unused(names, connection)
        if not names:
            return
        links = [
            Link(
                name,
                address=connection.address,
                schema=_SCHEMA,
                every=table.every,
                options=connection.options,
                capabilities=self._capabilities(),
                keys=connection.keys or None,
                timeout=connection.timeout,
            )
            for name in names
        ]
        frames = [read_last_frame(x.producer, timeout=connection.timeout) for x in links]
        starts = [np.array(table.start if f is None else f["positions"]) for f in frames]
        for link, frame in zip(links, frames, strict=True):
            if frame is None and link.step >= 0:
                link.event("begun_anew", "The last frame was released; the walker begins anew.")
        walkers = Walkers(
            np.array(starts),
            kT=table.kT,
            dt=table.dt,
            seed=derive_seed(seed, member, links[0].producer.resumed.incarnation),
            steps=max(0, *(link.step for link in links)),
        )
        run_walkers(walkers, links, last=table.max_steps, batch=table.batch)

    def _names(self) -> list[str]:
        return [f"{self._table.prefix}-{number}" for number in range(self._table.members)]

    def _capabilities(self) -> list[Capability]:
        table = self._table
        out = [
            Capability("stop"),
            Capability("interval", minimum=1, maximum=table.max_steps, unit="steps"),
        ]
        if table.per_process == 1:
            # Of walkers that are stepped together, one cannot stand still by itself.
            out += [Capability("pause"), Capability("resume")]
        if table.restart:
            out.append(Capability("restart", description="From any position."))
        if table.kT_bounds is not None:
            low, high = table.kT_bounds
            out.append(Capability("set", "kT", minimum=low, maximum=high))
        return out


_SCHEMA = StreamSchema(
    (Variable("positions", "<f8", (2,), description="Position on the plane."),),
    attributes={"system": "Müller-Brown, overdamped"},
)
