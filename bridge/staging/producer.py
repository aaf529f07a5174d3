"""The simulation's end of a stream: puts that cost one copy, and a thread that does the rest."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from bridge.commands import Acknowledgement, Capability, Command, Event, FrameReference
from bridge.errors import FrameOrderError, HeadraceError, SchemaError
from bridge.frames import Frame
from bridge.schema import StreamSchema, check_name
from bridge.staging.client_like import ClientLike
from bridge.staging.delivery import OpenChunk
from bridge.staging.fitting import fit
from bridge.staging.layout import Chunk, chunk_layout
from bridge.staging.messages import StreamOptions
from bridge.staging.ownership import owner
from bridge.staging.producer_io import ProducerIO
from bridge.staging.spread import connect

__all__ = ["Producer", "ProducerStatistics", "Resumed"]


_LARGE = 1 << 16
"""Bytes from which on a frame's checksum is made by itself, right after it was written."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """Where a stream stood when this producer opened it."""

    incarnation: int
    """Which life of the simulation this is, from 1."""
    next_offset: int
    """Offset that the next frame gets; 0 for a new stream."""
    last_step: int
    """Step of the newest frame; -1 if there is none."""
    last_time: float
    """Time of the newest frame."""
    last_epoch: int
    """Epoch of the newest frame."""


@dataclass(frozen=True, slots=True)
class ProducerStatistics:
    """What a producer has done."""

    frames: int
    """Frames put."""
    bytes: int
    """Bytes of their variables."""
    acknowledged: int
    """Frames that the stager has stored."""
    dropped: int
    """Frames that the full-policy dropped here."""
    waited: float
    """Seconds for which puts waited for room."""
    reconnects: int
    """Times the stager had to be found again."""
    commands: int
    """Commands that arrived."""


