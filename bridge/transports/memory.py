"""``memory://name``: messages between threads of one process, the reference transport.

Nothing is copied, not even small parts: the receiver sees the sender's bytes, read-only.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Generic, TypeVar

from bridge.errors import AddressInUse, ConnectionLost, HeadraceError
from bridge.transports.protocol import MAX_QUEUED, Buffer, TransportStatistics, freeze_all

__all__ = ["MemoryChannel", "MemoryListener"]

T = TypeVar("T")
Parts = list[memoryview]

_names = itertools.count(1)
# Guards the meeting places and who is at them; never held while waiting.
_lock = threading.Lock()
_listeners: dict[str, MemoryListener] = {}
_channels: dict[str, dict[bytes, MemoryChannel]] = {}


class _Mailbox(Generic[T]):
    """A bounded queue with one reader that any thread can wake."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._items: deque[T] = deque()
        self._woken = False
        self.closed = False

    def put(self, item: T) -> bool:
        with self._changed:
            if self.closed or len(self._items) >= MAX_QUEUED:
                return False
            self._items.append(item)
            self._changed.notify()
            return True

    def get(self, timeout: float) -> T | None:
        with self._changed:
            if self.closed:
                raise ConnectionLost("This end of the connection is closed; open it anew.")
            deadline = time.monotonic() + timeout
            while not self._woken and not self._items and not self.closed:
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    return None
                self._changed.wait(min(remaining, threading.TIMEOUT_MAX))
            if self._woken or self.closed:
                self._woken = False
                return None
            return self._items.popleft()

    def wake(self) -> None:
        with self._changed:
            self._woken = True
            self._changed.notify()

    def close(self) -> None:
        with self._changed:
            self.closed = True
            self._items.clear()
            self._changed.notify()


class _Counter:
    """What `TransportStatistics` is made of; used by the thread that owns the end."""

    def __init__(self) -> None:
        self.sent = self.received = self.sent_bytes = self.received_bytes = 0
        self.refused = self.connections = 0

    def count_sent(self, parts: Parts) -> None:
        self.sent += 1
        self.sent_bytes += sum(map(len, parts))

    def count_received(self, parts: Parts) -> None:
        self.received += 1
        self.received_bytes += sum(map(len, parts))

    def statistics(self) -> TransportStatistics:
        return TransportStatistics(**vars(self))


class MemoryChannel:
    """A client's end of ``memory://name``; see `bridge.transports.protocol.Channel`."""

    def __init__(self, address: str, *, name: str) -> None:
        self.address = address
        self._name = name
        self._peer = os.urandom(8)
        self._inbox: _Mailbox[Parts] = _Mailbox()
        # What was sent before there was a listener.
        self._pending: deque[Parts] = deque()
        self._counter = _Counter()
        with _lock:
            _channels.setdefault(name, {})[self._peer] = self
            self._counter.connections = int(name in _listeners)

    def __repr__(self) -> str:
        return f"MemoryChannel({self.address!r})"

    def send(self, parts: Sequence[Buffer]) -> None:
        """Queue one message; never blocks."""
        frozen = freeze_all(parts)
        with _lock:
            if self._inbox.closed:
                raise ConnectionLost(f"The channel to {self.address} is closed; open a new one.")
            listener = _listeners.get(self._name)
            if listener is not None:
                queued = listener._inbox.put((self._peer, frozen))
            else:
                queued = len(self._pending) < MAX_QUEUED
                if queued:
                    self._pending.append(frozen)
        if not queued:
            self._counter.refused += 1
            raise ConnectionLost(
                f"{MAX_QUEUED} messages wait to be taken at {self.address}; "
                f"check that the stager there is alive."
            )
        self._counter.count_sent(frozen)

    def receive(self, timeout: float) -> Parts | None:
        """Return the next message, or None at the time limit and when woken."""
        parts = self._inbox.get(timeout)
        if parts is not None:
            self._counter.count_received(parts)
        return parts

    def problem(self) -> HeadraceError | None:
        """Return None: nothing can be wrong here."""
        return None

    def wake(self) -> None:
        """Make a present or the next `receive` return None; from any thread."""
        self._inbox.wake()

    def statistics(self) -> TransportStatistics:
        """Return what went through so far."""
        return self._counter.statistics()

    def close(self) -> None:
        """Close; from any thread, any number of times."""
        with _lock:
            others = _channels.get(self._name, {})
            others.pop(self._peer, None)
            if not others:
                _channels.pop(self._name, None)
            self._pending.clear()
            self._inbox.close()


class MemoryListener:
    """The stager's end of ``memory://name``; an empty name stands for a fresh one.

    Raises
    ------
    AddressInUse
        If this process has a listener of that name already.
    """

    def __init__(self, name: str) -> None:
        self._name = name or f"{os.getpid()}-{next(_names)}"
        self.address = f"memory://{self._name}"
        self._inbox: _Mailbox[tuple[bytes, Parts]] = _Mailbox()
        self._counter = _Counter()
        with _lock:
            if self._name in _listeners:
                raise AddressInUse(
                    f"{self.address} has a listener in this process already; "
                    f"close that one first, or choose another name."
                )
            _listeners[self._name] = self
            for channel in _channels.get(self._name, {}).values():
                channel._counter.connections += 1
                while channel._pending:
                    self._inbox.put((channel._peer, channel._pending.popleft()))

    def __repr__(self) -> str:
        return f"MemoryListener({self.address!r})"

    def receive(self, timeout: float) -> tuple[bytes, Parts] | None:
        """Return the next message and its sender, or None at the time limit and when woken."""
        message = self._inbox.get(timeout)
        if message is not None:
            self._counter.count_received(message[1])
        return message

    def send(self, peer: bytes, parts: Sequence[Buffer]) -> bool:
        """Queue one message for a peer, False if it is gone; never blocks."""
        frozen = freeze_all(parts)
        with _lock:
            if self._inbox.closed:
                raise ConnectionLost(f"The listener at {self.address} is closed; open a new one.")
            channel = _channels.get(self._name, {}).get(peer)
            queued = channel is not None and channel._inbox.put(frozen)
        if queued:
            self._counter.count_sent(frozen)
        else:
            self._counter.refused += 1
        return queued

    def wake(self) -> None:
        """Make a present or the next `receive` return None; from any thread."""
        self._inbox.wake()

    def statistics(self) -> TransportStatistics:
        """Return what went through so far."""
        return self._counter.statistics()

    def close(self) -> None:
        """Close; from any thread, any number of times."""
        with _lock:
            if _listeners.get(self._name) is self:
                del _listeners[self._name]
            self._inbox.close()
