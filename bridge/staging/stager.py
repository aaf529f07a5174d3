"""The staging service: a listener, the state machine behind it, and a thread if wanted."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from bridge.errors import HeadraceError
from bridge.staging.catalogue import Catalogue
from bridge.staging.core import StagerCore
from bridge.staging.messages import StreamOptions, TopicStatus
from bridge.staging.rendezvous import NodeProbe
from bridge.staging.segments import SegmentStore, default_directory
from bridge.transports import open_listener

__all__ = ["Stager", "StagerStatistics"]

log = logging.getLogger(__name__)

BURST = 256
"""Messages that are taken in before readers and leases are looked after."""


@dataclass(frozen=True, slots=True)
class StagerStatistics:
    """What a stager has done."""

    messages: int
    """Messages taken in."""
    topics: int
    """Topics that exist."""
    allocated: int
    """Bytes of segment files, those in the pool among them."""
    limit: int
    """Bytes that segment files may have together."""


class Stager:
    """The service that keeps the logs; in this process's main thread, or in one of its own.

    Parameters
    ----------
    address
        Where to listen: ``tcp://127.0.0.1:0`` takes a free port, ``memory://name`` serves this
        process only.
    directory
        Folder of the segments and journals; by default one in the RAM file system, which ends
        with the stager.
    durable
        Keep journals in `directory`, so that a stager started there later goes on with what was
        stored.
    limit
        Bytes that all segments may have together.
    options
        How topics are kept whose writers do not say.
    keys
        Key pair of this server; without one, connections are neither encrypted nor checked, and
        only a loopback address may be bound.
    allowed
        Folder of the public keys of clients that may connect.

    Raises
    ------
    AddressInUse, ConfigError, StorageFull, CorruptSegment
        When made: the address is bound and the logs are recovered by the constructor.
    """

    def __init__(
        self,
        address: str = "tcp://127.0.0.1:0",
        *,
        directory: Path | None = None,
        durable: bool = False,
        limit: int = 4 << 30,
        options: StreamOptions | None = None,
        keys: Any = None,
        allowed: Any = None,
    ) -> None:
        folder = default_directory() if directory is None else Path(directory)
        segments = folder / "segments" if directory is not None else folder
        self.directory = folder
        self.durable = durable and directory is not None
        self._store = SegmentStore(segments, limit=limit)
        self._probe = None
        self._listener = None
        try:
            self._catalogue = Catalogue(
                self._store, journals=folder / "topics" if self.durable else None, options=options
            )
            if not self.durable:
                self._store.sweep(())
            self._probe = NodeProbe.create(segments)
            self._listener = open_listener(address, keys=keys, allowed=allowed)
        except BaseException:
            self._release()
            raise
        self._core = StagerCore(
            self._catalogue,
            self._listener.send,
            probe=(str(self._probe.path), self._probe.nonce),
        )
        self._messages = 0
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._closed = False

    @property
    def address(self) -> str:
        """Where clients connect to."""
        assert self._listener is not None
        return self._listener.address

    def start(self) -> Stager:
        """Serve in a thread of its own, until `stop`."""
        self._thread = threading.Thread(target=self.serve, name="headrace-stager", daemon=True)
        self._thread.start()
        return self

    def serve(self, *, until: Callable[[], bool] | None = None) -> None:
        """Serve until `stop` is called from another thread or a signal handler.

        Parameters
        ----------
        until
            Asked about once a second; true ends the service.
        """
        try:
            while not self._stopping.is_set() and not (until and until()):
                self._turn()
        finally:
            self._release()

    def _turn(self) -> None:
        assert self._listener is not None
        core, receive = self._core, self._listener.receive
        now = time.time()
        if now >= core.deadline or core.deadline == float("inf"):
            core.tick(now)
        message = receive(min(1.0, max(0.0, core.deadline - now)))
        if message is None:
            return
        now = time.time()
        for _ in range(BURST):
            self._messages += 1
            core.handle(message[0], message[1], now)
            message = receive(0.0)
            if message is None:
                break
        core.settle(now)
        if message is not None:
            core.handle(message[0], message[1], now)
            core.settle(now)

    def stop(self, timeout: float = 10.0) -> None:
        """End the service; what is stored durably stays, everything else goes.

        May be called from any thread and more than once.

        Raises
        ------
        TimeoutError
            If the service's thread has not ended within `timeout` seconds.
        """
        self._stopping.set()
        if self._listener is not None:
            self._listener.wake()
        if self._thread is not None:
            self._thread.join(timeout)
            if self._thread.is_alive():
                raise TimeoutError(f"Waited {timeout:.0f} s for the stager's thread to end.")
        else:
            self._release()

    def _release(self) -> None:
        if getattr(self, "_closed", False):
            return
        self._closed = True
        if hasattr(self, "_core"):
            self._core.catch_up(time.time())
        if self._listener is not None:
            self._listener.close()
        try:
            if hasattr(self, "_catalogue"):
                self._catalogue.close()
        except HeadraceError:
            log.exception("The journals could not be written out.")
        finally:
            if self._probe is not None:
                self._probe.remove()
            self._store.close(remove=not self.durable)

    def statistics(self) -> StagerStatistics:
        """Return what the stager has done so far."""
        topics = len(list(self._catalogue.under("")))
        return StagerStatistics(self._messages, topics, self._store.allocated, self._store.limit)

    def topics(self) -> list[TopicStatus]:
        """Return the state of all topics (only while no other thread serves)."""
        return [t.status(schemas=True) for t in self._catalogue.under("")]

    def __enter__(self) -> Stager:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
