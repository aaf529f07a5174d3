"""Frames of a run as they are shown: particles, cells, slices of fields, and files of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bridge.dashboard import molecule, structures
from bridge.dashboard.about import About
from bridge.dashboard.follower import Follower
from bridge.dashboard.frames import FrameReader, Pick, Taken
from bridge.dashboard.recording.pictures import Pictures
from bridge.dashboard.sources import RECORDING, find_pictures
from bridge.dashboard.stores.columns import Columns
from bridge.dashboard.stores.memory import Memory
from bridge.dashboard.stores.plain import plain
from bridge.dashboard.stores.results import true_offsets
from bridge.dashboard.tables import Table
from bridge.errors import (
    ConfigError,
    OffsetOutOfRange,
    StagingError,
    TransportError,
    UnknownTopic,
)
from bridge.schema import StreamSchema

__all__ = ["FrameViews"]

Array = npt.NDArray[Any]


class FrameViews:
    """The part of a `bridge.dashboard.feed.Feed` that shows frames; any thread may ask.

    Parameters
    ----------
    memory, about, follower, reader, pictures
        As for the feed.
    """

    def __init__(
        self,
        memory: Memory,
        about: About,
        *,
        follower: Follower | None = None,
        reader: FrameReader | None = None,
        pictures: Pictures | None = None,
    ) -> None:
        self.memory = memory
        self.about = about
        self._follower = follower
        self._reader = reader
        self._pictures = pictures

    def _schema(self, simulation: str) -> StreamSchema:
        with self.memory.lock:
            schema = self.memory.simulations.schema(simulation)
        if schema is None:
            raise UnknownTopic(
                f"Nothing is known of the frames of {simulation!r}: there is no such simulation, "
                "or it has not begun."
            )
        return schema

    def topology(
        self, simulation: str, atoms: molecule.Atoms = None, limit: int = 5000
    ) -> dict[str, Any]:
        """Return the particles of a simulation, those that `frame` shows with the same arguments.

        Raises
        ------
        UnknownTopic
            If there is no such simulation.
        ConfigError
            If the selection makes no sense.
        """
        return molecule.describe(self._schema(simulation), atoms, max(1, limit))

    def frame(
        self,
        simulation: str,
        offset: int | str = "latest",
        atoms: molecule.Atoms = None,
        limit: int = 5000,
        at: float | None = None,
        field: str = "",
        axis: int = 0,
        index: int | None = None,
    ) -> Table:
        """Return where the particles are in one frame, or a slice of a field.

        Parameters
        ----------
        simulation, offset
            Which frame; ``latest`` for the newest.
        atoms, limit
            ``all``, ``ca``, ``solute`` or indices; and how many at most (of more, every k-th).
        field, axis, index
            Name of a field instead, and which plane of three axes.

        Returns
        -------
        Table
            ``positions`` (float32 of shape (n, 3), in nm) and, where there is one, ``box`` (float32
            of shape (3, 3), in nm); or ``field`` (float32, two axes).

        Raises
        ------
        OffsetOutOfRange
            If the frame is not held any more.
        UnknownTopic, ConfigError
            If there is no such simulation, selection or field.
        """
        schema = self._schema(simulation)
        number = self._offset(simulation, offset, at)
        variable = molecule.positions_of(schema)
        grids = {f["name"] for f in molecule.fields_of(schema)}
        if not field and variable is None and grids:
            field = next(f["name"] for f in molecule.fields_of(schema))
        if field:
            if field not in grids:
                raise ConfigError(
                    f"{simulation!r} has no field {field!r}; it has: {', '.join(sorted(grids))}."
                )
            return self._field(schema, simulation, number, field, axis, index)
        if not schema.variables:
            raise OffsetOutOfRange(f"No frame of {simulation!r} is held: the run is over.")
        if variable is None:
            raise ConfigError(f"The frames of {simulation!r} have neither positions nor fields.")
        chosen, selection, every = molecule.select(
            schema.topology, variable.shape[0], atoms, max(1, limit)
        )

        def pick(values: dict[str, Array]) -> dict[str, Array]:
            out = {"positions": molecule.place_atoms(values[variable.name], chosen, variable.unit)}
            box = molecule.box_of(schema, values, variable.unit)
            return out if box is None else {**out, "box": box}

        taken = self._read(simulation, number, pick)
        meta = {
            **self._about_frame(taken, schema),
            "unit": "nm" if molecule.to_nm(variable.unit) else variable.unit,
            "selection": selection,
            "every": every,
            "n_atoms": variable.shape[0],
        }
        return Table(meta, taken.values)

    def _field(
        self,
        schema: StreamSchema,
        simulation: str,
        number: int,
        field: str,
        axis: int,
        index: int | None,
    ) -> Table:
        variable = schema.variable(field)
        which = [0, 1]

        def pick(values: dict[str, Array]) -> dict[str, Array]:
            plane, *which[:] = molecule.slice_field(values[field], axis, index)
            return {"field": plane}

        taken = self._read(simulation, number, pick)
        at, every = which
        plane = taken.values["field"]
        finite = plane[np.isfinite(plane)]
        meta = {
            **self._about_frame(taken, schema),
            "field": field,
            "unit": variable.unit,
            "whole": list(variable.shape),
            "shape": list(plane.shape),
            "axis": axis,
            "index": at,
            "every": every,
            "min": float(finite.min()) if len(finite) else None,
            "max": float(finite.max()) if len(finite) else None,
        }
        return Table(meta, {"field": plane})

    def _offset(self, simulation: str, offset: int | str, at: float | None) -> int:
        if not isinstance(offset, str):
            return int(offset)
        if offset != "latest":
            if not offset.isdecimal():
                raise ConfigError(f"A frame is named by its offset or 'latest', not {offset!r}.")
            return int(offset)
        memory = self.memory
        with memory.lock:
            if at is None:
                status = memory.simulations.status(simulation)
                known = status.end - 1 if status is not None else -1
        if at is None:
            reader = self._reader if self._reachable() else None
            newest = reader.newest(simulation) if reader is not None else -1
            pictures = self._recorded() if newest < 0 else None
            if pictures is not None:
                newest = pictures.newest(simulation)
            return newest if newest >= 0 else known
        pictures = self._recorded()
        recorded = -1 if pictures is None else pictures.newest(simulation, at)
        if recorded >= 0:
            return recorded
        with memory.lock:
            number = memory.results.number(simulation)
            best = -1
            for table in (memory.results.sample, memory.results.recent):
                rows = (table.key("simulation") == number) & (table.key("stamp") <= at)
                best = max(best, int(table.key("offset")[rows].max(initial=-1)))
            return best

    def _read(self, simulation: str, offset: int, pick: Pick) -> Taken:
        """Return a frame from staging, else from the recording."""
        number = max(0, offset)
        recorded = self._recorded()
        try:
            if self._reader is None or not self._reachable():
                raise OffsetOutOfRange(
                    f"Frame {number} of {simulation!r} is not held: the stager that held it does "
                    "not answer."
                )
            return self._reader.read(simulation, number, pick)
        except (StagingError, TransportError):
            if recorded is None:
                raise
            taken = recorded.read(simulation, number)
            return dataclasses.replace(taken, values=pick(taken.values))

    def _reachable(self) -> bool:
        """Return whether it is worth while to ask staging: it answers, or would say no at once."""
        follower = self._follower
        return follower is None or follower.connected or self.about.directory is not None

    def _recorded(self) -> Pictures | None:
        """Return the recorded frames: those that another dashboard wrote, if this one does not."""
        directory = self.about.directory
        away = self._follower is None or not self._follower.connected
        if self._pictures is None and directory is not None and away:
            self._pictures = find_pictures(directory.path / RECORDING)
        return self._pictures

    def _picture(self, simulation: str, offset: int | None) -> Taken:
        """Return what is recorded of a frame: positions, cell and fields, no more than is shown."""
        schema = self._schema(simulation)
        follower = self._follower
        if self._reader is None or follower is None or not follower.connected:
            raise StagingError(f"There is no stager that holds frames of {simulation!r}.")
        number = self._reader.newest(simulation) if offset is None else offset
        if number < 0:
            raise StagingError(f"There is no frame of {simulation!r}.")
        return self._reader.read(simulation, number, lambda v: molecule.keep(schema, v))

    def _about_frame(self, taken: Taken, schema: StreamSchema) -> dict[str, Any]:
        about = {
            "simulation": taken.simulation,
            "offset": taken.offset,
            "step": taken.step,
            "time": taken.time,
            "time_unit": schema.time_unit,
            "epoch": taken.epoch,
            "stamp": taken.stamp or None,
        }
        return {**dict(plain(about)), **self._row_of(taken.simulation, taken.offset)}

    def _row_of(self, simulation: str, offset: int) -> dict[str, Any]:
        """Return what the results say of a frame: the model's version, and all numbers."""
        memory = self.memory
        with memory.lock:
            results = memory.results
            number = results.number(simulation)
            for table in (results.recent, results.sample):
                found = np.flatnonzero(
                    (table.key("offset") == offset) & (table.key("simulation") == number)
                )
                if len(found):
                    row = int(found[-1])
                    values = {n: plain(table.column(n)[row]) for n in table.columns}
                    versions = [v[0] for n, v in values.items() if n.endswith("_version") and v[0]]
                    return {"version": int(versions[0]) if versions else None, "results": values}
        return {"version": None, "results": None}

    def export_frames(
        self,
        frames: Sequence[tuple[str, int]],
        kind: Literal["pdb", "xtc", "csv"],
        atoms: molecule.Atoms = "all",
    ) -> bytes:
        """Return frames as a file.

        Parameters
        ----------
        frames
            Simulation and offset of each; for PDB and XTC, all must have the same atoms.
        kind
            ``pdb`` (one model each), ``xtc`` (needs MDAnalysis), or ``csv``: one line for each
            frame, with its results.
        atoms
            As for `frame`; no atom is left out of what is selected.

        Raises
        ------
        OffsetOutOfRange, UnknownTopic, ConfigError, MissingExtra
            If a frame is not held, they do not fit together, or something is not installed.
        """
        if kind not in ("pdb", "xtc", "csv"):
            raise ConfigError(f"Frames are exported as pdb, xtc or csv, not as {kind!r}.")
        if not frames:
            raise ConfigError("No frames were named; name at least one, as simulation:offset.")
        if kind == "csv":
            return self._csv(frames)
        placed: list[structures.Placed] = []
        for simulation, offset in frames:
            one = self.frame(simulation, offset, atoms, limit=1 << 40)
            placed.append((one.arrays["positions"], one.arrays.get("box"), one.meta))
        if len({len(p) for p, _, _ in placed}) > 1:
            raise ConfigError("The frames have different numbers of atoms; export them apart.")
        if kind == "xtc":
            return structures.to_xtc(placed)
        return structures.to_pdb(self.topology(frames[0][0], atoms, 1 << 40), placed)

    def _csv(self, frames: Sequence[tuple[str, int]]) -> bytes:
        memory = self.memory
        with memory.lock:
            header = ["simulation", "offset", "step", "time", "wall"]
            names: list[str] = []
            for name, size in memory.results.columns.items():
                names += [name] if size == 1 else [f"{name}[{i}]" for i in range(size)]
            rows = []
            for simulation, offset in frames:
                number = memory.results.number(simulation)
                for table in (memory.results.recent, memory.results.sample):
                    places = true_offsets(table.key("offset"))
                    found = np.flatnonzero((places == offset) & (table.key("simulation") == number))
                    if len(found):
                        at = found[-1:]
                        keys = [table.key(k)[at[0]].item() for k in ("step", "time", "stamp")]
                        values = [float(Columns.pick(table, at, n)[0]) for n in names]
                        rows.append([simulation, offset, *keys, *values])
                        break
                else:
                    rows.append([simulation, offset, "", "", "", *([""] * len(names))])
        return structures.to_csv([*header, *names], rows)
