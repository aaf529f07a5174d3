"""Any stream of particles, served by IMD: for VMD, imdclient, MDAnalysis and whoever reads it."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from bridge.errors import ConfigError, HeadraceError, NobodyListening
from bridge.runs.imd_frames import Outgoing
from bridge.runs.imd_session import ReaderSession
from bridge.schema import StreamSchema
from bridge.staging.client_like import ClientLike
from bridge.transports.addresses import TcpAddress
from bridge.transports.imd import ImdListener

__all__ = ["ImdServer", "ImdServerStatistics"]

log = logging.getLogger(__name__)

LOOK = 0.1
"""Seconds between two looks at whether to end."""


@dataclass(frozen=True, slots=True)
class ImdServerStatistics:
    """What a server has done so far."""

    readers: int
    """Readers that are being served."""
    served: int
    """Readers that were taken in, those that have left included."""
    refused: int
    """Readers that were sent away: too many, or no IMD."""
    frames: int
    """Frames sent, over all readers."""
    skipped: int
    """Frames that readers missed because newer ones were there."""


class ImdServer:
    """Serves one simulation's stream to several readers at once.

    A reader is given the newest frame whenever it has taken the one before, and pauses, rates and
    kills concern that reader alone: nothing that it does slows the stream, or reaches the
    simulation.

    Parameters
    ----------
    connect
        Makes a connection to the stager; called for each reader, in its thread.
    simulation
        Whose stream.
    host, port
        Where to listen; port 0 for any.
    version
        2 for readers that know no other.
    every_frame
        Send each reader all frames that are held, in order, at its own pace.
    wait
        Wait for readers, as an engine does that stands still without one: the first begins with
        the oldest frame that is held, the next where the one before it left. A reader may change
        this. Otherwise a reader begins with the newest frame, or, with `every_frame`, the oldest.
    allow_remote
        Listen at an address that other machines can reach. IMD has no keys.
    names, units
        See `bridge.runs.imd_frames.Outgoing`.
    most
        Readers at a time.
    patience
        Seconds to wait for the stream to begin.

    Raises
    ------
    ConfigError
        If the stream has no positions or unknown units, or the address is not this machine's own.
    NobodyListening
        If the stream does not begin in time.
    AddressInUse
        If the port is taken.
    """

    def __init__(
        self,
        connect: Callable[[], ClientLike],
        simulation: str,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        version: int = 3,
        every_frame: bool = False,
        wait: bool = False,
        allow_remote: bool = False,
        names: Mapping[str, str] | None = None,
        units: Mapping[str, str] | None = None,
        most: int = 16,
        patience: float = 10.0,
    ) -> None:
        if version not in (2, 3):
            raise ConfigError(f"There is no version {version} of IMD to serve; choose 2 or 3.")
        if not allow_remote and not TcpAddress(host, port).is_loopback():
            raise ConfigError(
                f"{host} can be reached from other machines, and IMD has no keys: whoever finds "
                "the port could read the stream. Listen at 127.0.0.1 and tunnel, or say "
                "--allow-remote."
            )
        self._connect = connect
        self._topic = f"frames/{simulation}"
        self._every_frame = every_frame
        self._most = most
        # First, so that nobody waits for a stream to be told that the port is taken.
        self._listener = ImdListener(host, port)
        self.port = self._listener.port
        try:
            self.schema = self._find(patience)
            self._make = partial(Outgoing, self.schema, version=version, names=names, units=units)
            self.atoms = self._make().atoms
        except BaseException:
            self._listener.close()
            raise
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._wait = wait
        self._held: int | None = None
        self._threads: dict[threading.Thread, socket.socket] = {}
        self._served = self._refused = self._frames = self._skipped = 0

    def _find(self, patience: float) -> StreamSchema:
        end = time.monotonic() + patience
        with self._connect() as client:
            while True:
                for status in client.topics(self._topic):
                    if status.name == self._topic and status.schema is not None:
                        return status.schema
                if time.monotonic() >= end:
                    raise NobodyListening(
                        f"Waited {patience:.3g} s for the stream {self._topic!r} at "
                        f"{client.address}, and it has not begun."
                    )
                with client.fetch({self._topic: 0}, max_bytes=1, wait=LOOK):
                    continue

    def serve(self, until: Callable[[], bool] = lambda: False) -> None:
        """Take in readers until `until` says so, or `stop` is called; then send them away."""
        try:
            while not self._stop.is_set() and not until():
                found = self._listener.accept(LOOK)
                with self._lock:
                    full = len(self._threads) >= self._most
                if found is not None and full:
                    self._refused += 1
                    log.warning("The port serves %d readers already.", self._most)
                    found.close()
                elif found is not None:
                    self._begin(found)
        finally:
            self.close()

    def _begin(self, found: socket.socket) -> None:
        thread = threading.Thread(
            target=self._serve_one, args=(found,), name="imd-reader", daemon=True
        )
        with self._lock:
            self._threads[thread] = found
            self._served += 1
        thread.start()

    def _serve_one(self, found: socket.socket) -> None:
        try:
            with self._lock:
                wait, start = self._wait, self._held
            with self._connect() as client:
                session = ReaderSession(
                    found, client, self._topic, self._make(),
                    start=start if wait else None, from_oldest=wait or self._every_frame,
                    every_frame=self._every_frame, wait=wait,
                )  # fmt: skip
                try:
                    session.run(self._stop.is_set)
                finally:
                    with self._lock:
                        self._frames += session.frames
                        self._skipped += session.skipped
                        self._wait = session.wait
                        self._held = session.position
        except HeadraceError as error:
            with self._lock:
                self._refused += isinstance(error, NobodyListening)
            log.warning("A reader is served no more: %s", error)
        finally:
            found.close()
            with self._lock:
                self._threads.pop(threading.current_thread(), None)

    def stop(self) -> None:
        """Let `serve` end, soon; any thread."""
        self._stop.set()

    def close(self) -> None:
        """Send all readers away, and listen no more; may be called again."""
        self._stop.set()
        self._listener.close()
        with self._lock:
            threads = dict(self._threads)
        for thread in threads:
            thread.join(1.0)
        for thread, found in threads.items():
            if thread.is_alive():
                # It waits for a reader that takes nothing.
                with contextlib.suppress(OSError):
                    found.shutdown(socket.SHUT_RDWR)
                thread.join(5.0)

    def statistics(self) -> ImdServerStatistics:
        """Return a snapshot; a reader's frames count once it has left."""
        with self._lock:
            return ImdServerStatistics(
                len(self._threads), self._served, self._refused, self._frames, self._skipped
            )
