"""Programs that write ADIOS2 for ``headrace run``: started by us, or found where they write."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from bridge.commands import Event
from bridge.config import to_struct
from bridge.errors import ConfigError, HeadraceError, MemberFailed
from bridge.schema import check_name
from bridge.staging.adios import Ingest
from bridge.staging.connection import Connection
from bridge.staging.messages import StreamOptions
from bridge.staging.spread import connect
from sim_adapters.keys import key_folder
from sim_adapters.lives import check_unused, find_unfinished
from sim_adapters.member import derive_seed
from sim_adapters.mpi_launch import find_mpiexec

__all__ = ["AdiosWriter"]

_log = logging.getLogger(__name__)

_LINES = 15  # of what the program wrote last that a message holds
_AFTER_END = 15.0
"""Seconds after a program's end in which what it wrote is looked for: its file may still be on its
way through a network, but nobody writes it any more."""
_TURN = 0.02


class _Table(msgspec.Struct, frozen=True, kw_only=True):
    """Keys of the ``[simulation]`` table with ``adapter = "adios2"``.

    In `command` and `sources`, ``{name}`` stands for the name of the member, ``{seed}`` for its
    seed and ``{python}`` for this interpreter.

    Attributes
    ----------
    sources
        Contacts of SST streams, or BP files, in the folder of the configuration; several are the
        ranks of one simulation.
    command
        Program and arguments, started in the folder of the configuration, with the name and the
        seed in ``HEADRACE_SIMULATION`` and ``HEADRACE_SEED``. Without, somebody else writes.
    ranks
        Processes of the program, started with ``mpiexec``; 0 for one without MPI.
    members, name
        Number of simulations, called ``<name>`` or ``<name>-0`` and so on.
    mapping
        What the variables mean: a TOML file, or its contents as a table.
    engine, parameters
        As for ``headrace ingest``.
    open_timeout, patience, reopen
        Seconds to wait for a writer, for a step, and for another writer after one went away; the
        last only where no command is given.
    """

    sources: tuple[str, ...]
    command: tuple[str, ...] = ()
    ranks: int = 0
    members: int = 1
    name: str = "simulation"
    mapping: str | dict[str, Any] = ""
    engine: Literal["auto", "SST", "BP5"] = "auto"
    parameters: dict[str, str] = {}
    open_timeout: float = 60.0
    patience: float = 300.0
    reopen: float = 0.0

    def __post_init__(self) -> None:
        check_name(self.name, "name")
        if not self.sources:
            raise ConfigError("The key 'sources' is empty; it names SST streams or BP files.")
        if self.members < 1 or self.ranks < 0:
            raise ConfigError("The key 'members' is at least 1, and 'ranks' at least 0.")
        if self.members > 1 and not all("{name}" in source for source in self.sources):
            raise ConfigError(
                f"The {self.members} members would all be read from {', '.join(self.sources)}; "
                "write {name} into 'sources' where the member's name belongs."
            )
        if self.ranks and not self.command:
            raise ConfigError("The key 'ranks' is for a 'command' that is started; there is none.")
        for key in ("open_timeout", "patience"):
            if not 0 < getattr(self, key) < 1e9:
                raise ConfigError(f"The key {key!r} is {getattr(self, key)}; it is above 0.")


class AdiosWriter:
    """Simulations that write ADIOS2; see `sim_adapters.member.Adapter`.

    Their steps become frames as by ``headrace ingest``; commands are refused, as ADIOS2 has no way
    back. A member that is started again starts its program again; steps that the stream holds
    already are passed over.
    """

    def __init__(self, table: _Table, base: Path) -> None:
        self._table = table
        self._base = base

    @classmethod
    def from_table(cls, table: Mapping[str, Any], base: Path) -> AdiosWriter:
        """Make the adapter from its configuration table."""
        made = cls(to_struct(_Table, table, "adapter 'adios2'"), base)
        if made._table.ranks:
            find_mpiexec()
        # What is wrong with the mapping is told before anything is started.
        made._ingest(made.members()[0], "tcp://127.0.0.1:1", None, "", 1.0)
        return made

    def members(self) -> list[str]:
        """Return the names of the simulations."""
        table = self._table
        if table.members == 1:
            return [table.name]
        return [f"{table.name}-{number}" for number in range(table.members)]

    def simulations(self, member: str) -> list[str]:
        """Return the simulation's own name."""
        return [member]

    def run(self, member: str, connection: Connection, *, seed: int, resume: bool) -> None:
        """Carry the steps of a writer into staging until it ends.

        Raises
        ------
        MemberFailed
            If the program ends with an error, or without having written what is read.
        HeadraceError
            As `bridge.staging.adios.Ingest.run`.
        """
        if not resume:
            check_unused([member], connection)
        elif not find_unfinished([member], connection):
            return
        with key_folder(connection) as keys:
            ingest = self._ingest(
                member, connection.address, connection.options, keys, connection.timeout
            )
            try:
                if self._table.command:
                    self._run_program(member, ingest, seed)
                else:
                    ingest.run()
            except MemberFailed as error:
                _tell(member, str(error), connection)
                raise

    def _ingest(
        self, member: str, address: str, options: StreamOptions | None, keys: str, timeout: float
    ) -> Ingest:
        table = self._table
        mapping: Path | dict[str, Any] | None = None
        if table.mapping:
            given = table.mapping
            mapping = self._base / given if isinstance(given, str) else given
        return Ingest(
            self._sources(member), member, address=address, mapping=mapping, engine=table.engine,
            parameters=table.parameters, options=options, keys=keys,
            open_timeout=table.open_timeout, patience=table.patience,
            reopen=0.0 if table.command else table.reopen, timeout=timeout,
        )  # fmt: skip

    def _sources(self, member: str) -> list[str]:
        return [str(self._base / s.replace("{name}", member)) for s in self._table.sources]

    def _run_program(self, member: str, ingest: Ingest, seed: int) -> None:
        before = _look(self._sources(member))
        own = derive_seed(seed, member)
        names = {"{python}": sys.executable, "{name}": member, "{seed}": str(own)}
        command = list(self._table.command)
        for place, value in names.items():
            command = [word.replace(place, value) for word in command]
        if self._table.ranks:
            command = [find_mpiexec(), "-n", str(self._table.ranks), *command]
        environment = {"HEADRACE_SIMULATION": member, "HEADRACE_SEED": str(own)}
        with _Program(member, command, self._base, environment) as program:
            # What an earlier run left must not be taken for what this one writes.
            deadline = time.monotonic() + self._table.open_timeout
            while before and _look(self._sources(member)) == before:
                ended = program.over(0.0)
                program.check()
                if time.monotonic() > deadline or ended:
                    when = "before it ended" if ended else f"for {self._table.open_timeout:g} s"
                    raise MemberFailed(
                        f"The program of {member!r} wrote nothing to "
                        f"{', '.join(self._sources(member))} {when}; what is there is of an "
                        f"earlier run.{program.last_words()}"
                    )
                time.sleep(_TURN)
            try:
                done = ingest.run(lambda: program.over(_AFTER_END))
            except HeadraceError:
                program.check()  # why it ended says more than that it is gone
                raise
            if not done.finished:
                program.check()
                raise MemberFailed(
                    f"The program of {member!r} has ended, and what it wrote to "
                    f"{', '.join(self._sources(member))} was not closed or cannot be found; "
                    f"{done.frames} frames were read.{program.last_words()}"
                )
            program.wait(self._table.patience)
            program.check()


