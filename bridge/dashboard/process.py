"""The dashboard that a run brings along: ``python -m bridge.dashboard.process RUN_DIR``."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
import threading
from pathlib import Path

import msgspec

from bridge.config import parse_bytes
from bridge.dashboard.opening import open_dashboard
from bridge.dashboard.options import bind
from bridge.dashboard.server import serve
from bridge.dashboard.stores.memory import Limits
from bridge.errors import AddressInUse
from bridge.priority import clean_up_rarely, give_way
from bridge.runs.child import run_child
from bridge.runs.dashboard import ADDRESS_FILE, Address, read_address
from bridge.runs.dashboard_tables import DashboardTable
from bridge.runs.directory import RunDirectory
from bridge.runs.plan import Plan
from bridge.staging.files import replace_file

__all__ = ["main"]

log = logging.getLogger(__name__)

FAREWELL = "The run has ended. To look at it again: headrace dashboard {}"

_REASON = 123
"""Bytes that a WebSocket may give as the reason of its end."""


def _run(path: Path, arguments: list[str], stop: threading.Event) -> None:
    directory = RunDirectory(path)
    plan = Plan.read(directory)
    table = plan.configuration.dashboard
    base = Path(plan.base)
    dashboard, options = open_dashboard(
        path,
        record=True,
        limits=Limits(recording=parse_bytes(table.recording)),
        host=table.host,
        port=table.port,
        certificate=str(base / table.certificate) if table.certificate else "",
        key=str(base / table.key) if table.key else "",
        base_path=table.base_path,
        behind_proxy=table.behind_proxy,
        names=table.names,
        share=table.share,
    )
    try:
        listener = _bind(directory, table)
        port = listener.getsockname()[1]
        address = Address(url=options.url(port), port=port, pid=os.getpid())
        _publish(directory, address)
        log.info("The dashboard listens at %s.", options.url(port, token=False))
        # From now on: where all processors are busy, its start alone would take minutes.
        give_way(table.nice)
        clean_up_rarely()
        serve(dashboard, listener, stop, farewell=_farewell(directory))
    finally:
        dashboard.feed.close()
    log.info("The dashboard has ended.")


def _farewell(directory: RunDirectory) -> str:
    """Return what pages are told at the end: how to see the run again."""
    for folder in (str(directory.path), f"…/{directory.path.name}", "RUN_DIR"):
        text = FAREWELL.format(folder)
        if len(text.encode()) <= _REASON:
            return text
    return FAREWELL.format("RUN_DIR")


def _bind(directory: RunDirectory, table: DashboardTable) -> socket.socket:
    """Listen where the one before did, if that is free: pages that are open find their way back."""
    before = read_address(directory)
    if not table.port and before is not None:
        with contextlib.suppress(AddressInUse):
            return bind(table.host, before.port)
    return bind(table.host, table.port)


def _publish(directory: RunDirectory, address: Address) -> None:
    path = directory.path / ADDRESS_FILE
    # Readable by its owner alone, since the token is in it.
    replace_file(path, msgspec.json.format(msgspec.json.encode(address)) + b"\n")


def main() -> int:
    """Run; returns the exit code."""
    return run_child(_run)


if __name__ == "__main__":
    sys.exit(main())
