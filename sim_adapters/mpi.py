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
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self
from uuid import uuid4

import msgspec
import numpy as np
import numpy.typing as npt

from bridge.codec import decode_state, encode_state
from bridge.commands import Capability, Event
from bridge.errors import HeadraceError, MemberFailed, SchemaError
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
from sim_adapters.mpi_steered import FRAME, HOLD, JOB, Carrier, MpiSteered
from sim_adapters.steered import Arrays

__all__ = ["MpiLink", "link_mpi"]

_log = logging.getLogger(__name__)

_LARGE = 4 << 20
"""Bytes of a frame above which segments hold one frame: a million atoms from four ranks were read
at 2.4 GB/s within 128 MiB then, and at 1.0 with segments for four frames within 512 MiB."""


class MpiLink(Asks, MpiSteered):
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
        super().__init__(comm, simulation, every, limit)
        self._address = address
        self._describe = describe
        self._options = options or StreamOptions()
        self._capabilities = tuple(capabilities)
        self._keys = keys
        self._timeout = timeout
        self._patience = patience
        self._job = ""
        self._start, self._rows = 0, -1
        self._last_put = -1
        self._closed = False

    # ----------------------------------------------------------------- frames

    @property
    def producer(self) -> Producer:
        """The producer of the rank; there is none before the first frame without a schema."""
        if self._producer is None:
            raise self._lack_schema()
        return self._producer

    @property
    def next_frame(self) -> int:
        """Step from which on the next frame is sent; the same on all ranks."""
        return self._last_put + self.every if self._last_put >= 0 else 0

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
                give_up=partial(self._gives_up, producer, step),
            )  # fmt: skip
        finally:
            self._rounds.busy = ""
        self.step, self.time, self._last_put = step, time, step
        return True

    def _gives_up(self, producer: Producer, step: int) -> bool:
        """Return whether a rank that waits for room is to go on without: a stop has come.

        Each looks for itself, as the others may wait elsewhere; they apply it together, at the
        next call of `service` that rank 0 comes to knowing of it.
        """
        self._rounds.check()
        return self.hears_stop(step) if self.rank == 0 else producer.hears_stop(step)

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

    def read_last_frame(self) -> Arrays | None:
        """Return the newest frame of an earlier life, the same on all ranks; every rank calls it.

        None if there is none, or it was released.
        """
        if self.rank:
            told = self._rounds.listen(step=self.step)
            return dict(decode_state(told.payload)) if told.payload else None
        frame = read_last_frame(self.producer, timeout=self._timeout)
        values = None if frame is None else {k: np.array(v) for k, v in frame.values.items()}
        self._rounds.tell(FRAME, payload=encode_state(values) if values else b"", step=self.step)
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
            carrier = Carrier(producer, lambda: self._rounds.tell(HOLD, step=self.step))
            self._end = SimulationEnd(carrier, channel, timeout=self._timeout)
        return producer

    def _begin(self, schema: StreamSchema) -> Producer:
        # Without it, ranks might join what a job that died had opened in part.
        if self.rank == 0:
            self._job = uuid4().hex
            self._rounds.tell(JOB, payload=self._job.encode(), step=self.step)
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
            self._producer.close(finished=whole, abandon=self._stopped)

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
