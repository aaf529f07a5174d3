"""A sidecar in a thread, beside an engine of the tests."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import msgspec

from bridge.commands import Event
from bridge.staging import StagerClient
from bridge.staging.connection import Connection
from sim_adapters.imd import ImdEngine

__all__ = ["Sidecar", "read_events"]


class Sidecar:
    """Runs the adapter in a thread; `join` waits for its end and returns its error."""

    def __init__(self, address: str, port: int, *, resume: bool = False, **table: Any) -> None:
        given = {"name": "md", "engine": "protocol", "port": port, "silence": 60.0, **table}
        self._adapter = ImdEngine.from_table(given, Path())
        self._connection = Connection(address=address, timeout=30.0)
        self._resume = resume
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._adapter.run("md", self._connection, seed=0, resume=self._resume)
        except Exception as error:
            self.error = error

    def join(self, timeout: float = 90.0) -> Exception | None:
        self._thread.join(timeout)
        assert not self._thread.is_alive(), f"The sidecar did not end within {timeout} s."
        return self.error


def read_events(client: StagerClient) -> dict[str, Event]:
    """Return the latest event of each kind."""
    records = client.fetch({"events": 0}, wait=5.0).records
    events = [msgspec.msgpack.decode(r.data, type=Event) for r in records]
    return {event.kind: event for event in events}
