"""One run as a dashboard sees it, live or afterwards: read by any thread, bounded in memory."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from bridge.dashboard import graph, molecule, structures
from bridge.dashboard.about import About
from bridge.dashboard.follower import Follower
from bridge.dashboard.frames import FrameReader, Pick, Taken
from bridge.dashboard.links import Links
from bridge.dashboard.recording.pictures import Pictures
from bridge.dashboard.recording.writer import Recorder
from bridge.dashboard.sampling import FrameSampler, scalars_of
from bridge.dashboard.sources import PATIENCE, RECORDING, find_pictures, make_connect, restore
from bridge.dashboard.stores.columns import Columns, version_column
from bridge.dashboard.stores.histograms import histogram
from bridge.dashboard.stores.memory import Limits, Memory
from bridge.dashboard.stores.plain import fields, plain
from bridge.dashboard.stores.points import points
from bridge.dashboard.stores.results import true_offsets
from bridge.dashboard.stores.series import series
from bridge.dashboard.stores.table import Table as NumberTable
from bridge.errors import (
    ConfigError,
    OffsetOutOfRange,
    StagingError,
    TransportError,
    UnknownTopic,
)
from bridge.runs.directory import RunDirectory
from bridge.schema import StreamSchema

__all__ = ["Feed", "Table", "open_feed"]

Array = npt.NDArray[Any]

Bounds = tuple[float, float] | None


class Table(NamedTuple):
    """Arrays and what they mean."""

    meta: dict[str, Any]
    """Plain data."""
    arrays: dict[str, Array]
    """Name to array, little-endian."""


class Feed:
    """What a dashboard shows of one run.

    Every method may be called by any thread and returns plain data: numbers that are not finite are
    None. `at`, where there is one, is a Unix time in seconds: what was known then; None is now.

    Parameters
    ----------
    memory
        What is remembered.
    about
        What the folder of the run tells.
    follower
        Reads the run while it lasts; None for one that is over.
    reader
        Reads single frames from staging; None where there is none.
    pictures
        Frames that were recorded.
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
        self._recorder: Recorder | None = None
        self._sampler = None if reader is None else FrameSampler(reader, memory)
        if follower is not None and reader is not None:
            follower.on_look = self._on_look
        self._pipeline = about.pipeline
        self._links = Links(about)

    def _on_look(self) -> None:
        """Do what is to be done about once a second; in the follower's thread."""
        if self._sampler is not None:
            self._sampler.step()
        if self._reader is not None:
            self._reader.settle()

    def start(self, *, record: bool = False) -> None:
        """Begin to read, and to write a recording into the folder of the run."""
        if self._follower is not None:
            self._follower.start()
        if record and self.about.directory is not None:
            folder = self.about.directory.path / RECORDING
            self._recorder = Recorder(
                folder, self.memory, lambda: self.pipeline_name, self._picture
            )
            self._pictures = self._recorder.pictures
            self._recorder.start()

    def close(self) -> None:
        """End; waits for the threads. A recording is brought up to date first."""
        if self._recorder is not None:
            self._recorder.stop()
        if self._follower is not None:
            self._follower.stop()
        if self._reader is not None:
            self._reader.close()

    def __enter__(self) -> Feed:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def version(self) -> int:
        """Grows whenever there is news."""
        return self.memory.version

    @property
    def pipeline_name(self) -> str:
        """Name of the pipeline; empty while it is not known."""
        return self._pipeline or (self._follower.pipeline if self._follower is not None else "")

    def wait_until_read(self, timeout: float = 30.0) -> bool:
        """Wait until everything was read that staging held; returns whether that is so."""
        return self._follower is None or self._follower.caught_up.wait(timeout)

    # ------------------------------------------------------------------- the run

    def run(self, at: float | None = None) -> dict[str, Any]:
        """Return what the run is: its name, state, columns, maps and simulations; of all times."""
        about, memory = self.about, self.memory
        about.refresh()
        with memory.lock:
            names = sorted(memory.simulations.names)
            schemas = memory.simulations.schemas()
            state, outcome = self._state()
            start, end = memory.span
            engine = memory.latest.get(self.pipeline_name)
            columns = self._list_columns(schemas)
            follower = self._follower
            missed = dict(follower.missed) if follower is not None else {}
            skipped = dict(follower.skipped) if follower is not None else {}
            kept = {
                "rows": memory.results.seq,
                "kept": memory.results.sample.n,
                "stride": memory.results.stride,
                "events_forgotten": memory.events.last - len(memory.events),
                "ledger_forgotten": memory.ledger.forgotten,
                "missed": missed,
                "skipped": skipped,
                "unreadable": memory.unreadable,
            }
        started = about.report.get("started") or start
        wall = about.report.get("wall_time_s")
        return {
            "name": about.name or (follower.address if follower is not None else ""),
            "title": about.title or self.pipeline_name,
            "pipeline": self.pipeline_name,
            "state": state,
            "outcome": outcome,
            "reason": about.report.get("reason") if state == "ended" else None,
            "error": follower.error if follower is not None else "",
            "started": started,
            "ended": started + wall if state == "ended" and wall and started else None,
            "engine": engine.engine if engine is not None else None,
            "adapter": about.adapter,
            "time_unit": next((s.time_unit for s in schemas.values() if s.time_unit), ""),
            "temperature": about.temperature,
            "columns": columns,
            "embedding": self._embedding(),
            "maps": about.maps,
            "simulations": names,
            "replay": {"start": started, "end": end or time.time()},
            "rules": about.rules,
            "live": state in ("running", "waiting"),
            "memory": kept,
        }

    def _state(self) -> tuple[str, str | None]:
        outcome = self.about.report.get("outcome") if self.about.over else None
        follower, memory = self._follower, self.memory
        if follower is None or outcome or (not follower.connected and memory.restored):
            return "ended", outcome
        if not follower.connected:
            return ("lost" if memory.seen is not None else "waiting"), None
        rows = memory.simulations.rows()
        engine = memory.latest.get(self.pipeline_name)
        over = engine is not None and engine.state in ("finished", "stopped", "failed")
        if rows and over and all(r["state"] in ("finished", "lost") for r in rows):
            assert engine is not None
            return "ended", engine.state
        return ("running" if rows else "waiting"), None

    def _list_columns(self, schemas: dict[str, StreamSchema]) -> list[dict[str, Any]]:
        units: dict[str, str] = {}
        scalars: dict[str, int] = {}
        for schema in schemas.values():
            scalars |= dict.fromkeys(scalars_of(schema), 1)
            for v in schema.variables:
                units.setdefault(v.name, v.unit)
        results = self.memory.results
        out = [
            {
                "name": name, "size": size, "unit": units.get(name, ""), "source": "results",
                "kept": name in results.columns,
            }
            for name, size in results.sizes.items()
            if size
        ]  # fmt: skip
        out += [
            {"name": name, "size": 1, "unit": units[name], "source": "frames", "kept": True}
            for name in scalars
            if name not in results.sizes
        ]
        return out

    def _embedding(self) -> dict[str, Any] | None:
        known = self.memory.results.columns
        maps = sorted(self.about.maps, key=lambda m: not m.get("version"))
        for one in maps:
            return {"x": one["x"], "y": one["y"], "version": one.get("version") or None}
        for name, size in known.items():
            version = version_column(name, known)
            if size >= 2 and version:
                return {"x": f"{name}[0]", "y": f"{name}[1]", "version": version}
        for name, size in known.items():
            if size >= 2:
                return {"x": f"{name}[0]", "y": f"{name}[1]", "version": None}
        scalars = [n for n, size in known.items() if size == 1 and not n.endswith("_version")]
        if not scalars:
            return None
        if len(scalars) == 1:
            return {"x": "time", "y": scalars[0], "version": None}
        return {"x": scalars[0], "y": scalars[1], "version": None}

    def overview(self, at: float | None = None) -> dict[str, Any]:
        """Return a row for each simulation, and totals."""
        memory = self.memory
        with memory.lock:
            rows = memory.simulations.rows(at)
            if at is not None and not rows:
                rows = memory.simulations.rows_from(memory.results, at)
            commands = memory.ledger.last_commands(at)
            for row in rows:
                row["engine"] = row["engine"] or self.about.adapter
                row["last_command"] = commands.get(row["name"])
                row["spark"] = memory.simulations.spark(row["name"], at)
        speeds = [r["ns_per_day"] for r in rows if r["ns_per_day"] is not None]
        totals = {
            "simulations": len(rows),
            "frames": sum(r["frames"] for r in rows),
            "time": sum(max(0.0, r["time"] or 0.0) for r in rows),
            "time_unit": next((r["time_unit"] for r in rows if r["time_unit"]), ""),
            "rate": sum(r["rate"] or 0.0 for r in rows),
            "ns_per_day": sum(speeds) if speeds else None,
            "lag": sum(r["lag"] for r in rows),
            "dropped": sum(r["dropped"] for r in rows),
            "quarantined": sum(r["quarantined"] for r in rows),
            "states": {s: n for s in {r["state"] for r in rows}
                       if (n := sum(r["state"] == s for r in rows))},
        }  # fmt: skip
        return {"simulations": rows, "totals": totals, "alarms": []}

    def pipeline(self, at: float | None = None) -> dict[str, Any]:
        """Return the operators and those around them as a graph."""
        with self.memory.lock:
            made = graph.make_graph(self.memory, self.about, self.pipeline_name, at)
        if made["engine"] is not None:
            follower = self._follower
            stagers = follower.address if follower is not None else ""
            made["engine"]["links"] = self._links.find(self.pipeline_name, stagers)
        return made

    def events(self, after: int = 0, limit: int = 500, at: float | None = None) -> dict[str, Any]:
        """Return events behind a number, oldest first; with 0 the newest `limit` of all."""
        with self.memory.lock:
            return self.memory.events.read(after, limit, at)

    def ledger(
        self, after_revision: int = 0, limit: int = 500, at: float | None = None
    ) -> dict[str, Any]:
        """Return the lines of the ledger that changed; with 0 the newest `limit` of all."""
        memory = self.memory
        with memory.lock:
            revision, lines = memory.ledger.changes(after_revision, limit, at)
            return {
                "revision": revision,
                "total": len(memory.ledger) + memory.ledger.forgotten,
                "forgotten": memory.ledger.forgotten,
                "lines": [memory.ledger.as_data(line) for line in lines],
            }

    def capabilities(self) -> dict[str, list[dict[str, Any]]]:
        """Return what each simulation lets others do."""
        simulations = self.memory.simulations
        with self.memory.lock:
            return {n: [fields(c) for c in simulations.capabilities(n)] for n in simulations.names}

    # ------------------------------------------------------------------- results

    def _columns(self) -> Columns:
        schemas = self.memory.simulations.schemas().values()
        names = {name: 1 for schema in schemas for name in scalars_of(schema)}
        return Columns(self.memory.results, names)

    def _frames(self, columns: Columns, *texts: str) -> NumberTable | None:
        """Return numbers of frames, if some are asked for."""
        if self._sampler is None or not any(columns.of_frames(columns.meant(t)) for t in texts):
            return None
        self._sampler.want()
        return self._sampler.table

    def _base(self) -> float:
        return self.memory.span[0] or 0.0

    def points(
        self,
        x: str,
        y: str,
        colour: str = "time",
        since: str | None = None,
        limit: int = 100_000,
        at: float | None = None,
        simulations: Sequence[str] | None = None,
        version: str = "",
    ) -> Table:
        """Return points of two columns against each other.

        Parameters
        ----------
        x, y, colour
            Columns such as ``tica[0]``; ``time``, ``step``, ``wall``, ``simulation``, ``epoch``;
            or, for the colour, ``novelty`` and ``energy`` for what is most like it.
        since
            The cursor of the answer before, for what came since; None for all. Where
            ``meta["reset"]`` is true, the answer replaces all before it.
        limit
            Points at most; of more, an even sample, and ``meta["sampled"]`` says so.
        simulations
            Only of these.
        version
            Column with the version of the model; found by its name where it is left out. Rows of
            version 0 are left out.

        Returns
        -------
        Table
            ``x``, ``y``, ``colour`` (float32), ``simulation`` (uint16, index into
            ``meta["simulations"]``), ``offset`` (int64; -1 for frames that are gone), ``stamp``
            (float64, seconds since ``meta["stamp0"]``), ``version`` (uint16), ``step`` (int64) and
            ``time`` (float32), each of shape (n,); and where each simulation is now: ``head_x``,
            ``head_y``, ``head_simulation`` and ``head_offset``.

        Raises
        ------
        ConfigError
            If there is no such column.
        """
        with self.memory.lock:
            known = self._columns()
            answer = points(
                self.memory.results, known, x, y, colour, since=since, limit=max(1, limit), at=at,
                simulations=simulations, version=version, base=self._base(),
                frames=self._frames(known, x, y, colour),
            )  # fmt: skip
        return Table(*answer)

    def series(
        self,
        columns: Sequence[str],
        simulations: Sequence[str] | None = None,
        x: Literal["time", "wall", "step"] = "time",
        limit: int = 2000,
        since: str | None = None,
        at: float | None = None,
    ) -> Table:
        """Return columns over time.

        Each entry of ``meta["series"]`` names a simulation and a column; those of its ``index`` k
        are the arrays ``x<k>`` (float64), ``y<k>`` (float32) and ``e<k>`` (int32, the epoch: a
        line breaks where that changes). With ``wall``, `x` counts seconds since
        ``meta["stamp0"]``. `since` and ``reset`` are as for `points`; `limit` is of one series.

        Raises
        ------
        ConfigError
            If there is no such column.
        """
        with self.memory.lock:
            known = self._columns()
            answer = series(
                self.memory.results, known, columns, simulations=simulations, x=x,
                limit=max(1, limit), since=since, at=at, base=self._base(),
                frames=self._frames(known, *columns),
            )  # fmt: skip
        return Table(*answer)

    def histogram(
        self,
        x: str,
        y: str | None = None,
        bins: int | Sequence[int] = 60,
        range: Sequence[float] | Sequence[Bounds] | None = None,
        kind: Literal["counts", "free_energy"] = "counts",
        temperature: float | None = None,
        at: float | None = None,
        simulations: Sequence[str] | None = None,
    ) -> Table:
        """Return a histogram of one or two columns.

        Parameters
        ----------
        x, y
            Columns.
        bins
            Along each axis.
        range
            ``(low, high)`` of `x`, or one such pair for each axis; None for all there is.
        kind
            ``counts``, or ``free_energy``: ``-kT ln p``, its minimum at 0, in kJ/mol (in kT where
            no temperature is known), NaN where nothing was seen.
        temperature
            In kelvin; that of the run where it is left out.

        Returns
        -------
        Table
            ``values`` (float32, one axis or two, `x` first), ``x_edges``, ``y_edges`` (float64).

        Raises
        ------
        ConfigError
            If there is no such column, or the bins make no sense.
        """
        with self.memory.lock:
            known = self._columns()
            answer = histogram(
                self.memory.results, known, x, y, bins=bins, bounds=_bounds(range, y),
                kind=kind, temperature=temperature or self.about.temperature, at=at,
                simulations=simulations, frames=self._frames(known, x, *([y] if y else [])),
            )  # fmt: skip
        return Table(*answer)

    # -------------------------------------------------------------------- frames

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
            newest = self._reader.newest(simulation) if self._reader is not None else -1
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
            if self._reader is None:
                raise OffsetOutOfRange(
                    f"Frame {number} of {simulation!r} is not held: the run is over, and its "
                    "stager with it."
                )
            return self._reader.read(simulation, number, pick)
        except (StagingError, TransportError):
            if recorded is None:
                raise
            taken = recorded.read(simulation, number)
            return dataclasses.replace(taken, values=pick(taken.values))

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
        if self._reader is None:
            raise OffsetOutOfRange(f"There is no stager that holds frames of {simulation!r}.")
        number = self._reader.newest(simulation) if offset is None else offset
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


