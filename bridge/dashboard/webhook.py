"""Alarms told to somebody else: a POST to the one address that the configuration names."""

from __future__ import annotations

import contextlib
import http.client
import logging
import queue
import threading
import urllib.error
import urllib.request
from typing import Any

import msgspec

from bridge.config import parse_duration
from bridge.dashboard.alarms import Change
from bridge.runs.dashboard_tables import AlarmTable

__all__ = ["Webhook"]

log = logging.getLogger(__name__)

QUEUE = 100
"""Changes that wait to be sent at most; of more, the newest are left out and counted."""
WAITS = (1.0, 5.0)
"""Seconds before the second and the third attempt; there is no fourth."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """An address that sends us elsewhere is not the one that was configured."""

    def redirect_request(self, *arguments: Any, **named: Any) -> None:
        """Go nowhere else."""
        return None


class Webhook:
    """Sends changes from a thread of its own; never blocks whoever tells it.

    The body is JSON: ``state`` (``raised`` or ``cleared``), ``run``, ``alarm``, ``stamp``, and
    ``text``, one sentence, which chat programs show.

    Parameters
    ----------
    rules
        With the address and the time limit.

    Attributes
    ----------
    sent, failed, left_out
        Changes that arrived, that did not, and that were never tried as too many waited.
    """

    def __init__(self, rules: AlarmTable, *, waits: tuple[float, ...] = WAITS) -> None:
        self.sent = self.failed = self.left_out = 0
        self._address = rules.webhook
        self._timeout = parse_duration(rules.webhook_timeout)
        self._waits = waits
        self._queue: queue.Queue[Change | None] = queue.Queue(QUEUE)
        self._stop = threading.Event()
        self._opener = urllib.request.build_opener(_NoRedirect)
        self._thread = threading.Thread(target=self._run, name="dashboard-webhook", daemon=True)
        self._thread.start()

    def send(self, change: Change) -> None:
        """Have a change sent; never blocks."""
        try:
            self._queue.put_nowait(change)
        except queue.Full:
            self.left_out += 1

    def close(self, timeout: float = 2.0) -> None:
        """Send what waits, within the time limit, and end."""
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(None)
        self._thread.join(timeout)
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            change = self._queue.get()
            if change is None:
                return
            self._deliver(change)

    def _deliver(self, change: Change) -> None:
        said = "" if change.state == "raised" else "Over: "
        text = f"{change.run}: {said}{change.alarm.message}"
        body = msgspec.json.encode({**msgspec.structs.asdict(change), "text": text})
        for wait in (*self._waits, None):
            try:
                self._post(body)
                self.sent += 1
                return
            except (OSError, ValueError, http.client.HTTPException) as error:
                if wait is None or self._stop.wait(wait):
                    self.failed += 1
                    # The address may hold a secret.
                    log.warning("The webhook could not be reached: %s", error)
                    return

    def _post(self, body: bytes) -> None:
        request = urllib.request.Request(
            self._address,
            data=body,
            headers={"Content-Type": "application/json", "User-Agent": "headrace"},
            method="POST",
        )
        with self._opener.open(request, timeout=self._timeout) as answer:
            answer.read(1024)
