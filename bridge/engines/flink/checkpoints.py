"""What a completed checkpoint of Flink holds, so that staging may release what lies before it.

A Python function is not told when a checkpoint is complete. The cluster's REST interface tells when
each was triggered: what had been put into keyed state before that moment is in it. Clocks of
machines differ, so the checkpoint before the newest counts, which is an interval older.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Mapping

from bridge.engines.flink.rest import FlinkRest
from bridge.errors import EngineError

__all__ = ["CompletedCheckpoints"]

log = logging.getLogger(__name__)

_QUIET = 60.0  # seconds between two complaints that the cluster does not answer
_KEPT = 4096  # savings that are remembered at most


class CompletedCheckpoints:
    """Follows the checkpoints of one job, in a thread of its own.

    Parameters
    ----------
    address
        Of the REST interface.
    name
        Name of the job, unlike any other's.
    every
        Seconds between two looks.
    """

    def __init__(self, address: str, name: str, *, every: float = 1.0) -> None:
        self._rest = FlinkRest(address)
        self._name = name
        self._every = every
        self._job: str | None = None
        self._safe = 0.0
        self._complained = -_QUIET
        self._over = threading.Event()
        self._saved: deque[tuple[float, dict[str, int]]] = deque(maxlen=_KEPT)
        self.trouble = ""
        self._thread = threading.Thread(target=self._follow, name="flink-checkpoints", daemon=True)
        self._thread.start()

    @property
    def page(self) -> str:
        """Address of the job on the cluster's own page; empty until the job was found."""
        return f"{self._rest.address}/#/job/running/{self._job}/overview" if self._job else ""

    def note(self, positions: Mapping[str, int]) -> None:
        """Note positions that were put into keyed state just now."""
        self._saved.append((time.time(), dict(positions)))

    def take(self) -> dict[str, int]:
        """Return the positions that completed checkpoints hold, and that were not returned yet."""
        out: dict[str, int] = {}
        while self._saved and self._saved[0][0] < self._safe:
            out |= self._saved.popleft()[1]
        return out

    def end(self) -> None:
        """Stop following."""
        self._over.set()

    def _follow(self) -> None:
        while not self._over.wait(self._every):
            try:
                self._look()
                self.trouble = ""
            except EngineError as error:
                self.trouble = str(error)
                if time.monotonic() - self._complained > _QUIET:
                    self._complained = time.monotonic()
                    log.warning(
                        "Completed checkpoints cannot be seen, so staging releases nothing: %s",
                        error,
                    )

    def _look(self) -> None:
        if self._job is None:
            self._job = self._rest.find(self._name)
        if self._job is None:
            return
        history = self._rest.checkpoints(self._job)["history"]
        triggered = sorted(
            entry["trigger_timestamp"] / 1000.0
            for entry in history
            if entry["status"] == "COMPLETED"
        )
        if len(triggered) > 1:
            self._safe = max(self._safe, triggered[-2])
