"""A stream as a trajectory of MDAnalysis: a Universe over a simulation that runs, or ran.

Importing this module lets MDAnalysis know of it::

    import MDAnalysis as mda
    import sim_adapters.mdanalysis

    u = mda.Universe("topol.psf", "headrace://127.0.0.1:5555/villin")
    for ts in u.trajectory:                  # until the simulation ends; waits for frames
        print(ts.time, u.select_atoms("name CA").radius_of_gyration())

Without a topology file, ``mda.Universe("headrace://127.0.0.1:5555/villin")`` takes what the stream
says of its atoms. While the simulation runs, the number of frames is unknown: analyses are run with
`run_analysis`. Once it has ended, the trajectory is like a file: ``len(u.trajectory)``,
``u.trajectory[-1]`` and every analysis's own ``run()`` work.
"""

from __future__ import annotations

import contextlib
import difflib
import inspect
import os
import weakref
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bridge.errors import ConfigError, HeadraceError, MissingExtra, OffsetOutOfRange, StagingError
from bridge.frames import Frame
from bridge.schema import StreamSchema, Variable
from bridge.staging.rendezvous import resolve
from sim_adapters.mdanalysis_topology import count_atoms, make_topology
from sim_adapters.mdanalysis_units import to_mdanalysis
from sim_adapters.stream_source import StreamSource

try:
    from MDAnalysis.coordinates.base import ReaderBase
    from MDAnalysis.lib.mdamath import triclinic_box
    from MDAnalysis.lib.util import store_init_arguments
    from MDAnalysis.topology.base import TopologyReaderBase
except ImportError as error:
    raise MissingExtra("MDAnalysis", "mdanalysis", "reading streams with MDAnalysis") from error

__all__ = ["PREFIX", "HeadraceParser", "HeadraceReader"]

PREFIX = "headrace://"
"""What names of streams begin with: ``headrace://HOST:PORT/NAME``."""

_QUANTITIES = {"positions": "length", "velocities": "velocity", "forces": "force", "box": "length"}
_VECTORS = ("positions", "velocities", "forces")


def _is_stream(thing: Any) -> bool:
    return isinstance(thing, str) and thing.startswith(PREFIX)


def _open(
    filename: str,
    *,
    stager: str | None = None,
    run_directory: Path | str | None = None,
    keys: Any = None,
    timeout: float = 10.0,
    patience: float = 60.0,
    so_far: bool = False,
    group: str = "",
    **others: Any,
) -> StreamSource:
    _check_options(others)
    address, name = "", filename
    if _is_stream(filename):
        address, _, name = filename.removeprefix(PREFIX).rpartition("/")
    parts = [p if "://" in p else f"tcp://{p}" for p in address.split(",") if p]
    if stager and parts:
        raise ConfigError(f"The stager is given twice: in {filename!r}, and as stager={stager!r}.")
    if not name:
        raise ConfigError(f"{filename!r} names no simulation; write headrace://HOST:PORT/NAME.")
    folder = None if run_directory is None else Path(run_directory)
    return StreamSource(
        resolve(",".join(parts) or stager, folder, timeout=timeout),
        name,
        keys=keys,
        timeout=timeout,
        patience=patience,
        so_far=so_far,
        group=group,
    )


def _check_options(others: Mapping[str, Any]) -> None:
    # MDAnalysis hands every option to every reader and parser; a slip of the pen is told all the
    # same.
    ours = [p for p in inspect.signature(_open).parameters if p not in ("filename", "others")]
    for other in others:
        near = difflib.get_close_matches(other, [*ours, "names", "units"], 1, 0.8)
        if near and other not in ("names", "units"):
            raise ConfigError(f"Nobody knows the option {other!r}; did you mean {near[0]!r}?")


def _name(names: Mapping[str, str] | None, what: str) -> str:
    return (names or {}).get(what, what)


class HeadraceParser(TopologyReaderBase):  # type: ignore[misc]
    """Topology from a stream's schema; a `Universe` makes it."""

    format = "HEADRACE"

    @staticmethod
    def _format_hint(thing: Any) -> bool:
        return _is_stream(thing)

    def parse(self, names: Mapping[str, str] | None = None, **kwargs: Any) -> Any:
        """Return the topology; options are those of `HeadraceReader`."""
        with _open(str(self.filename), **{**kwargs, "group": ""}) as source:
            schema = source.schema
        n_atoms = count_atoms(schema, tuple(_name(names, v) for v in _VECTORS))
        return make_topology(schema, n_atoms)


