"""One run as a dashboard sees it, live or afterwards: read by any thread, bounded in memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from bridge.dashboard import graph
from bridge.dashboard.about import About
from bridge.dashboard.follower import Follower
from bridge.dashboard.frames import FrameReader
from bridge.dashboard.links import Links
from bridge.dashboard.recording.pictures import Pictures
from bridge.dashboard.recording.writer import Recorder
from bridge.dashboard.sampling import FrameSampler, scalars_of
from bridge.dashboard.showing import FrameViews
from bridge.dashboard.sources import PATIENCE, RECORDING, go_on, make_connect, restore
from bridge.dashboard.spaces import guess_embedding, list_columns
from bridge.dashboard.stores.columns import Columns
from bridge.dashboard.stores.histograms import histogram
from bridge.dashboard.stores.memory import Limits, Memory
from bridge.dashboard.stores.plain import fields
from bridge.dashboard.stores.points import points
from bridge.dashboard.stores.series import series
from bridge.dashboard.stores.simulations import SimulationStore
from bridge.dashboard.stores.table import Table as NumberTable
from bridge.dashboard.tables import Bounds, Table, read_bounds
from bridge.errors import (
    ConfigError,
)
from bridge.runs.directory import RunDirectory

__all__ = ["Feed", "Table", "open_feed"]


class Feed(FrameViews):
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
        super().__init__(memory, about, follower=follower, reader=reader, pictures=pictures)
        self._recorder: Recorder | None = None
        self._sampler = None if reader is None else FrameSampler(reader, memory)
        if follower is not None and reader is not None:
            follower.on_look = self._on_look
        self._pipeline = about.pipeline
        self._slower = 1.0
        self._scalars: tuple[SimulationStore | None, int, dict[str, int]] = (None, 0, {})
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

    def listen(self, told: Callable[[], None]) -> None:
        """Have something called when a `version` has grown, by the thread that reads the run."""
        if self._follower is not None:
            self._follower.on_news = told

    def watch(self, paces: Mapping[str, float], slower: float = 1.0) -> None:
        """Read the run as often as is looked at, from now on; see `Follower.watch`."""
        self._slower = slower
        if self._follower is not None:
            self._follower.watch(paces, slower)

    def __enter__(self) -> Feed:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def version(self, kinds: Sequence[str]) -> int:
        """Return a number that grows whenever there is news of some kinds; see `Memory`."""
        return sum(self.memory.versions[kind] for kind in kinds)

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
            columns, embedding = list_columns(memory), guess_embedding(memory, about)
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
        report = about.report if about.over else {}
        started = report.get("started") or start
        wall = report.get("wall_time_s")
        return {
            "name": about.name or (follower.address if follower is not None else ""),
            "title": about.title or self.pipeline_name,
            "pipeline": self.pipeline_name,
            "state": state,
            "outcome": outcome,
            "reason": report.get("reason") if state == "ended" else None,
            "error": follower.error if follower is not None else "",
            "started": started,
            "ended": started + wall if state == "ended" and wall and started else None,
            "engine": engine.engine if engine is not None else None,
            "adapter": about.adapter,
            "time_unit": next((s.time_unit for s in schemas.values() if s.time_unit), ""),
            "temperature": about.temperature,
            "columns": columns,
            "embedding": embedding,
            "maps": about.maps,
            "simulations": names,
            "replay": {"start": started, "end": end or time.time()},
            "rules": about.rules,
            "live": state in ("running", "waiting"),
            "slower": self._slower,
            "memory": kept,
        }

    def _state(self) -> tuple[str, str | None]:
        outcome = self.about.report.get("outcome") if self.about.over else None
        follower, memory = self._follower, self.memory
        if follower is None or outcome or (not follower.connected and memory.restored):
            return "ended", outcome
        if not follower.connected:
            return ("lost" if memory.seen is not None else "waiting"), None
        engine = memory.latest.get(self.pipeline_name)
        if engine is not None and engine.state in ("finished", "stopped", "failed"):
            rows = memory.simulations.rows()
            if rows and all(r["state"] in ("finished", "lost") for r in rows):
                return "ended", engine.state
        return ("running" if len(memory.simulations.latest) else "waiting"), None

    def overview(self, at: float | None = None) -> dict[str, Any]:
        """Return a row for each simulation, and totals."""
        memory = self.memory
        with memory.lock:
            mean = at is None and self._state()[0] == "ended"
            rows = memory.simulations.rows(at, mean=mean)
            if at is not None and not rows:
                rows = memory.simulations.rows_from(memory.results, at)
            commands = memory.ledger.last_commands(at, over=mean)
            for row in rows:
                row["engine"] = row["engine"] or self.about.adapter
                row["last_command"] = commands.get(row["name"])
                row["spark"] = memory.simulations.spark(row["name"], at, whole=mean)
        rates = [r["rate"] for r in rows if r["rate"] is not None]
        speeds = [r["ns_per_day"] for r in rows if r["ns_per_day"] is not None]
        totals = {
            "simulations": len(rows),
            "frames": sum(r["frames"] for r in rows),
            "time": sum(max(0.0, r["time"] or 0.0) for r in rows),
            "time_unit": next((r["time_unit"] for r in rows if r["time_unit"]), ""),
            "rate": sum(rates) if rates or not rows else None,
            "mean": mean,
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
            over = at is None and self._state()[0] == "ended"
            made = graph.make_graph(self.memory, self.about, self.pipeline_name, at, over=over)
        if made["engine"] is not None:
            follower = self._follower
            stagers = follower.address if follower is not None else ""
            # The engine's page ends with it; a cluster's stays.
            page = "" if over else str(made["engine"].get("page", ""))
            made["engine"]["links"] = self._links.find(
                self.pipeline_name, stagers, engine=made["engine"]["engine"], page=page
            )
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
        simulations = self.memory.simulations
        known, declared, names = self._scalars
        if known is not simulations or declared != simulations.declared:
            schemas = simulations.schemas().values()
            names = {name: 1 for schema in schemas for name in scalars_of(schema)}
            self._scalars = simulations, simulations.declared, names
        return Columns(self.memory.results, names)

    def _frames(self, columns: Columns, *texts: str) -> NumberTable | None:
        """Return numbers of frames, if some are asked for."""
        if self._sampler is None or not any(columns.of_frames(columns.meant(t)) for t in texts):
            return None
        self._sampler.want()
        return self._sampler.table

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
            (float64, seconds since ``meta["stamp0"]``), ``version`` (uint32), ``step`` (int64) and
            ``time`` (float32), each of shape (n,); and where each simulation is now: ``head_x``,
            ``head_y``, ``head_simulation`` and ``head_offset``. ``meta["versions"]`` has the
            versions of the model; of what came since, those alone that have more points now.

        Raises
        ------
        ConfigError
            If there is no such column.
        """
        with self.memory.lock:
            known = self._columns()
            answer = points(
                self.memory.results, known, x, y, colour, since=since, limit=max(1, limit), at=at,
                simulations=simulations, version=version, base=self.memory.base,
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
        between: Sequence[float] | None = None,
    ) -> Table:
        """Return columns over time.

        Each entry of ``meta["series"]`` names a simulation and a column; those of its ``index`` k
        are the arrays ``x<k>`` (float64), ``y<k>`` (float32) and ``e<k>`` (int32, the epoch: a
        line breaks where that changes). With ``wall``, `x` counts seconds since
        ``meta["stamp0"]``. `since` and ``reset`` are as for `points`; `limit` is of one series.
        Rows whose `x` is not `between` two values are left out before any are thinned out.

        Raises
        ------
        ConfigError
            If there is no such column.
        """
        with self.memory.lock:
            known = self._columns()
            answer = series(
                self.memory.results, known, columns, simulations=simulations, x=x,
                limit=max(1, limit), since=since, at=at, base=self.memory.base, between=between,
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
                self.memory.results, known, x, y, bins=bins, bounds=read_bounds(range, y),
                kind=kind, temperature=temperature or self.about.temperature, at=at,
                simulations=simulations, frames=self._frames(known, x, *([y] if y else [])),
            )  # fmt: skip
        return Table(*answer)


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
    if run is not None and record:
        go_on(run, memory)
    elif run is not None:
        pictures = restore(run, about, memory)
    connect = make_connect(run, address, keys, about, patience=patience)
    follower = Follower(connect, memory, pipeline=pipeline or about.pipeline)
    follower.address = address or ""
    reader = FrameReader(make_connect(run, address, keys, about, recover=True, patience=patience))
    feed = Feed(memory, about, follower=follower, reader=reader, pictures=pictures)
    feed.start(record=record)
    return feed
