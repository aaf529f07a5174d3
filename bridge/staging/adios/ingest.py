"""ADIOS2 in: the steps of SST streams and BP5 files, from any writer, become frames in staging."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from bridge.commands import Event
from bridge.errors import ConfigError, ConnectionLost, HeadraceError, NobodyListening
from bridge.schema import check_name
from bridge.staging.adios.child import Child, Said, to_error
from bridge.staging.adios.reading import ReadTask
from bridge.staging.keys import load_keys
from bridge.staging.messages import StreamOptions
from bridge.staging.spread import connect
from bridge.transports.adios.library import load
from bridge.transports.adios.mapping import StreamMapping, read_mapping
from bridge.transports.adios.source import Engine

__all__ = ["Ingest", "Ingested"]

_TURN = 0.1
_LEAVE = 40.0
"""Seconds that the reading process has to put what it has read once it is told to end."""


@dataclass(frozen=True, slots=True)
class Ingested:
    """What an ingest did."""

    frames: int
    """Frames that were put into the stream."""
    skipped: int
    """Steps that were not: the stream had them already, another rank lacked them, or it was full
    and its policy drops."""
    last_step: int
    """Step of the newest frame; -1 without any."""
    finished: bool
    """The writer closed its stream; False if the ingest was told to end."""
    lives: int
    """How often a writer was found."""
    seconds: float
    """How long it took."""


class Ingest:
    """Puts what ADIOS2 writers send into the stream of one simulation.

    ADIOS2 is read by a process of its own, right into the rows of the stream, so that nothing in
    it can hang this process: each wait has a limit, at which that process ends. What happens to
    the stream is told in the topic ``events``.

    Parameters
    ----------
    targets
        Contact of an SST stream, or a BP file that may still grow. Several are the ranks of one
        simulation, in their order: their steps are joined, and their rows too: by what each
        declares as its place in the global array, or else one behind another.
    simulation
        Name of the simulation.
    address
        Where the stager listens.
    mapping
        What the variables mean, as a TOML file or as a table; see
        `bridge.transports.adios.mapping`. Without, attributes say it.
    engine
        ``SST``, ``BP5`` or ``auto``.
    parameters
        For ADIOS2's engine, such as ``{"DataTransport": "RDMA"}`` for SST on a cluster.
    options
        How the stager keeps the stream. Of an SST stream with ``latest`` only the newest step is
        fetched; with ``block`` a full stream makes the writer wait, if its own policy is to wait.
    keys
        Folder of keys for an encrypted connection.
    open_timeout
        Seconds to wait for the writers, or the file.
    patience
        Seconds to wait for a step, and for its data to arrive.
    reopen
        Seconds to wait for another writer after one went away without closing its stream; 0 for
        not at all.
    room_timeout
        Seconds to wait for room in a stream that blocks.
    timeout
        Seconds for whatever waits for an answer of the stager.
    """

    def __init__(
        self,
        targets: Sequence[str],
        simulation: str,
        *,
        address: str,
        mapping: Path | Mapping[str, Any] | StreamMapping | None = None,
        engine: Engine = "auto",
        parameters: Mapping[str, str] | None = None,
        options: StreamOptions | None = None,
        keys: str = "",
        open_timeout: float = 60.0,
        patience: float = 300.0,
        reopen: float = 0.0,
        room_timeout: float = 600.0,
        timeout: float = 10.0,
    ) -> None:
        load()
        if not targets:
            raise ConfigError("Name at least one SST stream or BP file to read.")
        if min(open_timeout, patience, room_timeout, timeout) <= 0 or reopen < 0:
            raise ConfigError("Time limits are positive numbers of seconds.")
        read = mapping if isinstance(mapping, StreamMapping) else read_mapping(mapping)
        self._reopen = reopen
        self._task = ReadTask(
            targets=list(targets),
            simulation=check_name(simulation, "simulation"),
            address=address,
            engine=engine,
            parameters=dict(parameters or {}),
            mapping=_as_table(read),
            options=options or StreamOptions(),
            keys=keys,
            open_timeout=open_timeout,
            patience=patience,
            room_timeout=room_timeout,
            timeout=timeout,
        )
        self._frames = self._skipped = self._lives = 0
        self._last_step = -1
        self._child: Child | None = None

    @property
    def frames(self) -> int:
        """Frames put so far; may be read by any thread."""
        child = self._child
        return self._frames + (0 if child is None else child.progress().frames)

    @property
    def lives(self) -> int:
        """How often a writer was found so far; may be read by any thread."""
        return self._lives

    def run(
        self,
        until: Callable[[], bool] = lambda: False,
        *,
        on_opened: Callable[[str], None] = lambda message: None,
    ) -> Ingested:
        """Read until the writer closes its stream, or until told to end.

        Parameters
        ----------
        until
            Asked ten times a second whether to end; the stream stays open then.
        on_opened
            Called with a sentence when a writer was found and its variables are known.

        Raises
        ------
        NobodyListening
            If a time limit passed: no writer, no step, or no data.
        ConnectionLost
            If a writer went away, or the stager did.
        ConfigError, ProtocolError, SchemaError
            If what comes does not fit the mapping, or the stream.
        """
        began = time.monotonic()
        task = self._task
        while True:
            try:
                finished = self._live(task, until, on_opened)
            except HeadraceError as error:
                again = self._reopen and isinstance(error, ConnectionLost | NobodyListening)
                again = again and self._lives > 0 and not until()
                self._event("adios_retry" if again else "adios_failed", str(error), not again)
                if not again:
                    raise
                task = msgspec.structs.replace(task, open_timeout=self._reopen)
                continue
            return Ingested(
                self._frames, self._skipped, self._last_step, finished, self._lives,
                time.monotonic() - began,
            )  # fmt: skip

    def _live(
        self, task: ReadTask, until: Callable[[], bool], on_opened: Callable[[str], None]
    ) -> bool:
        """Run one reading process; return whether the writer closed its stream."""
        child = Child(
            "bridge.staging.adios.reading",
            msgspec.to_builtins(task),
            what=f"the reader of {', '.join(task.targets)}",
        )
        self._child = child
        failure: HeadraceError | None = None
        done = False
        stopped = 0.0
        try:
            while (lines := child.listen(_TURN)) is not None:
                for said in lines:
                    if said.kind == "error":
                        failure = to_error(said)
                    elif said.kind == "done":
                        done = True
                    else:
                        self._hear(said, on_opened)
                if stopped and time.monotonic() - stopped > _LEAVE:
                    break
                if not stopped and until():
                    stopped = time.monotonic()
                    child.ask_to_stop()
            if failure is None and not done and not stopped:
                failure = child.why_ended()
        finally:
            seen = child.progress()
            self._child = None
            self._frames += seen.frames
            self._skipped += seen.skipped
            self._last_step = max(self._last_step, seen.step)
            child.close()
        if failure is not None:
            raise failure
        return not stopped

    def _hear(self, said: Said, on_opened: Callable[[str], None]) -> None:
        if said.kind == "opened":
            self._lives += 1
            on_opened(said.message)
            self._event("adios_opened", f"Reading {said.message}", False, said.data)
        else:
            self._event(said.name, said.message, said.level == "error", said.data, said.level)

    def _event(
        self,
        kind: str,
        message: str,
        grave: bool,
        data: dict[str, Any] | None = None,
        level: Any = None,
    ) -> None:
        event = Event(
            kind,
            message,
            simulation=self._task.simulation,
            source="adios",
            level=level or ("error" if grave else "info"),
            stamp=time.time(),
            data=data or {},
        )
        keys = load_keys(Path(self._task.keys)) if self._task.keys else None
        try:
            with connect(
                self._task.address, name="adios", keys=keys, timeout=self._task.timeout
            ) as client:
                client.append("events", [msgspec.msgpack.encode(event)])
        except HeadraceError:
            # The stager is away: then that is what `run` tells.
            if not grave:
                raise


def _as_table(mapping: StreamMapping) -> dict[str, Any]:
    table: dict[str, Any] = msgspec.to_builtins(mapping)
    return {k: v for k, v in table.items() if v}
