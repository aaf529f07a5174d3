"""The process beside an engine: one loop that carries frames one way and commands the other."""

from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from bridge.commands import Event
from bridge.errors import ConfigError, ConnectionLost, HeadraceError, NobodyListening
from bridge.staging.connection import Connection
from bridge.staging.producer import Producer
from bridge.staging.spread import connect
from bridge.steering import CommandChannel
from bridge.transports.imd import EngineConnection, Frames, Kind
from sim_adapters.imd_commands import EngineCommands, list_capabilities
from sim_adapters.imd_frames import Columns, Converter
from sim_adapters.imd_gaps import Gaps
from sim_adapters.imd_table import ImdTable
from sim_adapters.imd_units import engine_units
from sim_adapters.lives import read_answered

__all__ = ["Sidecar"]

_log = logging.getLogger(__name__)

LOOK = 0.05
"""Seconds between two looks at commands while no frame comes."""

ROOM_WAIT = 600.0
"""Seconds for which frames wait for room in a full stream whose policy is ``block``."""


@dataclass(slots=True)
class _Stream:
    """What lasts over several sessions with an engine."""

    producer: Producer
    channel: CommandChannel
    step: int
    time: float
    epoch: int


class Sidecar:
    """Carries frames and commands between an engine and a stager; one thread runs it."""

    def __init__(self, table: ImdTable, gaps: Gaps, connection: Connection) -> None:
        self._table = table
        self._gaps = gaps
        self._connection = connection
        self._stream: _Stream | None = None
        self._frames = 0

    def run(self) -> None:
        """Join the engine's session, and others after it if the engine comes again."""
        table = self._table
        patience = table.patience
        finished = False
        try:
            while True:
                try:
                    engine = EngineConnection(
                        table.host, table.port, patience=patience,
                        timeout=self._connection.timeout, atoms=self._gaps.atoms,
                    )  # fmt: skip
                except NobodyListening as error:
                    if self._stream is None:
                        raise
                    self._event("imd_finished", f"The engine did not come again: {error}")
                    finished = True
                    return
                with engine:
                    self._carry(engine)
                patience = table.reconnect
                if not patience:
                    finished = True
                    return
        except HeadraceError as error:
            self._tell("imd_failed", str(error), "error")
            raise
        finally:
            self._close(finished)

    # ---------------------------------------------------------------- a session

    def _carry(self, engine: EngineConnection) -> None:
        table = self._table
        if engine.info.version == 3 and table.wait is not None:
            engine.send(Kind.WAIT, int(table.wait))
        if table.rate:
            engine.send(Kind.RATE, table.rate)
        units = engine_units(table.engine, table.units, engine.info.version)
        first = self._wait_for_first(engine)
        if table.rate and not first.first_numbered:
            raise ConfigError(
                "The engine does not number its frames, so nobody knows from which on another "
                "rate holds: set the rate in the engine, and give it by --every."
            )
        converter = Converter(engine.info, first, units, self._gaps)
        stream = self._open(converter, numbered=first.first_numbered)
        commands = EngineCommands(
            engine, stream.channel, pull=table.pull, force=units.pull,
            patience=table.command_patience,
        )  # fmt: skip
        self._event(
            "imd_joined",
            f"{table.name!r} is read from {engine.place} by IMD version {engine.info.version}: "
            f"{engine.atoms} atoms.",
            atoms=engine.atoms, version=engine.info.version,
        )  # fmt: skip
        frames: Frames | None = first
        try:
            while frames is not None or not engine.ended:
                if frames is not None:
                    self._put(stream, converter, frames, commands)
                self._steer(stream, commands)
                if engine.silence > table.silence and not commands.paused:
                    raise ConnectionLost(
                        f"The engine at {engine.place} has said nothing for "
                        f"{engine.silence:.0f} s, after step {stream.step}; it is given up. Raise "
                        "--silence if its frames are that far apart."
                    )
                frames = self._read(engine, commands)
        finally:
            self._leave(engine, stream, commands)

    @staticmethod
    def _read(engine: EngineConnection, commands: EngineCommands) -> Frames | None:
        try:
            return engine.read(LOOK)
        except ConnectionLost:
            if not commands.stopping:
                raise
            # Who is told to end may do so within a frame.
            return None

    def _wait_for_first(self, engine: EngineConnection) -> Frames:
        while (frames := engine.read(LOOK)) is None:
            if engine.ended:
                raise ConnectionLost(
                    f"No frame came from {engine.place}: {engine.ended}. An engine that serves "
                    "another reader, or has no atoms to send, does that."
                )
            if engine.silence > self._table.silence:
                raise ConnectionLost(
                    f"The engine at {engine.place} took the connection and sent no frame for "
                    f"{engine.silence:.0f} s; it is given up."
                )
        return frames

    def _put(
        self, stream: _Stream, converter: Converter, frames: Frames, commands: EngineCommands
    ) -> None:
        for steps, times, columns in converter.convert(frames):
            self._put_new(stream, converter, commands, steps, times, columns)
        commands.counted = converter.counts

    def _put_new(
        self,
        stream: _Stream,
        converter: Converter,
        commands: EngineCommands,
        steps: npt.NDArray[np.int64],
        times: npt.NDArray[np.float64],
        columns: Columns,
    ) -> None:
        if steps[0] <= stream.step or (steps[1:] <= steps[:-1]).any():
            # An engine that began again from a checkpoint, or ran 0 steps, sends some once more.
            before = np.maximum.accumulate(np.r_[stream.step, steps[:-1]])
            new = steps > before
            at = int(new.argmin())
            self._event(
                "steps_repeated",
                f"{np.count_nonzero(~new)} frames of {self._table.name!r}, from step {steps[at]} "
                f"on, are left out: the stream has come to step {before[at]} already.",
                level="warning", step=int(steps[at]),
            )  # fmt: skip
            steps, times = steps[new], times[new]
            columns = {name: values[new] for name, values in columns.items()}
        if len(steps):
            stream.producer.put_many(
                steps,
                times,
                columns,
                epochs=stream.epoch,
                factors=converter.factors,
                timeout=ROOM_WAIT,
                give_up=lambda: self._hears_stop(stream, int(steps[-1])),
            )
            stream.step, stream.time = int(steps[-1]), float(times[-1])
            self._frames += len(steps)
            commands.saw(steps, times)

    def _hears_stop(self, stream: _Stream, step: int) -> bool:
        """Return whether a stop waits to be told to the engine, while a full stream holds it."""
        stream.channel.deliver(stream.producer.commands())
        return stream.channel.stop_waits(step, time.time())

    def _steer(self, stream: _Stream, commands: EngineCommands) -> None:
        arrived = stream.producer.commands()
        if arrived:
            stream.channel.deliver(arrived)
        commands.ask()
        if commands.waiting:
            commands.look()
        for answer in stream.channel.take_answers():
            stream.producer.acknowledge(answer)

    def _leave(self, engine: EngineConnection, stream: _Stream, commands: EngineCommands) -> None:
        if engine.ended:
            self._event(
                "imd_ended",
                f"The session with {engine.place} is over after step {stream.step}: "
                f"{engine.ended}.",
                step=stream.step, frames=self._frames,
            )  # fmt: skip
        try:
            commands.let_go()
        except HeadraceError:
            _log.warning("engine could not be let go", exc_info=True)
        self._steer(stream, commands)
        stream.epoch += 1

    # --------------------------------------------------------------- the stream

    def _open(self, converter: Converter, *, numbered: bool) -> _Stream:
        table, connection = self._table, self._connection
        schema = converter.schema
        if self._stream is not None:
            if self._stream.producer.schema != schema:
                raise ConfigError(
                    f"The engine came again and sends other things than before; give it a name "
                    f"other than {table.name!r}."
                )
            return self._stream
        force = next((v.unit for v in schema.variables if v.name == "forces"), "kJ/mol/nm")
        capabilities = list_capabilities(table.pull, numbered=numbered, unit=force)
        producer = Producer(
            table.name, schema, address=connection.address, options=connection.options,
            capabilities=capabilities, keys=connection.keys or None, timeout=connection.timeout,
        )  # fmt: skip
        with contextlib.ExitStack() as unless_opened:
            unless_opened.enter_context(producer)
            resumed = producer.resumed
            answered: set[str] = set()
            if resumed.next_offset:
                answered = read_answered(
                    connection.address, table.name, keys=connection.keys, timeout=connection.timeout
                )
            channel = CommandChannel(
                table.name, capabilities, incarnation=resumed.incarnation, answered=answered,
                hand_out_all=True,
            )  # fmt: skip
            unless_opened.pop_all()
        epoch = resumed.last_epoch + 1 if resumed.next_offset else 0
        self._stream = _Stream(producer, channel, resumed.last_step, resumed.last_time, epoch)
        return self._stream

    def _close(self, finished: bool) -> None:
        stream = self._stream
        if stream is None:
            return
        try:
            if finished:
                stream.channel.deliver(stream.producer.commands())
                stream.channel.close(stream.step, stream.time, time.time())
                for answer in stream.channel.take_answers():
                    stream.producer.acknowledge(answer)
        finally:
            stream.producer.close(finished=finished)

    # -------------------------------------------------------------------- events

    def _event(self, kind: str, message: str, *, level: Any = "info", **data: Any) -> None:
        if self._stream is not None:
            self._stream.producer.event(
                Event(
                    kind,
                    message,
                    simulation=self._table.name,
                    source="imd",
                    level=level,
                    stamp=time.time(),
                    data=data,
                )
            )

    def _tell(self, kind: str, message: str, level: Any) -> None:
        """Tell of a failure, also before there is a stream; says nothing if that fails as well."""
        if self._stream is not None:
            self._event(kind, message, level=level, step=self._stream.step)
            return
        event = Event(
            kind, message, simulation=self._table.name, source="imd", level=level,
            stamp=time.time(),
        )  # fmt: skip
        try:
            with connect(
                self._connection.address, name=f"{self._table.name} (imd)",
                keys=self._connection.keys or None, timeout=self._connection.timeout,
            ) as client:  # fmt: skip
                client.append("events", [msgspec.msgpack.encode(event)])
        except HeadraceError:
            _log.warning("event could not be told", exc_info=True)