class Producer:
    """Puts the frames of one simulation (or one rank's blocks) into staging.

    One thread puts; `commands`, `acknowledge`, `event` and `statistics` may be called from any.

    Parameters
    ----------
    simulation
        Name of the simulation.
    schema
        What each frame carries.
    address
        Where the stager listens; of several, separated by commas, the one that the simulation's
        name belongs to is taken.
    options
        How the stager keeps the stream.
    rank
        Which of the schema's ranks this process is.
    job
        A word that the ranks of one job have in common, and no other job has: then a rank never
        joins what an earlier job left half opened. Letters, digits, ``_``, ``.`` and ``-``.
    capabilities
        What others may do to the simulation.
    timeout
        Seconds that the opening may take, and that a `put` waits for room by default.
    linger
        Seconds for which small frames are gathered before they are sent.
    mapped
        Write into mapped segments; None finds out whether that works.

    Raises
    ------
    NobodyListening, AuthenticationFailed, VersionMismatch, SchemaError
        If the stream cannot be opened.
    """

    def __init__(
        self,
        simulation: str,
        schema: StreamSchema,
        *,
        address: str,
        options: StreamOptions | None = None,
        rank: int = 0,
        job: str = "",
        capabilities: Sequence[Capability] = (),
        keys: Any = None,
        timeout: float = 10.0,
        linger: float = 0.0005,
        mapped: bool | None = None,
    ) -> None:
        self.simulation = check_name(simulation, "simulation")
        self.schema = schema
        self.options = options or StreamOptions()
        self.timeout = timeout
        # Frames of others, from which to restart, may lie with any stager.
        self._connection = (address, keys)
        address = owner(simulation, address)
        self._io = ProducerIO(
            simulation, schema, self.options, rank=rank, job=job,
            capabilities=tuple(capabilities), address=address, keys=keys, timeout=timeout,
            linger=linger, mapped=mapped,
        )  # fmt: skip
        opened = self._io.opened
        self.resumed = Resumed(
            opened.incarnation, opened.next_offset, opened.last_step, opened.last_time,
            opened.last_epoch,
        )  # fmt: skip
        self._last_step = opened.last_step
        self._sequence = opened.next_sequence
        self._variables = tuple((v.name, v.numpy_dtype, v.shape) for v in schema.variables)
        self._frame_bytes = schema.frame_nbytes
        self._decomposed = schema.n_ranks > 1
        self._rank = rank
        self._rows = next((v.shape[0] for v in schema.variables if v.decomposed), 0)
        # The chunk being filled: its arrays, next row and capacity are copied here for speed.
        self._open: OpenChunk | None = None
        self._room = deque[tuple[memoryview, int, int, int]]()
        self._frames = 0
        self._bytes = 0
        self._dropped = 0
        self._gathers = False
        self._waited = 0.0
        self._reader: ClientLike | None = None
        self._reader_lock = threading.Lock()
        self._closed = False

    # -------------------------------------------------------------------- put

    def put(
        self,
        step: int,
        time: float,
        values: Mapping[str, npt.NDArray[Any]],
        *,
        epoch: int = 0,
        timeout: float | None = None,
        give_up: Callable[[], bool] | None = None,
    ) -> bool:
        """Put one frame; the arrays are copied before the call returns.

        Blocks only if there is no room: by policy until the stager has some (at most `timeout`
        seconds), or not at all.

        Parameters
        ----------
        give_up
            Asked while there is no room, about once a second and whenever something came from the
            stager; true drops the frame, which is counted.

        Returns
        -------
        bool
            False if the frame was dropped by policy, or given up.

        Raises
        ------
        SchemaError
            If a variable is missing, unknown, or has another shape or dtype.
        FrameOrderError
            If `step` is not greater than that of the frame before.
        StreamFull
            If no room came free in time.
        StaleIncarnation, ConnectionLost
            If the stream was taken over, or the stager is gone.
        """
        if step <= self._last_step:
            self._refuse_step(step)
        opened = self._open
        if opened is None or opened.filled >= opened.capacity:
            opened = self._next_chunk(timeout, give_up)
            if opened is None:
                return False
        row = opened.filled
        arrays = opened.arrays
        for name, dtype, shape in self._variables:
            try:
                value = values[name]
                if value.dtype is not dtype or value.shape != shape:
                    value = fit(self.simulation, name, dtype, shape, value, convert=False)
            except (KeyError, AttributeError):
                value = fit(self.simulation, name, dtype, shape, values.get(name), convert=False)
            arrays[name][row] = value
        if len(values) != len(self._variables):
            self._refuse_names(values)
        arrays["step"][row] = step
        arrays["time"][row] = time
        arrays["epoch"][row] = epoch
        self._last_step = step
        self._frames += 1
        io = self._io
        if row == opened.sent:
            opened.stamp = io.now()
        opened.filled = row + 1
        if io.idle:
            io.wake()
        return True

    def next_row(self, timeout: float | None = None) -> dict[str, npt.NDArray[Any]] | None:
        """Return the arrays of the next frame, to be written in place; then call `put_row`.

        So that what reads from elsewhere writes right into the stream. The arrays hold anything
        before they are written; a frame that is not put leaves no trace. Blocks as `put` does.

        Returns
        -------
        row
            Name to array of the schema's shape and dtype; None if the frame was dropped by policy.

        Raises
        ------
        StreamFull, StaleIncarnation, ConnectionLost
            As for `put`.
        """
        opened = self._open
        if opened is None or opened.filled >= opened.capacity:
            opened = self._next_chunk(timeout)
            if opened is None:
                return None
        row, arrays = opened.filled, opened.arrays
        return {name: arrays[name][row, ...] for name, _, _ in self._variables}

    def put_row(self, step: int, time: float, *, epoch: int = 0, send: bool = True) -> None:
        """Put the frame whose arrays `next_row` returned last.

        Parameters
        ----------
        send
            Have it sent now. Else it stays here until `send` is called, or until there is no room
            for more, so that several frames share one message.

        Raises
        ------
        FrameOrderError
            If `step` is not greater than that of the frame before.
        """
        if step <= self._last_step:
            self._refuse_step(step)
        opened = self._open
        if opened is None or opened.filled >= opened.capacity:
            raise SchemaError(f"No row of {self.simulation!r} was asked for: call next_row first.")
        row, arrays = opened.filled, opened.arrays
        arrays["step"][row] = step
        arrays["time"][row] = time
        arrays["epoch"][row] = epoch
        self._last_step = step
        self._frames += 1
        if row == opened.sent:
            opened.stamp = self._io.now()
        self._io.gathers = self._gathers = not send
        opened.filled = row + 1
        if send:
            self.send()
        elif self._frame_bytes >= _LARGE:
            self._io.gather_here()

    def send(self) -> None:
        """Send everything that was put, from this thread; never blocks."""
        self._io.send_here()

    def put_many(
        self,
        steps: npt.NDArray[np.int64] | Sequence[int],
        times: npt.NDArray[np.float64] | Sequence[float],
        columns: Mapping[str, npt.NDArray[Any]],
        *,
        epochs: npt.NDArray[np.int32] | Sequence[int] | int = 0,
        factors: Mapping[str, float] | None = None,
        timeout: float | None = None,
        give_up: Callable[[], bool] | None = None,
    ) -> int:
        """Put stacked frames, of shape (n, ...) each variable; return how many were not dropped.

        Parameters
        ----------
        factors
            What to multiply floating-point variables by: units are converted in the one copy that
            is made anyway.
        timeout, give_up
            As for `put`.

        Raises
        ------
        SchemaError, FrameOrderError, StreamFull, StaleIncarnation, ConnectionLost
            As for `put`. What is wrong with the arrays is found before anything is put.
        """
        steps_, times_, epochs_, arrays = self._stack(steps, times, columns, epochs)
        n = len(steps_)
        done = taken = 0
        while done < n:
            opened = self._open
            if opened is None or opened.filled >= opened.capacity:
                opened = self._next_chunk(timeout, give_up)
            if opened is None:
                self._dropped_more(n - done - 1)
                break
            row = opened.filled
            count = min(n - done, opened.capacity - row)
            rows, source = slice(row, row + count), slice(done, done + count)
            for name, value in arrays.items():
                if factors and name in factors:
                    factor = value.dtype.type(factors[name])
                    np.multiply(value[source], factor, out=opened.arrays[name][rows])
                else:
                    opened.arrays[name][rows] = value[source]
            opened.arrays["step"][rows] = steps_[source]
            opened.arrays["time"][rows] = times_[source]
            opened.arrays["epoch"][rows] = epochs_[source]
            self._last_step = int(steps_[done + count - 1])
            self._frames += count
            if row == opened.sent:
                opened.stamp = self._io.now()
            opened.filled = row + count
            if self._io.idle:
                self._io.wake()
            done += count
            taken += count
        return taken

    def put_block(
        self,
        step: int,
        time: float,
        start: int,
        values: Mapping[str, npt.NDArray[Any]],
        *,
        ids: npt.NDArray[np.int64] | None = None,
        epoch: int = 0,
        timeout: float | None = None,
        give_up: Callable[[], bool] | None = None,
    ) -> bool:
        """Put this rank's block of a decomposed frame; every rank puts one for each step.

        Parameters
        ----------
        start
            First global row of the block.
        values
            Decomposed variables with the rank's rows, and the others whole: rank 0's count, and
            other ranks may leave them out.
        ids
            Global row of each of the block's rows, where they are not contiguous. Together, the
            blocks of a step have each row once.
        timeout, give_up
            As for `put`.

        Returns
        -------
        bool
            False if the block was dropped by policy.

        Raises
        ------
        SchemaError, FrameOrderError, StreamFull, StaleIncarnation, ConnectionLost
            As for `put`.
        """
        if step <= self._last_step:
            self._refuse_step(step)
        lead = self._lead(values, ids, start)
        if not self._decomposed:
            # The one block is the frame.
            ordered = self._order(values, ids)
            return self.put(step, time, ordered, epoch=epoch, timeout=timeout, give_up=give_up)
        fitted = {}
        for variable in self.schema.variables:
            name = variable.name
            shape = (lead, *variable.shape[1:]) if variable.decomposed else variable.shape
            if self._rank and not variable.decomposed and name not in values:
                fitted[name] = np.zeros((), variable.numpy_dtype)
            else:
                value = values.get(name)
                fitted[name] = fit(
                    self.simulation, name, variable.numpy_dtype, shape, value, convert=False
                )
        if set(values) - set(fitted):
            self._refuse_names(values)
        opened = self._next_chunk(timeout, give_up, lead=lead, ids=ids is not None, start=start)
        if opened is None:
            return False
        for name, value in fitted.items():
            opened.arrays[name][0] = value
        if ids is not None:
            opened.arrays["ids"][0] = ids
        opened.arrays["step"][0] = step
        opened.arrays["time"][0] = time
        opened.arrays["epoch"][0] = epoch
        self._last_step = step
        self._frames += 1
        opened.stamp = self._io.now()
        opened.filled = 1
        if self._io.idle:
            self._io.send_soon(opened.chunk.layout.nbytes)
        return True

    # ------------------------------------------------------------------ checks

    def _refuse_step(self, step: int) -> None:
        how = "came twice" if step == self._last_step else "is out of order"
        raise FrameOrderError(
            f"Step {step} of {self.simulation!r} {how}: the frame before it has step "
            f"{self._last_step}, and steps must increase."
        )

    def _refuse_names(self, values: Mapping[str, Any]) -> None:
        known = {name for name, _, _ in self._variables}
        unknown = sorted(set(values) - known)
        raise SchemaError(
            f"The frame of {self.simulation!r} has {', '.join(map(repr, unknown))}, which the "
            f"stream does not declare; it declares {', '.join(sorted(known))}."
        )

    def _stack(
        self, steps: Any, times: Any, columns: Mapping[str, Any], epochs: Any
    ) -> tuple[Any, Any, Any, dict[str, Any]]:
        steps_ = np.asarray(steps, np.int64)
        n = len(steps_)
        times_ = np.asarray(times, np.float64)
        epochs_ = np.broadcast_to(np.asarray(epochs, np.int32), (n,))
        if times_.shape != (n,):
            raise SchemaError(f"{n} steps and {times_.shape} times were given.")
        if n and (steps_[0] <= self._last_step or np.any(np.diff(steps_) <= 0)):
            bad = 0 if steps_[0] <= self._last_step else int(np.argmax(np.diff(steps_) <= 0)) + 1
            before = self._last_step if bad == 0 else int(steps_[bad - 1])
            raise FrameOrderError(
                f"Step {steps_[bad]} of {self.simulation!r}, at index {bad} of a put, follows step "
                f"{before}; steps must increase."
            )
        arrays = {}
        for name, dtype, shape in self._variables:
            arrays[name] = fit(self.simulation, name, dtype, (n, *shape), columns.get(name))
        if len(columns) != len(arrays):
            self._refuse_names(columns)
        return steps_, times_, epochs_, arrays

    def _lead(self, values: Mapping[str, Any], ids: Any, start: int) -> int:
        leads = {
            v.name: len(values[v.name])
            for v in self.schema.variables
            if v.decomposed and v.name in values
        }
        lead = next(iter(leads.values()), 0)
        if len(set(leads.values())) > 1 or (ids is not None and len(ids) != lead):
            raise SchemaError(
                f"The decomposed variables of a block of {self.simulation!r} disagree about its "
                f"rows: {leads}{'' if ids is None else f', {len(ids)} ids'}."
            )
        low, high = start, start + lead - 1
        if ids is not None and lead:
            low, high = int(np.min(ids)), int(np.max(ids))
        if lead and (low < 0 or high >= self._rows):
            raise SchemaError(
                f"A block of {self.simulation!r} has rows from {low} to {high}; the rows of a "
                f"frame count from 0 to {self._rows - 1}."
            )
        return lead

    def _order(self, values: Mapping[str, Any], ids: Any) -> dict[str, Any]:
        """Return the only block's values in the order of their rows."""
        if ids is None:
            return dict(values)
        rows = np.full(self._rows, -1, np.intp)
        rows[ids] = np.arange(len(ids))
        if len(ids) != self._rows or rows.min(initial=0) < 0:
            raise SchemaError(
                f"The {len(ids)} ids of a frame of {self.simulation!r} do not name each of its "
                f"{self._rows} rows once."
            )
        decomposed = {v.name for v in self.schema.variables if v.decomposed}
        return {k: np.asarray(v)[rows] if k in decomposed else v for k, v in values.items()}

    # -------------------------------------------------------------------- room

    def _next_chunk(
        self,
        timeout: float | None,
        give_up: Callable[[], bool] | None = None,
        *,
        lead: int = -1,
        ids: bool = False,
        start: int = 0,
    ) -> OpenChunk | None:
        """Begin a chunk, waiting for room if the policy says so; None if the frame is dropped."""
        if self._closed:
            raise SchemaError(f"The producer of {self.simulation!r} is closed.")
        if self._open is not None:
            self._open.closed = True
            self._bytes += self._open.filled * self._frame_bytes
            self._sequence = self._open.first + self._open.filled
            self._open = None
        rows = 1 if self._decomposed else 0
        began = 0.0
        limit = self.timeout if timeout is None else timeout
        while True:
            chunk = self._io.take_room(rows, lead, ids, several=self._gathers)
            if chunk is not None:
                break
            if self._io.failure is not None:
                raise self._io.failure
            newest = self.options.when_full == "drop_newest" and self._io.full
            if newest or (give_up is not None and give_up()):
                self._dropped_more(1)
                return None
            now = time.monotonic()
            began = began or now
            if now - began >= limit:
                self._waited += now - began
                raise self._io.why_no_room(limit)
            self._io.wait_for_room(min(1.0, limit - (now - began)))
        if began:
            self._waited += time.monotonic() - began
        view, position, segment, capacity = chunk
        layout = chunk_layout(self.schema, capacity, lead=lead, ids=ids)
        opened = OpenChunk(
            Chunk(layout, view, position), segment, self._sequence, lead=lead, ids=ids, start=start
        )
        self._open = opened
        self._io.begin(opened)
        if self._io.gathers and self._io.wants_lease:
            # Nobody else asks for the next segment meanwhile.
            self._io.send_here(frames=False)
        return opened

    def _dropped_more(self, count: int) -> None:
        self._dropped += count
        self._io.dropped = self._dropped

    # ----------------------------------------------------------- the way back

    def commands(self) -> list[Command]:
        """Return the commands that arrived since the last call; never blocks."""
        return self._io.take_commands()

    def wait_for_command(self, timeout: float) -> bool:
        """Wait until a command is there; false at the time limit."""
        return self._io.wait_for_command(timeout)

    def hears_stop(self, step: int) -> bool:
        """Return whether a stop for this step has come to the log in this life of the simulation.

        For ranks above 0, which take no commands: the first call begins to read them. Never blocks.
        Whether it was answered makes no difference: rank 0 may have done so before this rank asked.
        """
        return self._io.hears_stop(step)

    def acknowledge(self, acknowledgement: Acknowledgement) -> None:
        """Tell what became of a command; sent by the I/O thread."""
        self._io.acknowledge(acknowledgement)

    def event(self, event: Event) -> None:
        """Put an event into the topic ``events``; sent by the I/O thread."""
        stamped = msgspec.structs.replace(
            event,
            stamp=event.stamp or self._io.now(),
            simulation=event.simulation or self.simulation,
        )
        self._io.append("events", msgspec.msgpack.encode(stamped))

    def read_frame(self, reference: FrameReference, *, timeout: float = 10.0) -> Frame:
        """Look a frame up in staging, for a restart from it; copied.

        Raises
        ------
        UnknownTopic, OffsetOutOfRange
            If it is not there any more.
        ConnectionLost
            If the stager does not answer.
        """
        with self._reader_lock:
            if self._reader is None:
                address, keys = self._connection
                self._reader = connect(
                    address, name=f"{self.simulation} (look-ups)", keys=keys, timeout=timeout
                )
            return self._reader.read_frame(reference)

    # --------------------------------------------------------------------- end

    def flush(self, timeout: float | None = None) -> None:
        """Wait until the stager has stored everything that was put.

        Raises
        ------
        ConnectionLost, StreamFull, StaleIncarnation
            If that does not happen within the time limit; nothing is forgotten then.
        """
        self._io.flush(self.timeout if timeout is None else timeout)

    def close(
        self, *, timeout: float | None = None, finished: bool = True, abandon: bool = False
    ) -> None:
        """Store what was put, say goodbye and end the thread; more than once does no harm.

        Parameters
        ----------
        finished
            No more frames will come from this simulation: readers may end. False leaves the
            stream open for another incarnation.
        abandon
            What the stager could not store within the time limit is counted as dropped, instead of
            an error: for a simulation that was told to stop while its stream was full.

        Raises
        ------
        HeadraceError
            If something that was put could not be stored within the time limit.
        """
        if self._closed:
            return
        self._closed = True
        if self._open is not None:
            self._open.closed = True
            self._bytes += self._open.filled * self._frame_bytes
        try:
            limit = self.timeout if timeout is None else timeout
            self._io.close(limit, finished=finished, abandon=abandon)
            self._dropped = self._io.dropped
        finally:
            self._open = None
            if self._reader is not None:
                self._reader.close()

    def statistics(self) -> ProducerStatistics:
        """Return what this producer has done so far."""
        io = self._io
        opened = self._open
        pending = opened.filled * self._frame_bytes if opened is not None else 0
        return ProducerStatistics(
            self._frames, self._bytes + pending, io.acknowledged, self._dropped, self._waited,
            io.reconnects, io.commands_seen,
        )  # fmt: skip

    def __enter__(self) -> Producer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.close(finished=kind is None)
        except HeadraceError:
            if kind is None:
                raise
