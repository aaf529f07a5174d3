"""One ADIOS2 stream or file that is being read, step by step.

ADIOS2's calls wait in C++ and let no other Python thread run meanwhile. What waits here does it in
short turns; what cannot be cut short (opening, the transfer of the data) is for a process that
can be killed: see `bridge.staging.adios`.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np
import numpy.typing as npt

from bridge.errors import NobodyListening, ProtocolError, SchemaError
from bridge.transports.adios.library import dtype_of, load, words_of

__all__ = ["Engine", "Found", "Source", "Status", "engine_for"]

Array = npt.NDArray[Any]
Engine = Literal["auto", "SST", "BP5"]
Status = Literal["step", "later", "end", "lost"]

_numbers = count()
_LOOK_AGAIN = 0.02
_SETTLED = 2.0
"""Seconds for which a file that cannot be opened may stay as it is before that is an error."""


@dataclass(frozen=True, slots=True)
class Found:
    """A variable in the present step."""

    kind: str
    """ADIOS2's name of the type."""
    dtype: np.dtype[Any] | None
    """The dtype; None for text."""
    shape: tuple[int, ...]
    """Global shape; of a local array, with the rows of all blocks together."""
    form: Literal["value", "array", "blocks"]
    """A single value, an array with a global shape, or blocks that know nothing of each other."""


def engine_for(target: str, engine: Engine = "auto") -> tuple[Literal["SST", "BP5"], str]:
    """Return engine and name for a contact or file: ``x.sst`` and unknown names are SST.

    A folder or a file that exists, and whatever ends in ``.bp``, is a file.
    """
    path = target.removesuffix(".sst")
    if engine == "SST" or target.endswith(".sst"):
        return "SST", path
    if engine == "BP5" or target.endswith((".bp", ".bp4", ".bp5")) or Path(target).exists():
        return "BP5", target
    return "SST", path


