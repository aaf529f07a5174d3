"""The engine's end of IMD sessions: a listener, and a connection to each reader."""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import time
from dataclasses import dataclass

from bridge.closing import Closing
from bridge.errors import (
    AddressInUse,
    ConfigError,
    ConnectionLost,
    NobodyListening,
    ProtocolError,
    TransportError,
)
from bridge.transports.imd.packets import (
    HEADER,
    Kind,
    SessionInfo,
    encode_handshake,
    encode_session,
)

__all__ = ["ImdListener", "ReaderConnection", "Request"]

GO_WAIT = 5.0
"""Seconds in which a reader must say go. The protocol asks for one; busy machines need more."""

LEAVE_WAIT = 5.0
"""Seconds for which a reader may read on after the last frame was sent."""

MOST_FORCES = 1 << 20
"""Atoms in one request to apply forces; a reader that announces more is sent away."""


@dataclass(frozen=True, slots=True)
class Request:
    """A packet that a reader sent."""

    kind: Kind
    """What it asks for."""
    length: int
    """The number beside it: a rate, whether to wait, the number of forces."""


class ImdListener(Closing):
    """A port on which readers are taken in; one thread uses it.

    Raises
    ------
    AddressInUse
        If somebody listens there already.
    TransportError
        If the address cannot be listened at.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        if not 0 <= port < 65536:
            raise ConfigError(f"{port} is no port; ports are numbers up to 65535.")
        try:
            self._socket = socket.create_server((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise AddressInUse(
                    f"Port {port} of {host} is in use already, by an engine or another server; "
                    "choose another port, or 0 for any."
                ) from error
            raise TransportError(
                f"Nobody can listen at {host}, port {port}: {error.strerror or error}."
            ) from error
        self.port: int = self._socket.getsockname()[1]

    def accept(self, wait: float) -> socket.socket | None:
        """Return the next reader's socket; None if nobody came within `wait` seconds."""
        self._socket.settimeout(wait)
        try:
            return self._socket.accept()[0]
        except (TimeoutError, BlockingIOError):
            return None

    def close(self) -> None:
        """Listen no more."""
        self._socket.close()


class ReaderConnection:
    """A session with one reader; one thread uses it.

    Parameters
    ----------
    found
        The socket, which is closed with the session.
    info
        What every frame will hold.
    timeout
        Seconds for which a frame may wait for the reader to take it.

    Raises
    ------
    NobodyListening
        If the reader does not say go.
    """

    def __init__(self, found: socket.socket, info: SessionInfo, *, timeout: float = 60.0) -> None:
        self._socket = found
        self.info = info
        self.gone = False
        self._timeout = timeout
        self._received = bytearray()
        self._skip = 0
        self._requests: list[Request] = []
        found.settimeout(0.0)
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._poll = select.poll()
        try:
            host, port = found.getpeername()[:2]
            self.place = f"{host}:{port}"
            hello = encode_handshake(info.version, info.order)
            self.send(memoryview(hello + (encode_session(info) if info.version == 3 else b"")))
            self._expect_go()
        except OSError as error:
            found.close()
            raise NobodyListening("A reader went away before it was greeted.") from error
        except BaseException:
            found.close()
            raise

    def _expect_go(self) -> None:
        end = time.monotonic() + GO_WAIT
        while not self._requests and not self.gone and time.monotonic() < end:
            self.wait(end - time.monotonic())
        if not self._requests:
            raise NobodyListening(
                f"The reader at {self.place} "
                + ("left" if self.gone else f"did not say go within {GO_WAIT:.0f} s")
                + f"; it may not speak version {self.info.version} of IMD."
            )
        first = self._requests.pop(0)
        if first.kind is not Kind.GO:
            raise ProtocolError(
                f"The reader at {self.place} said {first.kind.name} instead of GO after the "
                "handshake."
            )

    def take_requests(self) -> list[Request]:
        """Return what the reader has asked for since the last call, in order; never waits."""
        self._listen()
        out, self._requests = self._requests, []
        return out

    def wait(self, seconds: float) -> None:
        """Wait until the reader asks for something or leaves, for so many seconds at most."""
        if not self._requests and not self.gone:
            self._poll.register(self._socket, select.POLLIN)
            self._poll.poll(max(0.0, seconds) * 1000)
            self._listen()

    def send(self, data: memoryview) -> None:
        """Send whole packets, taking in requests meanwhile; returns early if the reader is gone.

        Raises
        ------
        ConnectionLost
            If the reader takes nothing for longer than the time limit.
        """
        end = time.monotonic() + self._timeout
        while data and not self.gone:
            try:
                count = self._socket.send(data)
            except BlockingIOError:
                left = end - time.monotonic()
                if left <= 0:
                    raise ConnectionLost(
                        f"The reader at {self.place} has taken nothing for {self._timeout:.3g} s; "
                        "it is sent away."
                    ) from None
                self._poll.register(self._socket, select.POLLIN | select.POLLOUT)
                self._poll.poll(left * 1000)
                self._listen()
                continue
            except OSError:
                self.gone = True
                return
            data = data[count:]
            end = time.monotonic() + self._timeout

    def _listen(self) -> None:
        while not self.gone:
            try:
                got = self._socket.recv(65536)
            except BlockingIOError:
                break
            except OSError:
                got = b""
            self.gone = not got
            self._received += got
            self._parse()

    def _parse(self) -> None:
        data = self._received
        while True:
            if self._skip:
                count = min(self._skip, len(data))
                del data[:count]
                self._skip -= count
            if self._skip or len(data) < HEADER.size:
                return
            number, length = HEADER.unpack(data[: HEADER.size])
            del data[: HEADER.size]
            try:
                kind = Kind(number)
            except ValueError:
                raise ProtocolError(
                    f"The reader at {self.place} sent a packet of the unknown type {number}."
                ) from None
            if kind is Kind.APPLY_FORCES:
                if not 0 <= length <= MOST_FORCES:
                    raise ProtocolError(
                        f"The reader at {self.place} announced forces on {length} atoms; the limit "
                        f"is {MOST_FORCES}."
                    )
                self._skip = 16 * length
            self._requests.append(Request(kind, length))

    def close(self) -> None:
        """End the session; the reader sees the end of the stream once it has read what was sent.

        Waits a few seconds for the reader to leave: a socket that is closed with requests unread
        would take back what is still on its way.
        """
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
        end = time.monotonic() + LEAVE_WAIT
        with contextlib.suppress(ProtocolError):
            while not self.gone and (left := end - time.monotonic()) > 0:
                self._requests.clear()
                self.wait(left)
        self._socket.close()
