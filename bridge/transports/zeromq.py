"""``tcp://`` and ``ipc://``: messages between processes and machines, through ZeroMQ.

A channel is a DEALER socket with a random name, a listener a ROUTER socket. Only a listener with
keys has a thread of its own, for the handshakes.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket as sockets
import stat
from collections.abc import Callable, Sequence

import zmq

from bridge.errors import AddressInUse, ConfigError, ConnectionLost, HeadraceError, TransportError
from bridge.transports.addresses import IpcAddress, TcpAddress, parse_ipc, parse_tcp
from bridge.transports.context import shared_context
from bridge.transports.curve import ClientKeys, Gatekeeper, KeyPair
from bridge.transports.handshake import HandshakeWatch
from bridge.transports.protocol import MAX_QUEUED, Buffer, TransportStatistics
from bridge.transports.sockets import LINGER_MS, SocketEnd

__all__ = ["ZmqChannel", "ZmqListener"]

_RECONNECT_MS = (100, 1000)
_CONNECT_MS = 5000


class ZmqChannel(SocketEnd):
    """A client's end; see `bridge.transports.protocol.Channel`.

    Parameters
    ----------
    address
        ``tcp://host:port`` or ``ipc://path``.
    keys
        For a listener with keys.

    Raises
    ------
    ConfigError
        If the address is malformed or its host is not known.
    """

    def __init__(self, address: str, *, keys: ClientKeys | None = None) -> None:
        target = _parse(address, to_bind=False)
        # Version 6 only where it must be: a stager at "localhost" listens at 127.0.0.1.
        is_ipv6 = isinstance(target, TcpAddress) and ":" in target.resolve()[0]
        super().__init__(shared_context(), zmq.DEALER)
        self.address = address
        socket = self._socket
        socket.routing_id = b"h" + os.urandom(15)
        socket.reconnect_ivl, socket.reconnect_ivl_max = _RECONNECT_MS
        socket.connect_timeout = _CONNECT_MS
        socket.ipv6 = is_ipv6
        if keys is not None:
            socket.curve_serverkey = keys.stager.encode()
            socket.curve_publickey = keys.own.public.encode()
            socket.curve_secretkey = keys.own.secret.encode()
        self._watch = HandshakeWatch(socket, address, keys)
        self._poller.register(int(self._watch.socket.getsockopt(zmq.FD)), select.POLLIN)
        try:
            socket.connect(str(target))
        except zmq.ZMQError as error:
            self.close()
            raise ConfigError(f"Cannot connect to {address}: {error.strerror}.") from error

    def send(self, parts: Sequence[Buffer]) -> None:
        """Queue one message; never blocks."""
        with self._in_use:
            self._refuse_closed()
            try:
                self._send(parts, zmq.NOBLOCK)
            except zmq.Again:
                self._refused += 1
                # ZeroMQ gives a connection up for good when its handshake was refused.
                self._look()
                raise self._watch.problem or ConnectionLost(
                    f"{MAX_QUEUED} messages wait to be taken at {self.address}; "
                    f"check that the stager there is alive."
                ) from None

    def receive(self, timeout: float) -> list[memoryview] | None:
        """Return the next message, or None at the time limit and when woken."""
        with self._receiving, self._in_use:
            self._refuse_closed()
            return self._receive(timeout)

    def problem(self) -> HeadraceError | None:
        """Return why the listener cannot be reached, if that is known."""
        with self._in_use:
            if not self._closed:
                self._look()
            return self._watch.problem

    def statistics(self) -> TransportStatistics:
        """Return what went through so far."""
        basic = super().statistics()
        return TransportStatistics(
            sent=basic.sent,
            received=basic.received,
            sent_bytes=basic.sent_bytes,
            received_bytes=basic.received_bytes,
            refused=basic.refused,
            connections=self._watch.connections,
        )

    def _wait(self, seconds: float) -> bool:
        before = self._watch.problem
        if not super()._wait(seconds):
            return False
        self._watch.look()
        return self._watch.problem is None or self._watch.problem is before

    def _look(self) -> None:
        """Read the connection's events, and tell the thread that waits of a new problem."""
        before = self._watch.problem
        self._watch.look()
        if self._waiting and self._watch.problem is not before:
            os.eventfd_write(self._wake_fd, 1)

    def _release(self) -> None:
        self._watch.close()
        super()._release()


