"""Run a program that knows nothing of us: ``python -m sim_adapters.leash PROGRAM ARGUMENT …``.

It ends, and whatever it started in its process group, when our standard input does: when the
process that holds the other end is gone, however that ended. Ours is the program's exit code, 128
and the signal's number if it was ended by one.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence

__all__ = ["main"]

GRACE = 5.0
"""Seconds from SIGTERM to SIGKILL."""


def main(command: Sequence[str]) -> int:
    """Run it; returns the exit code."""
    # Whoever started us may have blocked them, which is inherited.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    try:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, process_group=0)
    except OSError as error:
        sys.stderr.write(f"Cannot start {command[0]}: {error.strerror}.\n")
        return 127

    def watch() -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 4096):
                continue
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE)

    threading.Thread(target=watch, daemon=True).start()
    code = process.wait()
    return 128 - code if code < 0 else code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
