"""What every child process of a run does: log, end in good order, and never outlive the run."""

from __future__ import annotations

import itertools
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from bridge.errors import (
    ConfigError,
    FrameOrderError,
    HeadraceError,
    MissingExtra,
    OperatorFailed,
    PipelineError,
    SchemaError,
)

__all__ = ["read_cause", "run_child", "watch_parent"]

log = logging.getLogger(__name__)

_UNEXPECTED = "The process failed."

GRACE = 5.0
"""Seconds that a child takes to end in good order once its parent is gone."""


def watch_parent(stop: threading.Event, *, grace: float = GRACE) -> threading.Thread:
    """End this process when the process that started it is gone.

    Standard input must be a pipe whose other end the parent holds and never writes to. At its end
    `stop` is set; where the process still runs `grace` seconds later, it is ended at once.
    """

    def wait() -> None:
        try:
            while os.read(0, 4096):
                continue
        except OSError:
            pass
        log.warning("The process that started this one is gone; ending.")
        stop.set()
        threading.Event().wait(grace)
        os._exit(3)

    thread = threading.Thread(target=wait, name="watch-parent", daemon=True)
    thread.start()
    return thread


def _watch_signals(stop: threading.Event) -> None:
    """Set `stop` at SIGTERM or SIGINT.

    A thread waits for them, not a handler: a handler interrupts the main thread anywhere, also
    where that holds the lock of the event that is to be set.
    """
    numbers = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)

    def wait() -> None:
        while True:
            number = signal.Signals(signal.sigwait(numbers))
            log.info("Received %s; ending in good order.", number.name)
            stop.set()

    threading.Thread(target=wait, name="watch-signals", daemon=True).start()


def _is_lasting(error: BaseException | None) -> bool:
    """Return whether it would happen again: the fault is in what was written, not in what came."""
    if isinstance(error, OperatorFailed):
        return _is_lasting(error.__cause__)
    if isinstance(error, FrameOrderError):
        return False
    return isinstance(error, ConfigError | MissingExtra | PipelineError | SchemaError)


def read_cause(lines: Sequence[str]) -> str:
    """Return the sentence with which a child ended, from the end of its log; empty without one.

    Parameters
    ----------
    lines
        The last lines of the log of one life.
    """
    for number, line in reversed(list(enumerate(lines))):
        _, found, said = line.partition(f" ERROR   {__name__}: ")
        if found and said != _UNEXPECTED:
            more = itertools.takewhile(lambda rest: rest[:1].isspace(), lines[number + 1 :])
            return " ".join([said, *(rest.strip() for rest in more)])
        if found:
            break
    return ""


def run_child(body: Callable[[Path, list[str], threading.Event], int | None]) -> int:
    """Run the body of a child process, and return its exit code.

    Parameters
    ----------
    body
        Called with the folder of the run, the other arguments, and an event that is set when the
        process is to end in good order. Its return value is the exit code, None for 0.

    Returns
    -------
    int
        0; 1 if the body raised; 2 if the configuration is to blame, so that starting it again is
        of no use. What a `HeadraceError` said is in the log; `read_cause` finds it there.
    """
    logging.basicConfig(
        stream=sys.stderr,
        level=os.environ.get("HEADRACE_LOG", "INFO").upper(),
        format="%(asctime)s %(levelname)-7s %(name)s: %(message)s",
    )
    stop = threading.Event()
    _watch_signals(stop)
    watch_parent(stop)
    try:
        return body(Path(sys.argv[1]), sys.argv[2:], stop) or 0
    except HeadraceError as error:
        log.error("%s", error)
        log.debug("%s", traceback.format_exc())
        return 2 if _is_lasting(error) else 1
    except Exception:
        log.exception(_UNEXPECTED)
        return 1
