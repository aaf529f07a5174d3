"""A specimen that runs in processes of its own: under MPI, in another language, in another program.

`ProcessMaker` starts one for each specimen and drives it by words; nothing but the standard input
and output is needed there. A program in Python is the other end by calling `serve_specimen`; one in
another language reads words and writes JSON, a line each.

The command is started with four arguments more: the name of the simulation, the stager's address
(``-`` for a simulation without the adapter), the steps between frames, and the selection (``-`` for
all rows, a text as it is, anything else as JSON). Then it reads

=================  ================================================
``advance N``      do this many steps
``state``          tell ``arrays`` of `Specimen.state`
``frame``          tell ``arrays`` of `Specimen.frame`
``read NAME``      tell the ``value`` of a parameter
``close 0|1``      close the link; 1 if the simulation is finished
=================  ================================================

and ends when its standard input does. It writes one line of JSON when it is ready, and one for each
line that it read, with the keys ``step`` (always), ``going`` (false once it was stopped),
``arrays`` (by name, each with ``dtype``, ``shape`` and ``hex``, its bytes in C order), ``value``,
or ``error`` (a sentence). Other lines that it writes are quoted if it fails.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from bridge.errors import MemberFailed
from bridge.testing.adapter_tools import Maker, Specimen

__all__ = ["START_PATIENCE", "ProcessMaker", "ProcessSpecimen", "serve_specimen"]

START_PATIENCE = 100.0
"""Seconds for which a process may be silent before it is ended: several interpreters that start
under MPI on a busy machine take half of that."""

_LINES = 15


class _Array(msgspec.Struct):
    dtype: str
    shape: tuple[int, ...]
    hex: str

    def restore(self) -> npt.NDArray[Any]:
        return np.frombuffer(bytes.fromhex(self.hex), self.dtype).reshape(self.shape)


class _Answer(msgspec.Struct):
    step: int
    going: bool = True
    arrays: dict[str, _Array] = {}
    value: float | None = None
    error: str = ""


class ProcessSpecimen:
    """A specimen in processes of its own; made by a `ProcessMaker`.

    Raises `bridge.errors.MemberFailed` if the processes end or tell of an error, or are silent for
    `START_PATIENCE` seconds. They are ended when the object is not used any more.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
    ) -> None:
        self._process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**os.environ, **(environment or {})},
            cwd=directory,
        )
        self._end = weakref.finalize(self, _end_process, self._process)
        self._said: deque[str] = deque(maxlen=_LINES)
        self._step = self._listen().step

    @property
    def step(self) -> int:
        """Steps done so far."""
        return self._step

    def advance(self, steps: int) -> bool:
        """Do this many steps; see `Specimen.advance`."""
        return self._ask(f"advance {steps}").going

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return everything that decides how it goes on."""
        return {name: a.restore() for name, a in self._ask("state").arrays.items()}

    def frame(self) -> dict[str, npt.NDArray[Any]]:
        """Return what a frame of this moment carries."""
        return {name: a.restore() for name, a in self._ask("frame").arrays.items()}

    def read(self, parameter: str) -> float:
        """Return the present value of a parameter that can be set."""
        value = self._ask(f"read {parameter}").value
        if value is None:
            raise MemberFailed(f"The specimen told no value of {parameter!r}.")
        return value

    def close(self, *, finished: bool = True) -> None:
        """Close the link."""
        self._ask(f"close {finished:d}")

    def _ask(self, words: str) -> _Answer:
        assert self._process.stdin is not None
        # Where it has ended, what it wrote last says why.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(f"{words}\n")
            self._process.stdin.flush()
        answer = self._listen()
        self._step = answer.step
        if answer.error:
            raise MemberFailed(f"The specimen failed to {words!r}: {answer.error}")
        return answer

    def _listen(self) -> _Answer:
        assert self._process.stdout is not None
        timer = threading.Timer(START_PATIENCE, self._process.kill)
        timer.daemon = True
        timer.start()
        try:
            for line in self._process.stdout:
                if line.startswith("{"):
                    return msgspec.json.decode(line, type=_Answer)
                if line.strip():
                    self._said.append(line.rstrip())
        except msgspec.MsgspecError as error:
            raise MemberFailed(f"The specimen wrote what is no answer: {error}: {line}") from error
        finally:
            timer.cancel()
        status = self._process.wait()
        raise MemberFailed(
            f"The specimen ended with exit code {status} instead of an answer, or was silent for "
            f"{START_PATIENCE:.0f} s. It wrote last: {' | '.join(self._said)}"
        )


def _end_process(process: subprocess.Popen[str]) -> None:
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        with contextlib.suppress(BrokenPipeError):
            pipe.close()
    try:
        process.wait(10.0)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class ProcessMaker:
    """Makes specimens of a command, each in a process of its own; an `AdapterCase.make`.

    Parameters
    ----------
    command
        Program and arguments; four more are added, as said at the top of this module.
    environment
        Additions to this process's environment.
    directory
        Where it runs.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
    ) -> None:
        self._command = list(command)
        self._environment = dict(environment or {})
        self._directory = directory

    def __call__(
        self, name: str, address: str | None, *, every: int = 1, select: Any = None
    ) -> ProcessSpecimen:
        """Start a process; see `Maker`."""
        chosen = select if isinstance(select, str) else json.dumps(select)
        arguments = [name, address or "-", str(every), "-" if select is None else chosen]
        return ProcessSpecimen(
            [*self._command, *arguments],
            environment=self._environment,
            directory=self._directory,
        )