class Source:
    """A reader of one stream; one thread uses it.

    Parameters
    ----------
    target
        Contact of an SST stream (its file is ``<target>.sst``), or a BP file.
    engine
        What it is; by default found out.
    parameters
        For ADIOS2's engine, such as ``DataTransport`` of SST.
    """

    def __init__(
        self, target: str, *, engine: Engine = "auto", parameters: Mapping[str, str] | None = None
    ) -> None:
        self.engine, self.target = engine_for(target, engine)
        self._parameters = dict(parameters or {})
        self._bindings = load()
        b = self._bindings
        self._deferred, self._next = b.Mode.Deferred, b.StepMode.Read
        self._states: dict[Any, Status] = {
            b.StepStatus.OK: "step", b.StepStatus.NotReady: "later", b.StepStatus.EndOfStream: "end"
        }  # fmt: skip
        self._adios: Any = None
        self._io: Any = None
        self._stream: Any = None

    @property
    def described(self) -> str:
        """The stream, for messages."""
        return f"the {'SST stream' if self.engine == 'SST' else 'file'} {self.target!r}"

    # -------------------------------------------------------------------- open

    def open(self, timeout: float) -> None:
        """Wait for the writer, or the file, and open it.

        Raises
        ------
        NobodyListening
            At the time limit.
        ProtocolError
            If the file cannot be read as BP, or the format is another.
        """
        deadline = time.monotonic() + timeout
        announced = Path(self.target + ".sst" if self.engine == "SST" else self.target)
        said, before, since = "", (0.0, 0), time.monotonic()
        while True:
            state = _state_of(announced)
            if state is not None:
                try:
                    self._open_now(min(2.0, max(0.1, deadline - time.monotonic())))
                except (RuntimeError, ValueError) as error:
                    said = words_of(error)
                else:
                    return
                if state != before:
                    before, since = state, time.monotonic()
                elif self.engine != "SST" and time.monotonic() - since > _SETTLED:
                    raise ProtocolError(
                        f"{announced} cannot be read as an ADIOS2 BP file: {said}. Check that it "
                        "is one, and was not cut off."
                    )
            if time.monotonic() >= deadline:
                raise NobodyListening(self._why_not_open(announced, timeout, said))
            time.sleep(_LOOK_AGAIN)

    def _why_not_open(self, announced: Path, timeout: float, said: str) -> str:
        what = "a writer" if self.engine == "SST" else "the file"
        head = f"Waited {timeout:g} s for {what} of {self.described}"
        if not said:
            return (
                f"{head}: there is no {announced}. Start the writer, in the same folder, or give "
                "the path to where it writes."
            )
        if self.engine == "SST":
            return (
                f"{head}: {announced} is there, and no writer answers; an earlier one may have "
                f"left it behind (ADIOS2 says: {said})."
            )
        return f"{head}: it is there, and cannot be opened yet (ADIOS2 says: {said})."

    def _open_now(self, seconds: float) -> None:
        b = self._bindings
        # Each attempt has an object of its own: ADIOS2 does not open twice with one.
        adios = b.ADIOS()
        io = adios.DeclareIO(f"read{next(_numbers)}")
        io.SetEngine("SST" if self.engine == "SST" else "BPFile")
        own = {"OpenTimeoutSecs": f"{seconds:.1f}"}
        if self.engine != "SST":
            own["BeginStepPollingFrequencySecs"] = "0.001"
        io.SetParameters({**own, **self._parameters})
        self._stream = io.Open(self.target, b.Mode.Read)
        self._adios, self._io = adios, io

    # -------------------------------------------------------------------- steps

    def begin(self) -> Status:
        """Go to the next step if it is there.

        Never waits: ADIOS2 would let no other thread run meanwhile, and SST of ADIOS2 2.12 crashes
        when a short time limit passes before the first step.

        Returns
        -------
        status
            ``step``; ``later`` if there is none yet; ``end`` if the writer closed the stream, and
            ``lost`` if it went away without a word.
        """
        try:
            status = self._stream.BeginStep(self._next, 0.0)
        except RuntimeError as error:
            raise ProtocolError(f"A step of {self.described} is bad: {words_of(error)}.") from error
        return self._states.get(status, "lost")

    @property
    def number(self) -> int:
        """Number of the present step, from 0; counted by the writer."""
        return int(self._stream.CurrentStep())

    def end_step(self) -> None:
        """Let go of the present step."""
        self._stream.EndStep()

    def close(self) -> None:
        """Leave the stream; may be called again."""
        stream, self._stream, self._io = self._stream, None, None
        if stream is not None:
            with contextlib.suppress(RuntimeError, ValueError):
                stream.Close()
            # What BP5 of ADIOS2 2.12 leaves there at every end of reading, whatever it is told.
            times = f"{Path(self.target).name}_{os.getpid():x}_profiling.json"
            with contextlib.suppress(OSError):
                Path("/tmp", times).unlink()
        self._adios = None

    # --------------------------------------------------------------------- look

    def names(self) -> list[str]:
        """Return the names of the present step's variables."""
        return list(self._io.AvailableVariables())

    def find(self, name: str) -> Found | None:
        """Return what a variable of the present step is; None if there is none of that name."""
        b = self._bindings
        variable = self._io.InquireVariable(name)
        if not variable:
            return None
        kind = variable.Type()
        form = variable.ShapeID()
        if variable.SingleValue() or form in (b.ShapeID.GlobalValue, b.ShapeID.LocalValue):
            return Found(kind, dtype_of(kind), (), "value")
        if form == b.ShapeID.LocalArray:
            counts = [c for _, c in self.blocks(name)]
            tail = {c[1:] for c in counts}
            if len(tail) != 1:
                raise ProtocolError(
                    f"The blocks of {name!r} in {self.described} have different shapes: {counts}; "
                    "only their first axis may differ."
                )
            return Found(kind, dtype_of(kind), (sum(c[0] for c in counts), *tail.pop()), "blocks")
        return Found(kind, dtype_of(kind), tuple(variable.Shape()), "array")

    def blocks(self, name: str) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        """Return start and count of each block that the writers put of a variable."""
        infos = self._stream.BlocksInfo(name, self.number)
        return [(_numbers_of(i["Start"]), _numbers_of(i["Count"])) for i in infos]

    def attribute_names(self) -> list[str]:
        """Return the names of all attributes."""
        return list(self._io.AvailableAttributes())

    def attribute(self, name: str) -> Any:
        """Return an attribute: text, a list of text, or an array; None if there is none."""
        found = self._io.InquireAttribute(name)
        if not found:
            return None
        if found.Type() == "string":
            texts = list(found.DataString())
            return texts[0] if found.SingleValue() and texts else texts
        return np.array(found.Data())

    # --------------------------------------------------------------------- read

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Return the global shape of a variable now; None if the step does not have it."""
        variable = self._io.InquireVariable(name)
        return tuple(variable.Shape()) if variable else None

    def ask(
        self,
        name: str,
        out: Array,
        *,
        rows: tuple[int, int] | None = None,
        block: int | None = None,
    ) -> bool:
        """Have a variable written into an array by the next `read`.

        Parameters
        ----------
        out
            Contiguous, of the variable's dtype and number of values.
        rows
            First row and number of rows of an array; all by default.
        block
            Which block, of a variable that has only those.

        Returns
        -------
        there
            False if the step does not have the variable.

        Raises
        ------
        SchemaError
            If it has another type or number of values than the array.
        """
        variable = self._io.InquireVariable(name)
        if not variable:
            return False
        if block is not None:
            variable.SetBlockSelection(block)
        elif rows is not None:
            shape = tuple(variable.Shape())
            if rows[0] + rows[1] > shape[0]:
                self._refuse(name, variable, out)
            tail = shape[1:]
            variable.SetSelection(([rows[0], *(0 for _ in tail)], [rows[1], *tail]))
        # ADIOS2 writes as much as it has, wherever the array ends.
        if variable.SelectionSize() != out.size or dtype_of(variable.Type()) != out.dtype:
            self._refuse(name, variable, out)
        if out.size:
            self._stream.Get(variable, out, self._deferred)
        return True

    def _refuse(self, name: str, variable: Any, out: Array) -> NoReturn:
        raise SchemaError(
            f"The variable {name!r} of {self.described} has now type {variable.Type()} and shape "
            f"{tuple(variable.Shape() or variable.Count())}; {out.dtype} and {out.shape} were "
            "expected, as at the beginning or in the other variables of a particle."
        )

    def read(self) -> None:
        """Fetch what was asked for; waits for the writer.

        Raises
        ------
        ProtocolError
            If it does not arrive: the writer ended, or the file is damaged.
        """
        try:
            self._stream.PerformGets()
        except RuntimeError as error:
            raise ProtocolError(
                f"The data of a step of {self.described} did not arrive: {words_of(error)}."
            ) from error


def _numbers_of(text: str) -> tuple[int, ...]:
    return tuple(int(n) for n in text.split(",") if n.strip())


def _state_of(path: Path) -> tuple[float, int] | None:
    try:
        inner = path / "md.idx" if path.is_dir() else path
        found = inner.stat()
    except OSError:
        return None
    return found.st_mtime, found.st_size