class HeadraceReader(ReaderBase):  # type: ignore[misc]
    """Trajectory reader over a stream; a `Universe` makes it, with options given by keyword.

    Frame 0 is the oldest frame that the stream held when the reader was opened. Frames can be read
    in any order as long as the stager holds them; one that has not come yet is waited for.
    Positions, velocities and forces are float32 in Å, Å/ps and kJ/(mol Å), times in ps. ``ts.data``
    has the frame's ``step``, ``epoch`` and ``offset``, and the stream's other variables under their
    own names and in their own units.

    Parameters
    ----------
    filename
        ``headrace://HOST:PORT/NAME``; several stagers are separated by commas. With
        ``format="HEADRACE"`` the simulation's name alone, and the stager given by `stager`,
        ``HEADRACE_STAGER`` or `run_directory`.
    stager, run_directory, keys, timeout
        See `sim_adapters.link.link`.
    patience
        Seconds to wait for the stream to begin, and for each frame.
    so_far
        Take the frames that are there now for the whole trajectory.
    group
        Name of a consumer group, see `sim_adapters.stream_source.StreamSource`.
    names
        Where variables have other names: of ``positions``, ``velocities``, ``forces`` and ``box``.
    units
        Units of variables that declare none, and of ``time``.
    convert_units
        False leaves values in the stream's units.

    Raises
    ------
    ConfigError
        If the stream has no positions, velocities or forces, or units that cannot be converted.
    NobodyListening, StagingError
        If there is no stager, or no frame within `patience`.
    """

    format = "HEADRACE"
    units: Mapping[str, str] = {
        "time": "ps", "length": "Angstrom", "velocity": "Angstrom/ps", "force": "kJ/(mol*Angstrom)",
    }  # fmt: skip

    @store_init_arguments  # type: ignore[untyped-decorator]
    def __init__(
        self,
        filename: str,
        *,
        convert_units: bool = True,
        names: Mapping[str, str] | None = None,
        units: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        self._source: StreamSource | None = None
        self._close_source: Callable[[], Any] | None = None
        super().__init__(filename, convert_units=convert_units, **kwargs)
        self._names = {what: _name(names, what) for what in _QUANTITIES}
        self._units = dict(units or {})
        self._options = kwargs
        self._dt: float | None = None
        self._begin()
        try:
            self._read_frame(0)
        except BaseException:
            self.close()
            raise

    def _begin(self) -> None:
        source = self._source = _open(self.filename, **self._options)
        # Universes are dropped, not closed, and nobody knows in which order a ring of garbage is
        # finalized: this comes before anything in it, as the source is kept from being part of it.
        self._close_source = weakref.finalize(self, _close, source, os.getpid())
        try:
            self._look_at(source.schema)
        except BaseException:
            self.close()
            raise

    def _look_at(self, schema: StreamSchema) -> None:
        self.n_atoms = count_atoms(schema, tuple(self._names[v] for v in _VECTORS))
        self._vectors = {
            w: n for w, n in self._names.items() if w in _VECTORS and n in schema.names
        }
        known = set(self._names.values())
        self._others = [n for n in schema.names if n not in known]
        self._factors = self._find_factors(schema)
        self._number = -1
        self.ts = self._Timestep(
            self.n_atoms,
            reader=self,
            **self._ts_kwargs,
            **{w: w in self._vectors for w in _VECTORS},
        )

    def _find_factors(self, schema: StreamSchema) -> dict[str, float]:
        if not self.convert_units:
            return dict.fromkeys((*_QUANTITIES, "time"), 1.0)
        out = {}
        for what, quantity in _QUANTITIES.items():
            name = self._names[what]
            if name in schema.names:
                variable: Variable = schema.variable(name)
                unit = self._units.get(what) or self._units.get(name) or variable.unit
                out[what] = to_mdanalysis(unit, quantity, f"variable {name}")
        unit = self._units.get("time") or schema.time_unit
        # A simulation without a unit of time has steps of its own; they stay as they are.
        out["time"] = to_mdanalysis(unit, "time", "stream's time") if unit else 1.0
        return out

    @property
    def source(self) -> StreamSource:
        """The stream; made again in a process to which the reader was handed."""
        if self._source is None:
            raise ConfigError(f"The reader of {self.filename} is closed.")
        return self._source

    @staticmethod
    def _format_hint(thing: Any) -> bool:
        return _is_stream(thing)

    @classmethod
    def parse_n_atoms(cls, filename: str, **kwargs: Any) -> int:
        """Return the number of atoms of a stream."""
        with _open(filename, **{**kwargs, "group": ""}) as source:
            names = kwargs.get("names")
            return count_atoms(source.schema, tuple(_name(names, v) for v in _VECTORS))

    # ------------------------------------------------------------------ length

    @property
    def finished(self) -> bool:
        """Whether the simulation has said that no more frames will come."""
        return self.source.length is not None

    @property
    def n_frames(self) -> int:
        """Number of frames, once the simulation has ended.

        Raises
        ------
        StagingError
            As long as it may write more.
        """
        length = self.source.length
        if length is None:
            raise StagingError(
                f"The number of frames of {self.source.simulation!r} is unknown while it runs; it "
                f"has {self.source.so_far} so far. Run analyses with "
                "sim_adapters.mdanalysis_analysis.run_analysis, iterate over the trajectory, or "
                "open it with so_far=True."
            )
        return length

    def __repr__(self) -> str:
        length = self.source.length
        count = f"{self.source.so_far} frames so far" if length is None else f"{length} frames"
        return f"<HeadraceReader {self.filename} with {count} of {self.n_atoms} atoms>"

    # ----------------------------------------------------------------- reading

    def _read_next_timestep(self, ts: Any = None) -> Any:
        return self._read_frame(self._number + 1)

    def _read_frame(self, frame: int) -> Any:
        try:
            self._fill(frame, self.source.read(frame))
        except OSError as error:
            # MDAnalysis takes an OSError for the end of the trajectory; a lost stager is none.
            raise StagingError(str(error)) from error
        return self.ts

    def _fill(self, number: int, frame: Frame) -> None:
        ts = self.ts
        for what, name in self._vectors.items():
            target = getattr(ts, what)
            np.multiply(frame[name], self._factors[what], out=target, casting="same_kind")
        ts.frame = self._number = number
        ts.time = frame.time * self._factors["time"]
        ts.dimensions = self._read_box(frame)
        ts.data["step"], ts.data["epoch"], ts.data["offset"] = frame.step, frame.epoch, frame.offset
        for name in self._others:
            value = frame[name]
            ts.data[name] = value.copy() if value.ndim else value.item()

    def _read_box(self, frame: Frame) -> Any:
        if self._names["box"] not in frame.values:
            return None
        box = np.asarray(frame[self._names["box"]], np.float64) * self._factors["box"]
        if not box.any():
            return None
        if box.shape == (3,):
            return np.r_[box, 90.0, 90.0, 90.0].astype(np.float32)
        if box.shape != (3, 3):
            raise ConfigError(f"The box has shape {box.shape}; it must be (3,) or (3, 3).")
        off = box[~np.eye(3, dtype=bool)]
        if not off.any():
            return np.r_[np.diag(box), 90.0, 90.0, 90.0].astype(np.float32)
        return triclinic_box(*box)

    def _get_dt(self) -> float:
        """Return the time between the first two frames, without moving; MDAnalysis asks for it."""
        source = self.source
        if self._dt is None and source.so_far < 2:
            raise AttributeError("One frame has no time between frames.")
        if self._dt is None:
            first, second = (source.read(n).time for n in (0, 1))
            self._dt = float((second - first) * self._factors["time"])
        return self._dt

    # --------------------------------------------------------------- iteration

    def _reopen(self) -> None:
        self._number = -1

    def rewind(self) -> None:
        """Go back to the first frame; stay at the present one if the first was released."""
        try:
            super().rewind()
        except OffsetOutOfRange:
            self._number = -1

    def __getitem__(self, frame: Any) -> Any:
        """Return a frame, or an iterator; of a running simulation, one that waits for frames."""
        if isinstance(frame, int | np.integer) and frame >= 0:
            try:
                return self._read_frame_with_aux(int(frame))
            except EOFError as error:
                raise IndexError(str(error)) from error
        if isinstance(frame, slice) and not self.finished:
            numbers_ = (frame.start or 0, frame.stop or 0, 1 if frame.step is None else frame.step)
            if numbers_[0] < 0 or numbers_[1] < 0 or numbers_[2] < 1:
                raise StagingError(
                    "Frames cannot be counted from the end, or read backwards, while "
                    f"{self.source.simulation!r} runs."
                )
            return _Following(self, frame)
        return super().__getitem__(frame)

    # --------------------------------------------------------------------- end

    def close(self) -> None:
        """Close the connection; more than once does no harm."""
        self._source = None
        # It does its work once.
        if self._close_source is not None:
            self._close_source()

    def __getstate__(self) -> dict[str, Any]:
        """Return the reader without its connection, which is made again where it arrives."""
        return {**self.__dict__, "_source": None, "_close_source": None, "ts": self.ts}

    def __setstate__(self, state: dict[str, Any]) -> None:
        ts = state.pop("ts")
        self.__dict__.update(state)
        self._begin()
        self.ts = ts.copy()
        self._number = ts.frame

    def __del__(self) -> None:
        # Auxiliary readers are closed by MDAnalysis; there are none where the making failed.
        if hasattr(self, "_auxs"):
            with contextlib.suppress(HeadraceError):
                super().__del__()


def _close(source: StreamSource, process: int) -> None:
    # In a process forked from the reader's the connection answers nobody.
    if os.getpid() == process:
        with contextlib.suppress(HeadraceError):
            source.close()


class _Following:
    """Frames of a slice of a running simulation, as they come."""

    def __init__(self, reader: HeadraceReader, frames: slice) -> None:
        self.trajectory = reader
        self._frames = frames

    def __iter__(self) -> Iterator[Any]:
        number, step = self._frames.start or 0, self._frames.step or 1
        while self._frames.stop is None or number < self._frames.stop:
            try:
                yield self.trajectory._read_frame_with_aux(number)
            except EOFError:
                break
            number += step
        self.trajectory.rewind()

    def __len__(self) -> int:
        return len(range(*self._frames.indices(self.trajectory.n_frames)))
