"""Link a simulation whose ranks run under MPI: each puts its own block, all are steered alike.

Every rank calls the same things at the same steps::

    with link_mpi(comm, "melt", every=100, whole=("box",), capabilities=[Capability("stop")]) as s:
        for step in range(1_000_000):
            x, v, ids = advance(x, v, ids)          # this rank's particles
            if s.put(step, step * dt, ids=ids, x=x, box=box):
                s.service(step, step * dt)
            if s.stopped:
                break

Nothing is gathered: each rank writes its rows into staging, and readers get whole frames in the
order of the ids. Rank 0 takes commands; they are applied by all ranks at the same step, or by none.
"""

from __future__ import annotations

import logging
import time as clock
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self
from uuid import uuid4

import msgspec
import numpy as np
import numpy.typing as npt

from bridge.codec import decode_state, encode_state
from bridge.commands import Acknowledgement, Capability, Command, CommandKind, Event, FrameReference
from bridge.errors import CommandRefused, HeadraceError, MemberFailed, SchemaError, SteeringError
from bridge.frames import Frame
from bridge.schema import StreamSchema, Topology
from bridge.staging.keys import find_keys
from bridge.staging.messages import FullPolicy, StreamOptions
from bridge.staging.producer import Producer
from bridge.staging.rendezvous import resolve
from bridge.steering import CommandChannel, SimulationEnd
from sim_adapters.asking import Asks
from sim_adapters.link import PATIENCE
from sim_adapters.lives import read_answered, read_last_frame
from sim_adapters.mpi_rounds import MPI, Rounds
from sim_adapters.mpi_schema import describe_blocks
from sim_adapters.steered import Arrays, Shapes, Steered

__all__ = ["MpiLink", "link_mpi"]

_log = logging.getLogger(__name__)

_DONE, _COMMAND, _HOLD, _FRAME, _JOB = range(5)  # what rank 0 tells
_NO_STEP = -1
_LARGE = 4 << 20
"""Bytes of a frame above which segments hold one frame: a million atoms from four ranks were read
at 2.4 GB/s within 128 MiB then, and at 1.0 with segments for four frames within 512 MiB."""

Check = Callable[..., object]


