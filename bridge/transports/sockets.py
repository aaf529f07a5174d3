"""What a channel and a listener over ZeroMQ share: receiving, waking, counting and closing.

Receiving tries the socket first and asks the kernel only when there is nothing, so that a busy end
costs no system call for a message. There is no thread here. While one thread waits in `receive`,
another may send: the wait is for descriptors of the kernel's, outside of the lock that guards the
socket.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import sys
import threading
import time
import warnings
from collections.abc import Sequence

import zmq

from bridge.errors import ConnectionLost
from bridge.transports.context import open_ends
from bridge.transports.protocol import (
    COPY_BELOW,
    MAX_PART_BYTES,
    MAX_QUEUED,
    Buffer,
    TransportStatistics,
    freeze_all,
)

__all__ = ["LINGER_MS", "SocketEnd"]

LINGER_MS = 1000
_HEARTBEAT_MS = 2000
# The longest that one call may wait for; a longer wait is several.
_POLL_S = 3600.0
# A peer that is silent for so long is gone, however well its machine keeps the connection up.
_SILENCE_MS = 10_000


class SocketEnd:
    """What both ends share: receiving, waking, counting and closing."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], kind: int) -> None:
        self.address = ""
        self._socket = socket = context.socket(kind)
        socket.linger = LINGER_MS
        socket.set_hwm(MAX_QUEUED)
        socket.maxmsgsize = MAX_PART_BYTES
        socket.heartbeat_ivl = _HEARTBEAT_MS
        socket.heartbeat_timeout = _SILENCE_MS
        socket.heartbeat_ttl = _SILENCE_MS
        # Held by whoever receives, so that another thread's close waits for it.
        self._receiving = threading.Lock()
        # Held by whoever uses the socket, but not while he waits for a message.
        self._in_use = threading.Lock()
        self._waiting = False
        # Guards the next two and the wake descriptor.
        self._waking = threading.Lock()
        self._woken = False
        self._closed = False
        # An exception from outside, such as a KeyboardInterrupt, came between two parts.
        self._torn = False
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poller = select.poll()
        self._poller.register(int(socket.getsockopt(zmq.FD)), select.POLLIN)
        self._poller.register(self._wake_fd, select.POLLIN)
        self._sent = self._sent_bytes = self._received = self._received_bytes = 0
        self._refused = 0
        self._opened_by = _find_opener()
        open_ends.add(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.address!r})"

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            # First of all: where warnings are errors, nothing after it happens.
            self.close()
            warnings.warn(
                f"{self!r}, opened {self._opened_by}, was never closed; use a with statement, or "
                "call close.",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )

    def wake(self) -> None:
        """Make a present or the next `receive` return None; from any thread."""
        with self._waking:
            if not self._closed and not self._woken:
                self._woken = True
                os.eventfd_write(self._wake_fd, 1)

    def statistics(self) -> TransportStatistics:
        """Return what went through so far."""
        return TransportStatistics(
            sent=self._sent,
            received=self._received,
            sent_bytes=self._sent_bytes,
            received_bytes=self._received_bytes,
            refused=self._refused,
        )

    def close(self) -> None:
        """Close; from any thread, any number of times."""
        with self._waking:
            if self._closed:
                return
            self._closed = self._woken = True
            os.eventfd_write(self._wake_fd, 1)
        with self._receiving, self._in_use:
            open_ends.discard(self)
            self._release()
            os.close(self._wake_fd)

    def _release(self) -> None:
        self._socket.close()

    def _refuse_closed(self) -> None:
        if self._closed:
            raise ConnectionLost(f"This end of {self.address} is closed; open a new one.")
        if self._torn:
            raise ConnectionLost(
                f"This end of {self.address} was interrupted in the middle of a message; "
                f"close it and open a new one."
            )

    def _take_wake(self) -> None:
        with self._waking:
            if not self._closed:
                self._woken = False
                os.eventfd_read(self._wake_fd)

    def _send(self, parts: Sequence[Buffer], flags: int) -> None:
        """Send the parts of a message; ZeroMQ refuses the first of them or none."""
        send = self._socket.send
        frozen = freeze_all(parts)
        last = len(frozen) - 1
        size = 0
        try:
            for number, part in enumerate(frozen):
                length = len(part)
                flag = flags if number == last else flags | zmq.SNDMORE
                send(part, flag, length < COPY_BELOW)
                size += length
        except zmq.ZMQError:
            raise
        except BaseException:
            self._torn = True
            raise
        self._sent += 1
        self._sent_bytes += size
        self._nudge()

    def _nudge(self) -> None:
        """Have the thread that waits look again, if what it waits for has come.

        ZeroMQ tells of a message by its descriptor once, and whoever uses the socket next has
        taken note of it, which need not be the thread that waits.
        """
        if self._waiting and int(self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            os.eventfd_write(self._wake_fd, 1)

    def _receive(self, timeout: float) -> list[memoryview] | None:
        """Receive; the caller holds both locks, and this lets go of one while it waits."""
        receive = self._socket.recv
        deadline: float | None = None
        while not self._woken:
            try:
                frame = receive(zmq.NOBLOCK, False)
            except zmq.Again:
                if deadline is None:
                    deadline = time.monotonic() + timeout
                if not self._wait(deadline - time.monotonic()):
                    return None
                continue
            try:
                parts = [frame.buffer.toreadonly()]
                # ZeroMQ hands out a message only when all its parts are there.
                while frame.more:
                    frame = receive(zmq.NOBLOCK, False)
                    parts.append(frame.buffer.toreadonly())
            except BaseException:
                self._torn = True
                raise
            self._received += 1
            self._received_bytes += sum(map(len, parts))
            return parts
        self._take_wake()
        return None

    def _wait(self, seconds: float) -> bool:
        """Wait until there may be a message, or for `wake`; return False at the time limit."""
        if seconds <= 0:
            return False
        self._waiting = True
        self._in_use.release()
        try:
            found = self._poller.poll(math.ceil(min(seconds, _POLL_S) * 1e3))
        finally:
            self._in_use.acquire()
            self._waiting = False
        if not found:
            return seconds > _POLL_S
        with self._waking:
            if not self._woken:
                # It was a nudge, if anything.
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(self._wake_fd)
        return True


def _find_opener() -> str:
    """Say who opens an end: the thread, and the innermost line that is not of this package."""
    inside, frame = None, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("bridge."):
        inside, frame = frame, frame.f_back
    # A thread of this package was begun by nobody's line.
    if inside is not None and frame.f_globals.get("__name__") == "threading":
        frame = inside
    code = frame.f_code
    thread = threading.current_thread().name
    return f"in {thread} at {os.path.basename(code.co_filename)}:{frame.f_lineno} ({code.co_name})"
