"""A thread that works beside Flink's calls, so that the work need not rest between them.

A call of a Python function comes with a round trip through the JVM and with Beam's bookkeeping of
it; work that is done inside the calls rests for that long between any two. Measured apart
(100,000 atoms onto four components, two workers on two busy cores, medians of 4 to 6 runs that
scatter by a third): with one BLAS thread a worker 500 frames/s inside the calls, 870 beside them.
With as many BLAS threads as cores it makes no difference, 280 and 290: see
`bridge.engines.threads`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["Beside"]

_UNATTENDED = 5.0
"""Seconds without a call after which the work rests: perhaps the worker has been replaced."""


class Beside:
    """Repeats some work in a thread, except while Flink's thread has a word.

    Parameters
    ----------
    work
        Called again and again; waits for a little while by itself if there is nothing to do.
    name
        Of the thread.
    """

    def __init__(self, work: Callable[[], None], name: str) -> None:
        self._work = work
        self._lock = threading.Lock()
        self._free = threading.Event()
        self._over = threading.Event()
        self._attended = time.monotonic()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let the work rest meanwhile; it begins with the first call.

        Raises
        ------
        Exception
            What ended the work, if something did.
        """
        self._free.clear()
        with self._lock:
            try:
                if self._failure is not None:
                    raise self._failure
                yield
                self._attended = time.monotonic()
                if self._thread.ident is None and not self._over.is_set():
                    self._thread.start()
            finally:
                self._free.set()

    def is_over(self) -> bool:
        """Return whether the work is to end; whatever waits in it gives up."""
        return self._over.is_set()

    def end(self, timeout: float = 10.0) -> bool:
        """Stop working, and wait for what is being done; returns whether that has ended."""
        self._over.set()
        self._free.set()
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            while not self._over.is_set():
                # The lock alone would come back to this thread before the other one wakes.
                self._free.wait(1.0)
                if time.monotonic() - self._attended > _UNATTENDED:
                    self._over.wait(0.05)
                    continue
                with self._lock:
                    if not self._over.is_set():
                        self._work()
        except BaseException as error:
            self._failure = error