class MpiLink(Asks, Steered):
    """A rank's end of a linked simulation; see `link_mpi` for parameters.

    All ranks call `put`, `service` and `close` with the same steps; `put` and `event` wait for no
    other rank. One thread of each rank uses the link.

    Attributes
    ----------
    rank, size
        Of the communicator.
    """

    def __init__(
        self,
        comm: MPI.Intracomm,
        simulation: str,
        *,
        address: str,
        describe: Callable[[Rounds, Mapping[str, Any]], StreamSchema],
        every: int = 1,
        options: StreamOptions | None = None,
        capabilities: Sequence[Capability] = (),
        keys: Any = None,
        timeout: float = 10.0,
        patience: float = PATIENCE,
        limit: float = 60.0,
    ) -> None:
        if every < 1:
            raise SteeringError(f"Frames come every {every} steps; it must be at least 1.")
        super().__init__(simulation, every)
        self.rank, self.size = comm.Get_rank(), comm.Get_size()
        self._rounds = Rounds(comm, simulation, limit=limit, tell=self._tell_failure)
        self._address = address
        self._describe = describe
        self._options = options or StreamOptions()
        self._capabilities = tuple(capabilities)
        self._keys = keys
        self._timeout = timeout
        self._patience = patience
        self._producer: Producer | None = None
        self._checks: dict[str, Check] = {}
        self._job = ""
        self._start, self._rows = 0, -1
        self._last_put = -1
        self._next_command: int | None = None
        self._stopped = self._closed = False

    # ----------------------------------------------------------------- frames

    @property
    def producer(self) -> Producer:
        """The producer of the rank; there is none before the first frame without a schema."""
        if self._producer is None:
            raise SteeringError(
                f"The link of {self.simulation!r} has no schema yet: put a frame first, or give "
                "a schema or an example."
            )
        return self._producer

    @property
    def next_frame(self) -> int:
        """Step from which on the next frame is sent; the same on all ranks."""
        return self._last_put + self.every if self._last_put >= 0 else 0

    @property
    def next_command(self) -> int | None:
        """Earliest step that a waiting command asks for; the same on all ranks."""
        return self._next_command

    @property
    def stopped(self) -> bool:
        """Whether a stop was applied; the same on all ranks."""
        return self._stopped

    def _asks_as(self) -> str:
        return f"{self.simulation}.r{self.rank}"

    def count_from(self, step: int) -> None:
        """Let the first frame come `every` steps after this one, instead of at once."""
        if self._last_put < 0:
            self._last_put = step

    def put(
        self,
        step: int,
        time: float,
        *,
        ids: npt.NDArray[np.int64] | None = None,
        start: int | None = None,
        **arrays: Any,
    ) -> bool:
        """Send this rank's block of a frame if one is due; returns whether it was.

        Waits for nobody, except that the ranks come together at the first frame, and for room in a
        full stream whose policy is ``block``.

        Parameters
        ----------
        ids
            Row of the frame for each of the block's rows, int64 from 0, where particles migrate;
            together the ranks' blocks have each row once.
        start
            First row of the block, where it is not the one that it was at the beginning.
        **arrays
            This rank's rows of the decomposed variables; of others, whole, rank 0's count, and
            other ranks may leave them out.

        Raises
        ------
        SchemaError, FrameOrderError, StreamFull
            As for `sim_adapters.link.Link.put`.
        MemberFailed
            If another rank has failed.
        """
        self._rounds.check()
        if step < self.next_frame:
            return False
        self._rounds.step = step
        producer = self._producer
        if producer is None:
            producer = self._open(arrays)
            if step < self.next_frame:  # an earlier life was here
                return False
        if ids is None and start is None:
            start = self._find_start(arrays)
        self._rounds.busy = f"waiting for room in the stream, at step {step}"
        try:
            producer.put_block(
                step, time, start or 0, arrays,
                ids=ids, epoch=self.epoch, timeout=self._patience,
            )  # fmt: skip
        finally:
            self._rounds.busy = ""
        self.step, self.time, self._last_put = step, time, step
        return True

    def _find_start(self, arrays: Mapping[str, Any]) -> int:
        assert self._schema is not None
        rows = next((len(arrays[v.name]) for v in self._schema.variables if v.decomposed), 0)
        if self._rows < 0:
            self._rows = rows
            self._start, _ = self._rounds.rows_before(rows)
        if rows != self._rows:
            raise SchemaError(
                f"Rank {self.rank} of {self.simulation!r} puts {rows} rows and had {self._rows} at "
                "the beginning; tell where they belong by start=, or by ids=."
            )
        return self._start

    def event(
        self,
        kind: str,
        message: str,
        *,
        level: Literal["info", "warning", "error"] = "info",
        **data: Any,
    ) -> None:
        """Tell people something, from this rank; `data` holds the numbers."""
        self.producer.event(
            Event(
                kind, message, simulation=self.simulation, source=f"adapter, rank {self.rank}",
                level=level, stamp=clock.time(), data=data,
            )
        )  # fmt: skip

    # --------------------------------------------------------------- commands

    def on(
        self,
        kind: CommandKind,
        parameter: str,
        function: Callable[..., object],
        *,
        check: Check | None = None,
    ) -> None:
        """Name the function that applies a command on this rank when `service` is called.

        Parameters
        ----------
        kind, parameter, function
            As for `sim_adapters.link.Link`. A function that refuses does so on all ranks, before
            it has changed anything.
        check
            This rank's vote, with the arguments of `function`: it raises `CommandRefused` to keep
            all ranks from applying the command, and changes nothing.
        """
        super().on(kind, parameter, function)
        if check is not None:
            self._checks[parameter if kind == "set" else ""] = check

    def on_restart(
        self,
        function: Callable[[Arrays, Command], object],
        required: Shapes | None = None,
        optional: Shapes | None = None,
        *,
        check: Check | None = None,
    ) -> None:
        """Name the function that restarts this rank; it is given the arrays of all rows."""
        super().on_restart(function, required, optional)
        if check is not None:
            self._checks[""] = check

    def commands(self, step: int | None = None, time: float | None = None) -> Iterator[Command]:
        """Raise; ranks agree on commands, so that only `service` takes them."""
        raise SteeringError("The ranks of an MPI simulation take commands with service() alone.")

    def service(self, step: int | None = None, time: float | None = None) -> bool:
        """Apply what is due on all ranks, or refuse it on all; returns whether to go on.

        Every rank calls it at the same steps. Without commands it costs one small broadcast, and
        rank 0 does not wait for the others. While the simulation is paused all ranks wait.

        Raises
        ------
        MemberFailed
            If a rank failed, does not come within the limit, or could not apply what others have
            applied. The run is over then.
        """
        self.step = self.step if step is None else step
        self.time = self.time if time is None else time
        self._rounds.check()
        if self._producer is None:
            return True
        if self.rank == 0:
            self._lead()
        else:
            self._follow()
        return not self._stopped

    def _lead(self) -> None:
        assert self._end is not None
        for command in self._end.commands(self.step, self.time):
            arrays: Arrays = {}
            try:
                if command.kind == "restart":
                    arrays = self.read_restart(command)
            except CommandRefused as error:
                self._end.refuse(command, str(error), self.step, self.time)
                continue
            known = msgspec.structs.replace(command, state=b"", evidence={})
            payload = [msgspec.msgpack.encode(known), encode_state(arrays) if arrays else b""]
            told = msgspec.msgpack.encode(payload)
            self._rounds.tell(_COMMAND, payload=told, step=self.step)
            try:
                reason = self._carry_out(command, arrays)
            except BaseException as error:
                self._end.refuse(command, f"{error}", self.step, self.time)
                raise
            if reason:
                self._end.refuse(command, reason, self.step, self.time)
            else:
                self._end.applied(command, self.step, self.time)
        channel = self._end.channel
        self._next_command, self._stopped = channel.next_step, channel.stopped
        wanted = _NO_STEP if self._next_command is None else self._next_command
        self._rounds.tell(_DONE, (int(self._stopped), wanted), step=self.step)

    def _follow(self) -> None:
        while True:
            told = self._rounds.listen(step=self.step)
            if told.kind == _DONE:
                self._stopped = bool(told.flags[0])
                self._next_command = None if told.flags[1] == _NO_STEP else told.flags[1]
                return
            if told.kind == _COMMAND:
                encoded, state = msgspec.msgpack.decode(told.payload, type=tuple[bytes, bytes])
                command = msgspec.msgpack.decode(encoded, type=Command)
                self._carry_out(command, dict(decode_state(state)) if state else {})

    def _carry_out(self, command: Command, arrays: Arrays) -> str:
        """Vote, and apply where nobody is against it; return why not, the same on all ranks."""
        if command.kind == "interval":
            self.every = int(command.value or 1)
            return ""
        restart = command.kind == "restart"
        arguments: tuple[Any, ...] = (arrays, command) if restart else (command.value,)
        function = self._restart if restart else self._setters.get(command.parameter)
        word = "" if function else "The rank has no function for it."
        check = self._checks.get("" if restart else command.parameter)
        word, error = self._try(check, arguments) if check and not word else (word, None)
        against, _, reason = self._rounds.agree(word)
        self._raise(error, against, "judge", reason, command)
        if against < self.size:
            return f"Rank {against} refuses: {reason}" if self.size > 1 else reason
        word, error = self._try(function, arguments)
        against, applied, reason = self._rounds.agree(word)
        self._raise(error, against, "apply", reason, command)
        if against == self.size:
            self.epoch += restart
            return ""
        if applied == self.size:
            return reason
        sentence = (
            f"Rank {against} of {self.simulation!r} refused {command.id!r} at step {self.step} "
            f"when rank {applied} had applied it: {reason} The ranks differ, so the run ends; let "
            "ranks object with check= instead."
        )
        raise MemberFailed(sentence)

    def _try(
        self, function: Callable[..., object] | None, arguments: tuple[Any, ...]
    ) -> tuple[str, BaseException | None]:
        try:
            if function is not None:
                function(*arguments)
        except CommandRefused as error:
            return str(error) or "It gives no reason.", None
        except Exception as error:
            return f"\0{type(error).__name__}: {error}", error
        return "", None

    def _raise(
        self, error: BaseException | None, rank: int, verb: str, reason: str, command: Command
    ) -> None:
        """Raise on all ranks, if the first rank that had something to say failed."""
        if error is not None:
            raise error
        if reason.startswith("\0"):
            raise MemberFailed(
                f"Rank {rank} of {self.simulation!r} failed to {verb} {command.id!r} at step "
                f"{self.step}: {reason[1:]}."
            )

    def read_restart(self, command: Command) -> Arrays:
        """Return the arrays of a restart, of all rows; on rank 0 alone."""
        return super().read_restart(command)

    def read_last_frame(self) -> Arrays | None:
        """Return the newest frame of an earlier life, the same on all ranks; every rank calls it.

        None if there is none, or it was released.
        """
        if self.rank:
            told = self._rounds.listen(step=self.step)
            return dict(decode_state(told.payload)) if told.payload else None
        frame = read_last_frame(self.producer, timeout=self._timeout)
        values = None if frame is None else {k: np.array(v) for k, v in frame.values.items()}
        self._rounds.tell(_FRAME, payload=encode_state(values) if values else b"", step=self.step)
        return values

    # -------------------------------------------------------------- beginning

    def _open(self, arrays: Mapping[str, Any]) -> Producer:
        """Open the stream on all ranks; rank 0 begins the new life, the others join it."""
        schema = self._describe(self._rounds, arrays)
        producer = self._begin(schema)
        resumed = producer.resumed
        answered: set[str] = set()
        if resumed.next_offset:
            self.epoch = resumed.last_epoch + 1
            self._last_put = self.step = resumed.last_step
            self.time = resumed.last_time
            if self.rank == 0:
                answered = read_answered(
                    self._address, self.simulation, keys=self._keys, timeout=self._timeout
                )
        self._producer, self._schema = producer, schema
        if self.rank == 0:
            channel = CommandChannel(
                self.simulation, self._capabilities,
                incarnation=resumed.incarnation, answered=answered,
            )  # fmt: skip
            carrier = _Carrier(producer, lambda: self._rounds.tell(_HOLD, step=self.step))
            self._end = SimulationEnd(carrier, channel, timeout=self._timeout)
        return producer

    def _begin(self, schema: StreamSchema) -> Producer:
        # Without it, ranks might join what a job that died had opened in part.
        if self.rank == 0:
            self._job = uuid4().hex
            self._rounds.tell(_JOB, payload=self._job.encode(), step=self.step)
        else:
            self._job = self._rounds.listen(step=self.step).payload.decode()
        producer: Producer | None = None
        mine = -1
        for turn in range(4):
            fault = ""
            newest = self._rounds.reduce([mine], MPI.MAX)[0]
            if producer is not None and self._rounds.reduce([mine], MPI.MIN)[0] == newest:
                return producer
            # Rank 0 first. A life that ended badly may make a later rank begin another one: then
            # those before it join that.
            for early in (True, False):
                if (self.rank == 0) is early and not fault and (turn == 0 or mine < newest):
                    try:
                        producer = self._produce(schema)
                        mine = producer.resumed.incarnation
                    except HeadraceError as error:
                        fault = str(error)
                        failed = error
                first, _, said = self._rounds.agree(fault)
                if fault:
                    raise failed
                if first < self.size:
                    raise MemberFailed(f"Rank {first} of {self.simulation!r} has no stream: {said}")
        raise MemberFailed(
            f"The ranks of {self.simulation!r} did not come together in one life of its stream; "
            "does another process of that name run?"
        )

    def _produce(self, schema: StreamSchema) -> Producer:
        options = self._options
        if not options.segment and schema.frame_nbytes > _LARGE:
            # Each rank fills segments of its own: of large frames, few of them fit the capacity.
            padding = 64 * schema.n_ranks * (4 + len(schema.variables))
            options = msgspec.structs.replace(options, segment=schema.frame_nbytes + padding)
        return Producer(
            self.simulation, schema, address=self._address, options=options, rank=self.rank,
            job=self._job,
            capabilities=self._capabilities, keys=self._keys, timeout=self._timeout,
        )  # fmt: skip

    # -------------------------------------------------------------------- end

    def close(self, *, finished: bool = True) -> None:
        """Send what is left, refuse what has no answer, and leave; every rank calls it.

        The stream is finished if all ranks say so. May be called again.
        """
        if self._closed:
            return
        self._rounds.check()
        unfinished, _, _ = self._rounds.agree("" if finished else "unfinished")
        self._closed = True
        self._ask_no_more()
        self._rounds.close()
        if self._producer is None:
            return
        whole = unfinished == self.size
        try:
            if whole and self._end is not None:
                self._end.close(self.step, self.time)
        finally:
            self._producer.close(finished=whole)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            try:
                self.close()
                return
            except BaseException as ending:
                self._give_up(ending)
                raise
        self._give_up(error)

    def _give_up(self, error: BaseException) -> None:
        """Tell the other ranks and people why the run is over, and leave without them."""
        if self._closed:
            return
        self._closed = True
        if not self._rounds.failure:
            what = "" if isinstance(error, HeadraceError) else f"{type(error).__name__}: "
            sentence = (
                f"Rank {self.rank} of {self.simulation!r} failed after step {self.step}: "
                f"{what}{str(error).rstrip('.')}."
            )
            self._tell_failure("failed", sentence)
            self._rounds.fail(sentence)
        if self._producer is not None:
            try:
                self._producer.close(finished=False)
            except HeadraceError:
                # The error that ended the simulation says more than the one that it brought about.
                _log.warning("link closed badly", exc_info=True)

    def _tell_failure(self, kind: str, sentence: str) -> None:
        if self._producer is not None:
            self.event(kind, sentence, level="error", step=self.step, rank=self.rank)


