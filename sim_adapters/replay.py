"""Replay a trajectory file as if the simulation ran now; reads what MDAnalysis reads."""

from __future__ import annotations

import math
import time as clock
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from bridge.commands import Capability
from bridge.config import to_struct
from bridge.errors import ConfigError, MissingExtra
from bridge.schema import StreamSchema, Topology, Variable, check_name
from bridge.staging.connection import Connection
from sim_adapters.link import Link
from sim_adapters.lives import check_unused, find_unfinished

try:
    import MDAnalysis
    from MDAnalysis.lib.mdamath import triclinic_vectors
except ImportError as error:
    raise MissingExtra("MDAnalysis", "mdanalysis", "replaying trajectories") from error

__all__ = ["Replay", "describe_universe", "read_box", "read_topology", "replay"]

_NM = 0.1  # one ångström, MDAnalysis's unit of length

ReplayField = Literal["positions", "velocities", "forces"]
_UNITS: dict[str, tuple[str, float]] = {
    "positions": ("nm", _NM),
    "velocities": ("nm/ps", _NM),
    # kJ/(mol Å)
    "forces": ("kJ/mol/nm", 1 / _NM),
}


def describe_universe(
    universe: Any, *, select: str = "all", fields: tuple[ReplayField, ...] = ("positions",)
) -> StreamSchema:
    """Return the schema of a replay.

    Positions in nm, velocities in nm/ps and forces in kJ/mol/nm have shape (atoms, 3), float32; if
    the trajectory has a box, it is sent as three row vectors in nm, float64.

    Parameters
    ----------
    universe
        An `MDAnalysis.Universe`, at any frame.
    select
        A selection in MDAnalysis's language.

    Raises
    ------
    ConfigError
        If the selection is empty or cannot be read, or the trajectory lacks a field.
    """
    atoms = _select(universe, select)
    step = universe.trajectory.ts
    has = {"positions": step.has_positions, "velocities": step.has_velocities}
    has["forces"] = step.has_forces
    for field in fields:
        if not has[field]:
            raise ConfigError(f"The trajectory {universe.trajectory.filename} has no {field}.")
    variables = [Variable(f, "<f4", (len(atoms), 3), _UNITS[f][0]) for f in fields]
    if step.dimensions is not None:
        variables.append(Variable("box", "<f8", (3, 3), "nm", description="Rows are vectors."))
    return StreamSchema(
        tuple(variables),
        time_unit="ps",
        topology=read_topology(atoms),
        selection="" if len(atoms) == universe.atoms.n_atoms else select,
        attributes={
            "source": Path(str(universe.trajectory.filename)).name,
            "step": "number of the frame in the file",
            "periodic": "false" if step.dimensions is None else "true",
        },
    )


def _select(universe: Any, select: str) -> Any:
    try:
        atoms = universe.select_atoms(select)
    except (MDAnalysis.SelectionError, AttributeError, MDAnalysis.NoDataError) as error:
        raise ConfigError(f"The selection {select!r} cannot be read: {error}.") from error
    if not len(atoms):
        raise ConfigError(f"The selection {select!r} has no atoms in this trajectory.")
    return atoms


def read_topology(atoms: Any) -> Topology:
    """Return what MDAnalysis knows of a group of atoms; what it does not know stays empty."""

    def get(name: str, kind: Callable[[Any], Any]) -> tuple[Any, ...]:
        # Which attributes there are depends on the file; guessed ones count as well.
        values = getattr(atoms, name) if hasattr(atoms, name) else ()
        return tuple(kind(v) for v in values)

    place = {int(index): row for row, index in enumerate(atoms.indices)}
    bonds = atoms.bonds.indices if hasattr(atoms, "bonds") else np.empty((0, 2), int)
    inside = ((place.get(int(a)), place.get(int(b))) for a, b in bonds)
    return Topology(
        names=get("names", str),
        elements=get("elements", str),
        residues=get("resnames", str),
        residue_ids=get("resids", int),
        bonds=tuple((a, b) for a, b in inside if a is not None and b is not None),
        masses=get("masses", float),
    )


def replay(
    universe: Any,
    link: Link,
    *,
    select: str = "all",
    frames_per_second: float = 0.0,
    speed: float = 0.0,
    now: Callable[[], float] = clock.monotonic,
) -> bool:
    """Send the frames of a trajectory that its stream does not have yet, and close the link.

    The step of a frame is its number in the file, its time the file's. While it waits for the
    next frame's moment, the replay answers commands at once.

    Parameters
    ----------
    universe
        An `MDAnalysis.Universe`.
    link
        A link with the schema that `describe_universe` makes.
    select
        As the schema was made with.
    frames_per_second
        Pace; 0 to go as fast as the stream takes them, or
    speed
        simulated picoseconds in a second.
    now
        A monotonic clock in seconds.

    Returns
    -------
    bool
        Whether all frames were sent; False if the replay was stopped.
    """
    atoms = _select(universe, select)
    fields = [v.name for v in link.producer.schema.variables if v.name in _UNITS]
    began, first = now(), None
    number = link.next_frame
    while number < universe.trajectory.n_frames:
        step = universe.trajectory[number]
        first = (number, step.time) if first is None else first
        moment = began
        if frames_per_second:
            moment += (number - first[0]) / frames_per_second
        elif speed:
            moment += (step.time - first[1]) / speed
        while (left := moment - now()) > 0:
            link.wait(left)
            served = now()
            if not link.service():
                link.close()
                return False
            # A pause moves the moments of all frames that follow.
            paused = now() - served
            began, moment = began + paused, moment + paused
        values = {f: getattr(atoms, f) * np.float32(_UNITS[f][1]) for f in fields}
        if "box" in link.producer.schema.names:
            values["box"] = read_box(step.dimensions)
        link.put(number, step.time, **values)
        if not link.service(number, step.time):
            link.close()
            return False
        number = link.next_frame
    link.close()
    return True


