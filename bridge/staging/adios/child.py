"""A process for ADIOS2: it can be killed, it cannot outlive a wait, and its memory is its own.

What it is to do comes as JSON on its standard input; what it has to say goes, a line of JSON each,
through a pipe of its own, since ADIOS2 writes to the standard output as it likes.
"""

from __future__ import annotations

import importlib
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from bridge.errors import HeadraceError, MemberFailed, NobodyListening, error_from_code
from bridge.staging.adios.beat import Beat, Progress

__all__ = ["Child", "Said", "main"]

_LAST_WORDS = 2000


class Said(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line that a child says.

    Attributes
    ----------
    kind
        ``event``, ``error``, ``opened`` or ``done``.
    name, message, level
        Kind of event or class of error, a sentence, and how grave an event is.
    data
        Numbers.
    """

    kind: Literal["event", "error", "opened", "done"]
    name: str = ""
    message: str = ""
    level: Literal["info", "warning", "error"] = "info"
    data: dict[str, Any] = {}


class Child:
    """The parent's end; one thread uses it.

    Parameters
    ----------
    module
        With a function ``work(task, beat, say)``.
    task
        Plain data for it.
    what
        What the process does, for messages, such as ``the reader of 'run.bp'``.
    descriptors
        That the child inherits.
    """

    def __init__(
        self, module: str, task: dict[str, Any], *, what: str, descriptors: Sequence[int] = ()
    ) -> None:
        self._what = what
        self._beat = Beat.create()
        self._words = tempfile.TemporaryFile()  # noqa: SIM115  closed with the child
        self._pipe, theirs = os.pipe()
        os.set_blocking(self._pipe, False)
        self._rest = b""
        self._ended = False
        command = [
            sys.executable, "-m", "bridge.staging.adios", module,
            str(self._beat.descriptor), str(theirs),
        ]  # fmt: skip
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=self._words,
                stderr=self._words,
                pass_fds=(self._beat.descriptor, theirs, *descriptors),
                env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
                # Ctrl-C reaches the parent, which ends the child in good order.
                process_group=0,
            )
        except OSError as error:
            os.close(theirs)
            self.close()
            raise MemberFailed(f"Cannot start {what}: {error.strerror}.") from error
        os.close(theirs)
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(msgspec.json.encode(task))
            self._process.stdin.close()
        except BrokenPipeError:
            # Why it ended is told by whoever listens.
            pass

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def pipe(self) -> int:
        """Descriptor that becomes readable when there is something to listen to."""
        return self._pipe

    def progress(self) -> Progress:
        """Return how far it is; never blocks."""
        return self._beat.read()

    def listen(self, timeout: float) -> list[Said] | None:
        """Return what it said; None once it has ended and said everything."""
        if self._ended:
            return None
        select.select([self._pipe], [], [], timeout)
        try:
            got = os.read(self._pipe, 1 << 16)
        except BlockingIOError:
            return []
        if not got:
            self._ended = True
            return None
        *lines, self._rest = (self._rest + got).split(b"\n")
        return [msgspec.json.decode(line, type=Said) for line in lines]

    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def ask_to_stop(self) -> None:
        """Send SIGTERM: end in good order."""
        if self.alive():
            self._process.terminate()

    def why_ended(self) -> HeadraceError:
        """Return the error for a process that ended without a word."""
        code = self._process.wait()
        seen = self._beat.read()
        if code == -signal.SIGALRM:
            return NobodyListening(
                f"Waited {seen.limit:g} s for {seen.doing}: it did not come to an end, and the "
                f"process that waited was ended. The newest frame has step {seen.step}."
            )
        how = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
        doing = f" while it waited for {seen.doing}" if seen.doing else ""
        return MemberFailed(
            f"The process of {self._what} ended with {how}{doing}, after {seen.frames} frames. "
            f"It said: {self._last_words() or 'nothing'}."
        )

    def _last_words(self) -> str:
        self._words.seek(max(0, self._words.seek(0, os.SEEK_END) - _LAST_WORDS))
        text = self._words.read().decode(errors="replace")
        lines = [line for line in text.splitlines() if line and "leaked" not in line]
        return " / ".join(lines[-5:]).rstrip(".")

    def close(self, *, patience: float = 10.0) -> None:
        """End the process, if need be by force, and let go; may be called again."""
        if self._pipe < 0:
            return
        process = getattr(self, "_process", None)
        if process is not None:
            self.ask_to_stop()
            try:
                process.wait(patience)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        os.close(self._pipe)
        self._pipe = -1
        self._words.close()
        self._beat.close()


def to_error(said: Said) -> HeadraceError:
    """Return the error that a child reported."""
    return error_from_code(said.name, said.message)


def main(arguments: Sequence[str]) -> int:
    """Be the child."""
    module, beat, pipe = arguments[0], Beat(int(arguments[1])), int(arguments[2])
    # Whoever started us may have ignored it; without its default action no wait would end.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM, signal.SIGTERM})
    task = msgspec.json.decode(sys.stdin.buffer.read())

    def say(said: Said) -> None:
        os.write(pipe, msgspec.json.encode(said) + b"\n")

    began = time.monotonic()
    try:
        importlib.import_module(module).work(task, beat, say)
    except HeadraceError as error:
        say(Said("error", type(error).__name__, str(error)))
        return 1
    say(Said("done", data={"seconds": time.monotonic() - began}))
    return 0