class _Carrier:
    """Rank 0's producer, which lets the other ranks wait while it waits for a command."""

    def __init__(self, producer: Producer, hold: Callable[[], None]) -> None:
        self._producer = producer
        self._hold = hold

    def commands(self) -> list[Command]:
        return self._producer.commands()

    def wait_for_command(self, timeout: float) -> bool:
        self._hold()
        return self._producer.wait_for_command(timeout)

    def acknowledge(self, acknowledgement: Acknowledgement) -> None:
        self._producer.acknowledge(acknowledgement)

    def event(self, event: Event) -> None:
        self._producer.event(event)

    def read_frame(self, reference: FrameReference, *, timeout: float) -> Frame:
        return self._producer.read_frame(reference, timeout=timeout)


def link_mpi(
    comm: MPI.Intracomm,
    simulation: str,
    *,
    stager: str | None = None,
    run_directory: Path | str | None = None,
    every: int = 1,
    whole: Sequence[str] = (),
    when_full: FullPolicy = "block",
    capacity: int = 256 << 20,
    schema: StreamSchema | None = None,
    example: Mapping[str, Any] | None = None,
    units: Mapping[str, str] | None = None,
    time_unit: str = "",
    topology: Topology | None = None,
    attributes: Mapping[str, str] | None = None,
    capabilities: Sequence[Capability] = (),
    keys: Any = None,
    timeout: float = 10.0,
    patience: float = PATIENCE,
    limit: float = 60.0,
) -> MpiLink:
    """Link the ranks of a simulation to a stager; every rank of the communicator calls it.

    Parameters
    ----------
    comm
        The ranks of this simulation.
    simulation
        Name of the simulation; its stream is the topic ``frames/<name>``.
    stager, run_directory, when_full, capacity, keys, timeout, patience
        See `sim_adapters.link.link`.
    every
        Steps between two frames.
    whole
        Arrays that are not decomposed: each rank has all of them, and rank 0's are sent. Numbers
        need not be named. All other arrays are split along their first axis.
    schema
        What frames are made of, with global shapes; or
    example
        this rank's arrays of one frame to derive it from. Without either, the first frame's.
    units, time_unit, topology, attributes
        For a schema that is derived.
    capabilities
        What others may do to the simulation.
    limit
        Seconds that a rank waits for the others, before it says who is missing and ends the run.

    Raises
    ------
    NobodyListening
        If no stager answers in time.
    MemberFailed
        If another rank could not open its stream, or does not come.
    """

    def describe(rounds: Rounds, values: Mapping[str, Any]) -> StreamSchema:
        if schema is not None:
            return msgspec.structs.replace(schema, n_ranks=rounds.size)
        return describe_blocks(
            rounds, values, whole=whole, units=units or {}, time_unit=time_unit,
            topology=topology, attributes=attributes or {},
        )  # fmt: skip

    folder = None if run_directory is None else Path(run_directory)
    out = MpiLink(
        comm, simulation, address=resolve(stager, folder, timeout=timeout), describe=describe,
        every=every, options=StreamOptions(when_full=when_full, capacity=capacity),
        capabilities=capabilities, keys=find_keys(keys), timeout=timeout, patience=patience,
        limit=limit,
    )  # fmt: skip
    if schema is not None or example is not None:
        try:
            out._open(example or {})
        except BaseException as error:
            out._give_up(error)
            raise
    return out
