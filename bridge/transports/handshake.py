"""Why a channel does not get through: what ZeroMQ tells about its handshakes.

Measured with libzmq 4.3.5 on the client's side:

=========================================  ====================================  ==============
situation                                  event                                 tries again
=========================================  ====================================  ==============
key not in the allow-list                  HANDSHAKE_FAILED_AUTH 400             no
keys on one side only                      HANDSHAKE_FAILED_PROTOCOL, mechanism  no
another public key of the stager expected  HANDSHAKE_FAILED_NO_DETAIL, EPIPE     yes, each time
no ZeroMQ at all, no keys                  HANDSHAKE_FAILED_NO_DETAIL            yes, each time
no ZeroMQ at all, keys                     the same, or DISCONNECTED alone       no
=========================================  ====================================  ==============
"""

from __future__ import annotations

import struct

import zmq

from bridge.errors import AuthenticationFailed, HeadraceError, TransportError
from bridge.transports.curve import ClientKeys

__all__ = ["HandshakeWatch"]

_EVENT = struct.Struct("=HI")
# A stager that ends in the middle of a handshake breaks it off, too: once.
_BROKEN_OFF = 3


class HandshakeWatch:
    """Reads a client socket's events; used by the thread that uses the socket.

    Parameters
    ----------
    socket
        The socket, not yet connected.
    address
        Where it will connect to, for the sentences.
    keys
        What it was given.
    """

    def __init__(
        self, socket: zmq.Socket[bytes], address: str, keys: ClientKeys | None = None
    ) -> None:
        self.problem: HeadraceError | None = None
        self.connections = 0
        self._watched = socket
        self._address = address
        self._keys = keys
        self._broken_off = 0
        self._is_unexplained = False
        self.socket = socket.get_monitor_socket(
            zmq.EVENT_CONNECTED
            | zmq.EVENT_DISCONNECTED
            | zmq.EVENT_HANDSHAKE_SUCCEEDED
            | zmq.EVENT_HANDSHAKE_FAILED_AUTH
            | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
            | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
        )
        # ZeroMQ signals by the descriptor only those who have looked and found nothing.
        self.look()

    def look(self) -> None:
        """Read the events since the last look; never blocks."""
        while True:
            try:
                data = self.socket.recv_multipart(zmq.NOBLOCK)[0]
            except zmq.Again:
                return
            event, value = _EVENT.unpack(data)
            self._take(event, value)

    def _take(self, event: int, value: int) -> None:
        unexplained = self._is_unexplained
        self._is_unexplained = event == zmq.EVENT_CONNECTED
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self.problem = None
            self.connections += 1
            self._broken_off = 0
        elif event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
            self._broken_off += 1
            if self._broken_off >= _BROKEN_OFF and self.problem is None:
                self.problem = self._explain_broken_off()
        elif event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            self.problem = self._explain_refusal()
        elif event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
            self.problem = self._explain_mismatch()
        elif event == zmq.EVENT_DISCONNECTED and unexplained:
            self.problem = self._explain_stranger()

    def _explain_refusal(self) -> HeadraceError:
        key = "of this client" if self._keys is None else self._keys.own.public
        return AuthenticationFailed(
            f"The stager at {self._address} does not let in the public key {key}; put this "
            f"client's .pub file into the stager's allow-list folder and connect again."
        )

    def _explain_stranger(self) -> HeadraceError:
        return TransportError(
            f"What listens at {self._address} breaks off every connection: "
            f"it is probably no stager; check the address."
        )

    def _explain_broken_off(self) -> HeadraceError:
        if self._keys is None:
            return self._explain_stranger()
        return AuthenticationFailed(
            f"What listens at {self._address} breaks off every encrypted connection: its public "
            f"key is probably not {self._keys.stager}; get the stager's .pub file anew, "
            f"or check the address."
        )

    def _explain_mismatch(self) -> HeadraceError:
        if self._keys is None:
            return AuthenticationFailed(
                f"The stager at {self._address} wants keys and this client has none; give it a "
                f".key file of its own (made with `headrace keys`) and the stager's .pub file."
            )
        return AuthenticationFailed(
            f"The stager at {self._address} has no keys, but this client does; start the stager "
            f"with keys, or leave them out here."
        )

    def close(self) -> None:
        """Stop watching."""
        self._watched.disable_monitor()
        self.socket.close()
