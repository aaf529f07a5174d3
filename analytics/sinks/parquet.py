"""A folder of Parquet files that holds each result once, however often it was computed."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from analytics.features.inputs import output_name
from analytics.sinks.tables import arrow, kinds_of, make_table
from analytics.statistics.schedule import check_count
from bridge.errors import ConfigError, PipelineError, SchemaError
from bridge.frames import FrameBatch
from bridge.pipeline import Context, GlobalOperator

__all__ = ["ParquetSink"]

_INDEX = ("offsets", "steps", "times", "epochs")


class ParquetSink(GlobalOperator):
    """Write columns to Parquet files, and let all rows pass.

    The name of a file says what is in it, and the same frames always go into the same file: work
    that is done again after a crash writes the same files again, and readers see each row once.
    A file appears under its name when it is complete; until then it has a hidden name, which
    readers (pandas, Spark, PyArrow) skip.

    The operator is global, so that one process writes, whichever the engine. On a cluster that is
    the coordinator: give a folder that it can reach.

    Every file has the columns ``simulation``, ``offset``, ``step``, ``time`` and ``epoch``. An
    array is a list of fixed size, whose shape is in the metadata of its field (``shape``).

    Parameters
    ----------
    folder
        Where the files go; made if its parent is there.
    columns
        What to store; empty for every column that arrives, positions and all.
    window
        Each row is a window, with the columns ``<window>_start`` and ``<window>_end``, and gets a
        file of its own, ``<pipeline>@<simulation>@<offset>-<start>-<end>.parquet``, at once. Empty
        where rows are frames.
    frames_per_file
        Otherwise rows are kept until those of so many offsets are together (or the stream ends),
        and go to ``<pipeline>@<simulation>@<first>-<stop>.parquet``.
    compression
        ``zstd``, ``snappy``, ``gzip`` or ``none``.

    Raises
    ------
    ConfigError
        If a parameter is wrong.
    MissingExtra
        If PyArrow is not installed.
    PipelineError
        If a file cannot be written: the disk is full, the folder's parent is missing.
    SchemaError
        If a column is missing, cannot be stored, or comes with another type or shape than before.
    """

    def __init__(
        self,
        *,
        folder: str | os.PathLike[str],
        columns: str | Sequence[str] = (),
        window: str = "",
        frames_per_file: int = 1000,
        compression: str = "zstd",
    ) -> None:
        if not str(folder):
            raise ConfigError("The parameter 'folder' must name a folder.")
        if compression not in ("zstd", "snappy", "gzip", "none"):
            raise ConfigError(
                f"The parameter 'compression' is {compression!r}; it must be 'zstd', 'snappy', "
                "'gzip' or 'none'."
            )
        arrow()
        self.folder = str(folder)
        self.columns = (columns,) if isinstance(columns, str) else tuple(columns)
        self.window = output_name(window, "window") if window else ""
        self.frames_per_file = check_count(frames_per_file, "frames_per_file")
        self.compression = compression
        self._kinds: dict[str, str] = {}
        self._kept: dict[str, list[FrameBatch]] = {}

    def reads(self) -> tuple[str, ...] | None:
        """Return the columns that `process` reads; None where all are stored."""
        if not self.columns:
            return None
        borders = (f"{self.window}_start", f"{self.window}_end") if self.window else ()
        return (*self.columns, *borders)

    def process(self, batch: FrameBatch, context: Context) -> FrameBatch:
        """Write what is complete, and keep the rest."""
        if not len(batch):
            return batch
        names = self.columns or tuple(batch.columns)
        self._check(kinds_of(batch, names), batch)
        if self.window:
            starts, ends = batch[f"{self.window}_start"], batch[f"{self.window}_end"]
            for i in range(len(batch)):
                row = batch.take(slice(i, i + 1)).select(names)
                span = f"{row.first:012d}-{float(starts[i]):.9g}-{float(ends[i]):.9g}"
                self._write(row, span, context)
            return batch
        wanted = batch.select(names)
        places = wanted.offsets // self.frames_per_file
        cuts = np.flatnonzero(np.diff(places)) + 1
        for part in np.split(np.arange(len(batch)), cuts):
            rows = wanted.take(part)
            kept = self._kept.setdefault(batch.simulation, [])
            if kept and kept[0].first // self.frames_per_file != places[part[0]]:
                self._flush(batch.simulation, context)
            self._kept.setdefault(batch.simulation, []).append(rows)
        return batch

    def finish(self, context: Context) -> None:
        """Write what was kept."""
        for simulation in sorted(self._kept):
            self._flush(simulation, context)

    def save(self) -> dict[str, Any]:
        """Return the rows that wait for their file."""
        state: dict[str, Any] = {"kinds": dict(self._kinds), "names": sorted(self._kept)}
        for place, simulation in enumerate(state["names"]):
            kept = FrameBatch.concatenate(self._kept[simulation])
            state |= {f"{place}.{name}": getattr(kept, name).copy() for name in _INDEX}
            state |= {f"{place}:{name}": value.copy() for name, value in kept.columns.items()}
        return state

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up a state."""
        self._kinds = dict(state["kinds"])
        self._kept = {}
        for place, simulation in enumerate(state["names"]):
            offsets, steps, times, epochs = (state[f"{place}.{name}"] for name in _INDEX)
            head = f"{place}:"
            columns = {k.removeprefix(head): v for k, v in state.items() if k.startswith(head)}
            kept = FrameBatch(
                simulation, offsets, steps=steps, times=times, epochs=epochs, columns=columns
            )
            self._kept[simulation] = [kept]

    # ------------------------------------------------------------------- files

    def _check(self, kinds: dict[str, str], batch: FrameBatch) -> None:
        """Refuse what would make a folder that no reader can take as one table."""
        if not self._kinds:
            self._kinds = kinds
        if kinds == self._kinds:
            return
        for name in sorted({*kinds, *self._kinds}):
            was, now = self._kinds.get(name, "missing"), kinds.get(name, "missing")
            if was != now:
                raise SchemaError(
                    f"The column {name!r} of {batch.simulation!r} is {now} at offset "
                    f"{batch.first}, and was {was} before; one Parquet dataset holds one kind. "
                    "Name columns that all simulations share in 'columns'."
                )

    def _flush(self, simulation: str, context: Context) -> None:
        rows = FrameBatch.concatenate(self._kept.pop(simulation))
        first = rows.first // self.frames_per_file * self.frames_per_file
        self._write(rows, f"{first:012d}-{first + self.frames_per_file:012d}", context)

    def _write(self, rows: FrameBatch, span: str, context: Context) -> None:
        table = make_table(rows, tuple(rows.columns), context.pipeline)
        folder = Path(self.folder)
        name = f"{context.pipeline}@{rows.simulation}@{span}.parquet"
        hidden = folder / f".{name}.{os.getpid()}"
        try:
            folder.mkdir(exist_ok=True)
            try:
                with hidden.open("wb") as file:
                    arrow().parquet.write_table(table, file, compression=self.compression)
                    file.flush()
                    os.fsync(file.fileno())
                hidden.replace(folder / name)
            except BaseException:
                hidden.unlink(missing_ok=True)
                raise
        except OSError as error:
            raise PipelineError(_explain(error, folder, name)) from error


def _explain(error: OSError, folder: Path, name: str) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"There is no room left for {name!r} in {str(folder)!r}; make room, and start again: "
            "what is written already stays, and nothing is written twice."
        )
    if error.errno == errno.ENOENT:
        return (
            f"The folder {str(folder)!r} cannot be made, since {str(folder.parent)!r} is not "
            "there; make it, or name another 'folder'."
        )
    return f"The file {name!r} cannot be written in {str(folder)!r}: {error}."