def read_box(dimensions: Any) -> np.ndarray[Any, Any]:
    """Return three row vectors in nm from MDAnalysis's lengths and angles; zeros without a box."""
    if dimensions is None:
        return np.zeros((3, 3))
    # In float64, as lengths and angles are given; MDAnalysis would round the vectors to float32.
    lengths = np.asarray(dimensions[:3], np.float64) * _NM
    if np.all(np.asarray(dimensions[3:]) == 90.0):
        return np.diag(lengths)
    vectors: np.ndarray[Any, Any] = triclinic_vectors(dimensions, dtype=np.float64) * _NM
    return vectors


class _Table(msgspec.Struct, frozen=True, kw_only=True):
    """Keys of the ``[simulation]`` table with ``adapter = "replay"``.

    Attributes
    ----------
    topology, trajectory
        Files, in any format of MDAnalysis.
    name
        Name of the simulation.
    select
        What to send, in MDAnalysis's selection language.
    fields
        Of ``positions``, ``velocities`` and ``forces``.
    frames_per_second, speed
        Pace, in frames or in simulated ps a second; without both, as fast as possible.
    every
        Send each frame of the file, or each second one, and so on.
    """

    topology: str
    trajectory: str
    name: str = "replay"
    select: str = "all"
    fields: tuple[ReplayField, ...] = ("positions",)
    frames_per_second: float = 0.0
    speed: float = 0.0
    every: int = 1

    def __post_init__(self) -> None:
        check_name(self.name, "simulation")
        if self.every < 1:
            raise ConfigError(f"The key 'every' is {self.every}; it must be at least 1.")
        paces = (self.frames_per_second, self.speed)
        if any(not math.isfinite(p) or p < 0 for p in paces) or all(paces):
            raise ConfigError(
                "The pace is given by 'frames_per_second' or by 'speed', as a number above 0."
            )


class Replay:
    """A trajectory file as a live stream; see `sim_adapters.member.Adapter`.

    Started again, it goes on with the frame after the last one that the stream holds.
    """

    def __init__(self, table: _Table, base: Path) -> None:
        self._table = table
        self._base = base

    @classmethod
    def from_table(cls, table: Mapping[str, Any], base: Path) -> Replay:
        """Make the adapter from its configuration table."""
        read = to_struct(_Table, table, "adapter 'replay'")
        for name in ("topology", "trajectory"):
            path = base / getattr(read, name)
            if not path.is_file():
                raise ConfigError(f"The file that {name!r} names does not exist: {path}.")
        return cls(read, base)

    def members(self) -> list[str]:
        """Return the name of the replay."""
        return [self._table.name]

    def simulations(self, member: str) -> list[str]:
        """Return the member's own name."""
        return [member]

    def run(self, member: str, connection: Connection, *, seed: int, resume: bool) -> None:
        """Replay the file to its end."""
        if not resume:
            check_unused([member], connection)
        elif not find_unfinished([member], connection):
            return
        table = self._table
        universe = self._open()
        link = Link(
            member,
            address=connection.address,
            schema=describe_universe(universe, select=table.select, fields=table.fields),
            every=table.every,
            options=connection.options,
            capabilities=[
                Capability("stop"),
                Capability("pause"),
                Capability("resume"),
                Capability("interval", minimum=1, maximum=universe.trajectory.n_frames),
            ],
            keys=connection.keys or None,
            timeout=connection.timeout,
        )
        # The file is one piece of trajectory, however often its replay was interrupted.
        link.epoch = max(0, link.producer.resumed.last_epoch)
        with link:
            replay(
                universe,
                link,
                select=table.select,
                frames_per_second=table.frames_per_second,
                speed=table.speed,
            )

    def _open(self) -> Any:
        paths = [str(self._base / p) for p in (self._table.topology, self._table.trajectory)]
        try:
            with warnings.catch_warnings():
                # What MDAnalysis will change in its readers is no concern of who replays a file.
                warnings.simplefilter("ignore", DeprecationWarning)
                return MDAnalysis.Universe(*paths)
        except (OSError, ValueError, TypeError) as error:
            raise ConfigError(f"MDAnalysis cannot read {' with '.join(paths)}: {error}.") from error