class ZmqListener(SocketEnd):
    """The stager's end; see `bridge.transports.protocol.Listener`.

    Parameters
    ----------
    address
        ``tcp://host:port`` (port 0: any free one) or ``ipc://path``.
    keys
        Turns encryption on.
    allows
        Whether the owner of a public key is let in; asked in a thread of its own. Needed with
        `keys`.

    Raises
    ------
    AddressInUse
        If another process listens there.
    ConfigError
        If the address is malformed, is not one of this machine, or can be reached from others
        while there are no keys.
    """

    def __init__(
        self,
        address: str,
        *,
        keys: KeyPair | None = None,
        allows: Callable[[str], bool] | None = None,
    ) -> None:
        target = _parse(address, to_bind=True)
        if isinstance(target, TcpAddress) and keys is None and not target.is_loopback():
            raise ConfigError(
                f"{address} can be reached from other machines, and without keys anybody there "
                f"could read and steer the simulations; make keys with `headrace keys` and give "
                f"them to the stager, or listen at tcp://127.0.0.1:{target.port}."
            )
        self._context = shared_context() if keys is None else zmq.Context()
        super().__init__(self._context, zmq.ROUTER)
        self._gatekeeper: Gatekeeper | None = None
        self._file: tuple[str, int] | None = None
        socket = self._socket
        socket.router_mandatory = True
        # A client that comes back before its old connection is known to be dead takes over.
        socket.router_handover = True
        try:
            if keys is not None:
                self._gatekeeper = Gatekeeper(self._context, allows or (lambda key: False))
                socket.curve_server = True
                socket.curve_publickey = keys.public.encode()
                socket.curve_secretkey = keys.secret.encode()
                socket.zap_domain = b"headrace"
                socket.zap_enforce_domain = True
            self._bind(target)
        except BaseException:
            self.close()
            raise

    def receive(self, timeout: float) -> tuple[bytes, list[memoryview]] | None:
        """Return the next message and its sender, or None at the time limit and when woken."""
        with self._receiving, self._in_use:
            self._refuse_closed()
            while True:
                parts = self._receive(timeout)
                if parts is None:
                    return None
                # A stranger's socket may send nothing but its name.
                if len(parts) > 1:
                    peer = bytes(parts[0])
                    self._received_bytes -= len(peer)
                    return peer, parts[1:]

    def send(self, peer: bytes, parts: Sequence[Buffer]) -> bool:
        """Queue one message for a peer, False if it is gone; never blocks."""
        with self._in_use:
            self._refuse_closed()
            if not parts:
                raise ValueError("A message has at least one part.")
            try:
                self._send([peer, *parts], zmq.NOBLOCK)
            except zmq.ZMQError as error:
                if error.errno not in (zmq.EHOSTUNREACH, zmq.EAGAIN):
                    raise
                self._refused += 1
                return False
            self._sent_bytes -= len(peer)
            return True

    def _release(self) -> None:
        self._free_address()
        super()._release()
        if self._gatekeeper is not None:
            # Ends the gatekeeper's thread, and waits for what is still queued.
            self._context.term()
            self._gatekeeper.join()

    def _free_address(self) -> None:
        """Stop listening, and wait until somebody else can: ZeroMQ does it in its own time."""
        endpoint = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        if not endpoint:
            return
        monitor = self._socket.get_monitor_socket(zmq.EVENT_CLOSED | zmq.EVENT_CLOSE_FAILED)
        try:
            self._socket.unbind(endpoint)
            monitor.poll(LINGER_MS)
        finally:
            self._socket.disable_monitor()
            monitor.close()
        if self._file is not None:
            path, number = self._file
            # ZeroMQ leaves it there; by now it may be somebody else's.
            with contextlib.suppress(OSError):
                if os.lstat(path).st_ino == number:
                    os.unlink(path)

    def _bind(self, target: TcpAddress | IpcAddress) -> None:
        if isinstance(target, IpcAddress):
            _refuse_busy(target)
            to_bind = str(target)
        else:
            number = target.resolve()[0]
            self._socket.ipv6 = ":" in number
            to_bind = str(TcpAddress(number, target.port))
        try:
            self._socket.bind(to_bind)
        except zmq.ZMQError as error:
            raise _explain(error, target) from error
        if isinstance(target, IpcAddress):
            # The account that runs the stager, and no other.
            os.chmod(target.path, stat.S_IRUSR | stat.S_IWUSR)
            self._file = target.path, os.lstat(target.path).st_ino
            self.address = str(target)
        else:
            port = int(self._socket.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(":")[2])
            host = sockets.gethostname() if target.is_wildcard else target.host
            self.address = str(TcpAddress(host, port))


def _parse(address: str, *, to_bind: bool) -> TcpAddress | IpcAddress:
    if address.startswith("ipc://"):
        return parse_ipc(address)
    return parse_tcp(address, to_bind=to_bind)


def _refuse_busy(target: IpcAddress) -> None:
    """Raise if the path is taken: ZeroMQ would remove whatever is there."""
    try:
        is_socket = stat.S_ISSOCK(os.lstat(target.path).st_mode)
    except OSError:
        return
    if not is_socket:
        raise ConfigError(f"{target.path} is a file and no socket; choose another path.")
    with sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM) as probe:
        try:
            probe.connect(target.path)
        except OSError:
            return
    raise AddressInUse(
        f"Another process listens at {target}; stop it, or choose another path for this stager."
    )


def _explain(error: zmq.ZMQError, target: TcpAddress | IpcAddress) -> HeadraceError:
    if error.errno == zmq.EADDRINUSE:
        return AddressInUse(
            f"Another process listens at {target}; stop it, or choose another port "
            f"(port 0 takes any free one)."
        )
    if error.errno == zmq.EADDRNOTAVAIL:
        return ConfigError(
            f"{target} is not an address of this machine; listen at 127.0.0.1, "
            f"or at an address that `ip addr` shows."
        )
    return TransportError(f"Cannot listen at {target}: {error.strerror}.")