def _bounds(given: Any, y: str | None) -> tuple[Bounds, Bounds]:
    """Return the range of each axis, however it was written."""
    if given is None:
        return None, None
    values = list(given)
    if len(values) == 2 and all(isinstance(v, int | float) for v in values) and not y:
        return (float(values[0]), float(values[1])), None
    if len(values) == 4 and all(isinstance(v, int | float) for v in values):
        return (values[0], values[1]), (values[2], values[3])
    pairs = [None if v is None else tuple(v) for v in values]
    if len(pairs) > 2 or any(p is not None and len(p) != 2 for p in pairs):
        raise ConfigError(
            "The range of a histogram is a pair of numbers for each axis, such as [[0, 1], [0, 2]]."
        )
    return (*pairs, None, None)[:2]  # type: ignore[return-value]


def open_feed(
    run: RunDirectory | None = None,
    address: str | None = None,
    pipeline: str | None = None,
    *,
    keys: str = "",
    limits: Limits | None = None,
    record: bool = False,
    patience: float = PATIENCE,
) -> Feed:
    """Open the feed of a run, and begin to read it if it lasts.

    Parameters
    ----------
    run
        Folder of the run; None where there is only a stager.
    address
        Of the stager, or of several with commas between; that of the run where it is left out.
    pipeline
        Its name; that of the run, or that of the first engine that is heard of.
    keys
        Folder of key files, for an address with keys.
    limits
        How much is remembered.
    record
        Write a recording into the folder of the run, so that it can be replayed afterwards.
    patience
        Seconds without an answer after which the stager counts as lost.

    Raises
    ------
    ConfigError
        If neither a folder nor an address is given.
    """
    if run is None and not address:
        raise ConfigError("Name the folder of a run, or the address of a stager.")
    about = About(run)
    memory = Memory(limits)
    pictures = None
    if run is not None and not record:
        pictures = restore(run, about, memory)
    connect = make_connect(run, address, keys, about, patience=patience)
    follower = Follower(connect, memory, pipeline=pipeline or about.pipeline)
    follower.address = address or ""
    reader = FrameReader(make_connect(run, address, keys, about, recover=True, patience=patience))
    feed = Feed(memory, about, follower=follower, reader=reader, pictures=pictures)
    feed.start(record=record)
    return feed