def serve_specimen(
    make: Maker,
    arguments: Sequence[str] | None = None,
    *,
    rank: int = 0,
    share: Callable[[str], str] = str,
) -> None:
    """Be the process that a `ProcessMaker` started; returns when the checks are over.

    Parameters
    ----------
    make
        Makes the specimen; called on every rank. As rank 0 answers for all, its `close` returns
        when all ranks have closed: where the adapter does not wait for that, a barrier does.
    arguments
        The four that were added to the command; by default the last ones of ``sys.argv``.
    rank
        Of several processes, the one with rank 0 has the pipes: it alone reads and answers.
    share
        Returns rank 0's argument on all ranks; with mpi4py, ``comm.bcast``. Each word is carried
        out by all of them.
    """
    name, address, every, select = sys.argv[-4:] if arguments is None else arguments
    try:
        chosen = None if select == "-" else json.loads(select)
    except json.JSONDecodeError:
        chosen = select
    specimen = make(name, None if address == "-" else address, every=int(every), select=chosen)
    answer = _Answer(specimen.step)
    while True:
        if rank == 0:
            sys.stdout.write(msgspec.json.encode(answer).decode() + "\n")
            sys.stdout.flush()
        line = share(sys.stdin.readline() if rank == 0 else "")
        if not line:
            return
        answer = _carry_out(specimen, line)


def _carry_out(specimen: Specimen, line: str) -> _Answer:
    verb, _, word = line.strip().partition(" ")
    answer = _Answer(0)
    try:
        match verb:
            case "advance":
                answer.going = specimen.advance(int(word))
            case "state" | "frame":
                found = specimen.state() if verb == "state" else specimen.frame()
                answer.arrays = {key: _describe(value) for key, value in found.items()}
            case "read":
                answer.value = specimen.read(word)
            case "close":
                specimen.close(finished=word != "0")
            case _:
                answer.error = f"Nobody knows the word {verb!r}."
    except Exception as error:
        answer.error = f"{type(error).__name__}: {error}"
    answer.step = specimen.step
    return answer


def _describe(value: npt.NDArray[Any]) -> _Array:
    array = np.asarray(value)
    return _Array(array.dtype.str, array.shape, array.tobytes().hex())
