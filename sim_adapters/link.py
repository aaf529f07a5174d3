"""Link any simulation that is driven from Python to staging, and let it be steered.

Ten lines are enough::

    with link("melt", every=100, capabilities=[Capability("stop")], units={"x": "nm"}) as stream:
        for step in range(1_000_000):
            x, v = advance(x, v)
            if stream.put(step, step * dt, x=x):
                stream.service(step, step * dt)
            if stream.stopped:
                break
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import time as clock
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np

from bridge.commands import Capability, Event
from bridge.errors import HeadraceError
from bridge.schema import StreamSchema, Topology
from bridge.staging.keys import find_keys
from bridge.staging.messages import FullPolicy, StreamOptions
from bridge.staging.producer import Producer
from bridge.staging.rendezvous import resolve
from bridge.steering import CommandChannel, SimulationEnd
from sim_adapters.asking import Asks
from sim_adapters.lives import read_answered
from sim_adapters.steered import Steered

__all__ = ["Link", "link"]

_log = logging.getLogger(__name__)

PATIENCE = 600.0
"""Seconds for which a frame waits for room in a full stream whose policy is ``block``."""


class Link(Asks, Steered):
    """The simulation's thread puts frames and applies commands here; see `link` for parameters.

    One thread uses a link. Sending happens in a thread of the producer. How commands are taken and
    answered is described in `sim_adapters.steered.Steered`.
    """

    def __init__(
        self,
        simulation: str,
        *,
        address: str,
        schema: StreamSchema | None = None,
        every: int = 1,
        select: Sequence[int] | None = None,
        fields: Sequence[str] | None = None,
        options: StreamOptions | None = None,
        capabilities: Sequence[Capability] = (),
        keys: Any = None,
        timeout: float = 10.0,
        patience: float = PATIENCE,
        describe: Callable[[Mapping[str, Any]], StreamSchema] = StreamSchema.from_arrays,
    ) -> None:
        super().__init__(simulation, every)
        self._address = address
        self._select = None if select is None else np.asarray(select, np.intp)
        self._fields = None if fields is None else tuple(fields)
        self._options = options or StreamOptions()
        self._capabilities = tuple(capabilities)
        self._keys = keys
        self._timeout = timeout
        self._patience = patience
        self._describe = describe
        self._producer: Producer | None = None
        self._last_put = self._putting = -1
        self._give_up = lambda: self.hears_stop(self._putting)
        self._closed = False
        if schema is not None:
            self._open(schema)
        atexit.register(self._close_at_exit)

    @property
    def producer(self) -> Producer:
        """The producer; there is none before the first frame where no schema was given."""
        if self._producer is None:
            raise self._lack_schema()
        return self._producer

    @property
    def next_frame(self) -> int:
        """Step from which on the next frame is sent."""
        return self._last_put + self.every if self._last_put >= 0 else 0

    def count_from(self, step: int) -> None:
        """Let the first frame come `every` steps after this one, instead of at once."""
        if self._last_put < 0:
            self._last_put = step

    def put(self, step: int, time: float, **arrays: Any) -> bool:
        """Send a frame if one is due; returns whether it was.

        Returns after one copy, unless the stream is full and its policy is ``block``: then it
        waits for room. A stop that comes meanwhile ends the wait: the frame is given up and
        counted as dropped, and the stop is applied by the next call of `service`.

        Raises
        ------
        SchemaError
            If an array is missing, or has another shape or dtype than the schema.
        FrameOrderError
            If the step is not greater than the one before.
        StreamFull
            If no room came free within the link's patience.
        """
        if step < self.next_frame:
            return False
        values = self._pick(arrays)
        producer = self._producer or self._open(self._describe(values))
        self._putting = step
        producer.put(
            step, time, values, epoch=self.epoch, timeout=self._patience, give_up=self._give_up
        )
        self.step, self.time, self._last_put = step, time, step
        return True

    def put_many(self, steps: Any, times: Any, **columns: Any) -> None:
        """Send stacked frames, each of which is due; the first axis counts them."""
        self._putting = int(steps[-1])
        self.producer.put_many(
            steps, times, columns, epochs=self.epoch, timeout=self._patience, give_up=self._give_up
        )
        self.step = self._last_put = int(steps[-1])
        self.time = float(times[-1])

    def wait(self, seconds: float) -> None:
        """Stand still for a while, or until a command arrives."""
        if seconds > 0:
            self.producer.wait_for_command(seconds)

    def event(
        self,
        kind: str,
        message: str,
        *,
        level: Literal["info", "warning", "error"] = "info",
        **data: Any,
    ) -> None:
        """Tell people something; `data` holds the numbers."""
        self.producer.event(
            Event(
                kind,
                message,
                simulation=self.simulation,
                source="adapter",
                level=level,
                stamp=clock.time(),
                data=data,
            )
        )

    def close(self, *, finished: bool = True) -> None:
        """Send what is left, refuse what has no answer, and leave; may be called again.

        Parameters
        ----------
        finished
            Tell readers that no more frames will come. False leaves the stream open for another
            life of the simulation.
        """
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self._close_at_exit)
        self._ask_no_more()
        if self._producer is None or self._end is None:
            return
        try:
            if finished:
                self._end.close(self.step, self.time)
        finally:
            # Of a stream that stayed full to the end, what found no room is counted as dropped.
            self._producer.close(finished=finished, abandon=self.stopped)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.close(finished=error is None)
        except HeadraceError:
            if error is None:
                raise
            # The error that ended the simulation says more than the one that it brought about.
            _log.warning("link closed badly", exc_info=True)

    def _close_at_exit(self) -> None:
        try:
            self.close(finished=False)
        except HeadraceError:
            _log.warning("link closed badly", exc_info=True)

    def _pick(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        values = dict(arrays)
        if self._fields is not None:
            values = {name: arrays[name] for name in self._fields if name in arrays}
        if self._select is None:
            return values
        rows = next((np.shape(v)[0] for v in values.values() if np.ndim(v)), 0)
        return {
            name: np.asarray(v)[self._select] if np.ndim(v) and np.shape(v)[0] == rows else v
            for name, v in values.items()
        }

    def _open(self, schema: StreamSchema) -> Producer:
        producer = Producer(
            self.simulation,
            schema,
            address=self._address,
            options=self._options,
            capabilities=self._capabilities,
            keys=self._keys,
            timeout=self._timeout,
        )
        with contextlib.ExitStack() as unless_linked:
            unless_linked.enter_context(producer)
            resumed = producer.resumed
            answered: set[str] = set()
            if resumed.next_offset:
                self.epoch = resumed.last_epoch + 1
                self._last_put = self.step = resumed.last_step
                self.time = resumed.last_time
                answered = read_answered(
                    self._address, self.simulation, keys=self._keys, timeout=self._timeout
                )
            channel = CommandChannel(
                self.simulation,
                self._capabilities,
                incarnation=resumed.incarnation,
                answered=answered,
            )
            unless_linked.pop_all()
        self._producer, self._schema = producer, schema
        self._end = SimulationEnd(producer, channel, timeout=self._timeout)
        return producer


def link(
    simulation: str,
    *,
    stager: str | None = None,
    run_directory: Path | str | None = None,
    every: int = 1,
    select: Sequence[int] | None = None,
    fields: Sequence[str] | None = None,
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
    transport: Literal["staging", "adios2"] = "staging",
    contact: Path | str | None = None,
) -> Link:
    """Link a simulation to a stager, or to readers that know ADIOS2.

    Waits up to `timeout` seconds for the stager. With a schema or an example the stream is opened
    now, else by the first frame.

    Parameters
    ----------
    simulation
        Name of the simulation; its stream is the topic ``frames/<name>``.
    stager
        Address of the stager; by default that of ``HEADRACE_STAGER``, else the one that
        announced itself in `run_directory`.
    run_directory
        Folder in which a stager of this run announces itself.
    every
        Steps between two frames.
    select
        Rows to send of every array that has as many rows as the first one.
    fields
        Names of the arrays to send; all by default.
    when_full
        ``block``, ``drop_oldest``, ``drop_newest`` or ``latest``.
    capacity
        Bytes that the stream may hold.
    schema
        What frames are made of, or
    example
        one frame's arrays to derive it from.
    units, time_unit, topology, attributes
        For a schema that is derived. The topology is that of all rows; `select`'s are taken of it.
    capabilities
        What others may do to the simulation.
    keys
        Keys for an encrypted connection, as `bridge.staging.keys.load_keys` returns them; by
        default those in the folder that ``HEADRACE_KEYS`` names, if it does.
    timeout
        Time limit in seconds for whatever waits for an answer of the stager.
    patience
        Time limit in seconds for a frame to wait for room, if the policy is ``block``.
    transport
        ``adios2`` writes an SST stream or BP5 file by openPMD's convention; and to the stager as
        well, if one is named here. Commands come from a stager alone.
    contact
        For ADIOS2: contact of the SST stream, or a file that ends in ``.bp``; by default the
        simulation's name.

    Raises
    ------
    NobodyListening
        If no stager answers in time.
    SteeringError
        If capabilities are given for ADIOS2 alone.
    """

    def describe(values: Mapping[str, Any]) -> StreamSchema:
        return StreamSchema.from_arrays(
            values,
            # A unit of what is not sent is no fault where only some arrays are.
            units={k: u for k, u in (units or {}).items() if fields is None or k in values},
            time_unit=time_unit,
            topology=topology if select is None or topology is None else topology.take(select),
            selection="" if select is None else f"{len(select)} rows",
            attributes=dict(attributes or {}),
        )

    folder = None if run_directory is None else Path(run_directory)
    make: Callable[..., Link] = Link
    if transport == "adios2":
        from sim_adapters.adios import AdiosLink

        make = partial(AdiosLink, contact=str(contact or simulation))
    staged = transport == "staging" or stager or folder
    out = make(
        simulation,
        address=resolve(stager, folder, timeout=timeout) if staged else "",
        every=every,
        select=select,
        fields=fields,
        options=StreamOptions(when_full=when_full, capacity=capacity),
        capabilities=capabilities,
        keys=find_keys(keys) if staged else None,
        timeout=timeout,
        patience=patience,
        describe=describe,
    )
    if schema is not None:
        out._open(schema)
    elif example is not None:
        out._open(describe(out._pick(example)))
    return out