class _Program:
    """A program that ends when this process does; what it writes goes to the log."""

    def __init__(
        self, member: str, command: list[str], directory: Path, environment: Mapping[str, str]
    ) -> None:
        self._member = member
        self._said: deque[str] = deque(maxlen=_LINES)
        self._ended = 0.0
        self._process = subprocess.Popen(
            [sys.executable, "-m", "sim_adapters.leash", *command],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            errors="replace", env={**os.environ, **environment}, cwd=directory,
        )  # fmt: skip
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.strip():
                self._said.append(line.rstrip())
                _log.info("%r: %s", self._member, line.rstrip())

    def over(self, since: float) -> bool:
        """Whether it failed, or ended well this many seconds ago."""
        code = self._process.poll()
        if code is None:
            return False
        self._ended = self._ended or time.monotonic()
        return bool(code) or time.monotonic() - self._ended >= since

    def wait(self, timeout: float) -> None:
        """Wait for its end."""
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise MemberFailed(
                f"The program of {self._member!r} closed its output and still ran {timeout:g} s "
                f"later; it was ended.{self.last_words()}"
            ) from None

    def check(self) -> None:
        """Raise if it ended with an error."""
        code = self._process.poll()
        if code:
            raise MemberFailed(
                f"The program of {self._member!r} ended with exit code {code}.{self.last_words()}"
            )

    def last_words(self) -> str:
        """Return what it wrote last, as a sentence."""
        if self._process.poll() is not None:
            self._listener.join(2.0)
        return f" It wrote last: {' | '.join(self._said)}" if self._said else ""

    def __enter__(self) -> _Program:
        return self

    def __exit__(self, *error: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()  # ends it, where it still runs
        self._process.wait()
        self._listener.join(5.0)
        self._process.stdout.close()


def _look(sources: list[str]) -> list[tuple[str, int, int]]:
    """Return what there is of some streams, so that a change can be seen."""
    out = []
    for source in sources:
        for path in (Path(source), Path(source) / "md.idx", Path(f"{source}.sst")):
            if path.exists():
                facts = path.stat()
                out.append((str(path), facts.st_mtime_ns, facts.st_size))
    return out


def _tell(member: str, message: str, connection: Connection) -> None:
    event = Event("failed", message, simulation=member, source="adapter", level="error")
    try:
        with connect(
            connection.address, name=f"{member} (adios2)", keys=connection.keys or None,
            timeout=connection.timeout,
        ) as client:  # fmt: skip
            client.append("events", [msgspec.msgpack.encode(event)])
    except HeadraceError:
        _log.warning("event could not be told", exc_info=True)
