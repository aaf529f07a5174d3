"""One child process: started in a group of its own, logged to a file, ended within a time limit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from bridge.errors import MemberFailed
from bridge.runs.placement import kept_to

__all__ = ["Process", "describe_exit", "last_lines"]


def describe_exit(code: int) -> str:
    """Return what an exit status says, as the end of a sentence."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


def last_lines(path: Path, count: int = 15, *, width: int = 4096, start: int = 0) -> list[str]:
    """Return the last lines of a log file, of its last `width` x `count` bytes at most.

    `start` is the byte that they begin behind: what was there before is another life's.
    """
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(start, end - width * count))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip()][-count:]


class Process:
    """A child that runs one of our modules.

    It is in a process group of its own, so that Ctrl-C in the terminal reaches us alone and the
    children end in the order that we choose. Its standard input is a pipe that we never write to:
    when we die, however we die, the child reads its end and ends as well
    (`bridge.runs.child.watch_parent`).

    Parameters
    ----------
    name
        For messages.
    module, arguments
        What to run: ``python -m module arguments``.
    log
        File that its output is appended to.
    directory
        Its working directory.
    environment
        Additions to ours.
    processors
        Those that it may use; ours where they are left out.

    Raises
    ------
    MemberFailed
        If the system cannot start it.
    """

    def __init__(
        self,
        name: str,
        module: str,
        arguments: Sequence[str],
        *,
        log: Path,
        directory: Path,
        environment: Mapping[str, str] | None = None,
        processors: Collection[int] | None = None,
    ) -> None:
        self.name = name
        self.log = log
        command = [sys.executable, "-m", module, *arguments]
        # The child inherits the mask: a SIGTERM that comes while it still starts up waits until
        # it asks for signals (`bridge.runs.child`), instead of ending it on the spot.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        try:
            with log.open("ab") as file, kept_to(processors):
                self._begins = file.seek(0, os.SEEK_END)
                self._child = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    cwd=directory,
                    env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
                    process_group=0,
                )
        except OSError as error:
            raise MemberFailed(f"Cannot start {name}: {error.strerror}.") from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self.started = time.monotonic()

    def __repr__(self) -> str:
        return f"<Process {self.name} pid={self.pid} {self.poll()}>"

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._child.pid

    def poll(self) -> int | None:
        """Return its exit status, None while it runs; never blocks."""
        return self._child.poll()

    def last_lines(self) -> list[str]:
        """Return the last lines that it wrote into its log."""
        return last_lines(self.log, start=self._begins)

    def ask_to_stop(self) -> None:
        """Send SIGTERM: end in good order."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self._signal(signal.SIGKILL)

    def wait(self, timeout: float) -> bool:
        """Wait for its end for at most `timeout` seconds; return whether it has ended."""
        try:
            self._child.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        self.close()
        return True

    def close(self) -> None:
        """Let go of the pipe; a child that still runs takes that for our death."""
        if self._child.stdin is not None:
            self._child.stdin.close()

    def _signal(self, number: signal.Signals) -> None:
        # Popen knows whether the child was waited for, so no other process of that id is hit.
        self._child.send_signal(number)
