"""Start the ranks of a simulation from a process that is none of them, and say how they ended."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

from bridge.errors import ConfigError, MemberFailed

__all__ = ["end_with_parent", "find_mpiexec", "launch"]

_log = logging.getLogger(__name__)

_LINES = 15  # of what the ranks wrote last that a message holds
_NOISE = ("=", "YOUR APPLICATION", "This typically", "Please see", "[proxy", "[mpiexec", "Abort(")


def find_mpiexec() -> str:
    """Return the path of ``mpiexec``: beside the interpreter, where a wheel puts it, or in PATH.

    Raises
    ------
    ConfigError
        If there is none.
    """
    beside = Path(sys.executable).with_name("mpiexec")
    found = str(beside) if beside.exists() else shutil.which("mpiexec")
    if found is None:
        raise ConfigError(
            "There is no mpiexec beside the interpreter or in PATH; install an MPI library, for "
            "instance with: pip install mpich."
        )
    return found


def launch(
    ranks: int,
    command: Sequence[str],
    *,
    what: str,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
    given: str = "",
    limit: float | None = None,
) -> list[str]:
    """Run a command on several ranks to its end; return the lines that it wrote last.

    What the ranks write goes to the log, at level info, as it comes. Their standard input is a
    pipe that stays open while this process lives: ranks that call `end_with_parent` end with it.

    Parameters
    ----------
    ranks
        Number of processes.
    command
        Program and arguments of each rank.
    what
        What runs, for messages.
    environment
        Additions to this process's environment.
    directory
        Where the ranks run.
    given
        A line to write to the standard input, which is rank 0's.
    limit
        Seconds after which the ranks are ended; None for no limit.

    Raises
    ------
    MemberFailed
        If a rank was killed or ended with an error, or the limit has passed. The message holds
        what they wrote last.
    """
    process = subprocess.Popen(
        [find_mpiexec(), "-n", str(ranks), *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, **(environment or {})},
        cwd=directory,
    )
    late = threading.Event()

    def end() -> None:
        late.set()
        process.kill()

    timer = threading.Timer(limit or 0.0, end)
    if limit is not None:
        timer.start()
    said: deque[str] = deque(maxlen=_LINES)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        if given:
            process.stdin.write(f"{given}\n")
            process.stdin.flush()
        for line in process.stdout:
            if line.strip() and not line.startswith(_NOISE):
                said.append(line.rstrip())
                _log.info("%s: %s", what, line.rstrip())
        process.wait()
    finally:
        timer.cancel()
        # Its proxies end the ranks once it is gone; SIGTERM may be blocked, as it is inherited.
        process.kill()
        process.wait()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        process.stdout.close()
    if late.is_set():
        raise MemberFailed(
            f"The {ranks} ranks of {what} were ended: they took longer than {limit:g} s."
        )
    if process.returncode:
        quoted = f" They wrote last: {' | '.join(said)}" if said else ""
        raise MemberFailed(_describe(process.returncode, ranks, what) + quoted)
    return list(said)


def _describe(status: int, ranks: int, what: str) -> str:
    # Hydra hands on the status of the rank that ended first: the signal's number if it was killed.
    number = -status if status < 0 else status - 128 if status > 128 else status
    if number in (signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS):
        name = signal.Signals(number).name
        return f"A rank of {what} was ended by {name}, and with it all {ranks} ranks."
    return f"The {ranks} ranks of {what} ended with exit code {status}."


def end_with_parent() -> None:
    """End this rank when the process that called `launch` is gone; for rank 0, which has the pipe.

    The other ranks are ended by ``mpiexec`` then.
    """

    def wait() -> None:
        try:
            while os.read(0, 4096):
                continue
        except OSError:
            pass
        _log.warning("The process that started the ranks is gone; ending.")
        os._exit(3)

    threading.Thread(target=wait, name="watch-parent", daemon=True).start()
