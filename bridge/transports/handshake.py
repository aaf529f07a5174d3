"""Why a channel does not get through: what ZeroMQ tells about its handshakes.

Measured with libzmq 4.3.5 on the client's side:

=========================================  ====================================  ==============
situation                                  event                                 tries again
=========================================  ====================================  ==============
key not in the allow-list                  HANDSHAKE_FAILED_AUTH 400             no
keys on one side only                      HANDSHAKE_FAILED_PROTOCOL, mechanism  no
another public key of the stager expected  HANDSHAKE_FAILED_NO_DETAIL, EPIPE     yes, each time
no ZeroMQ at all                           HANDSHAKE_FAILED_NO_DETAIL            yes, each time
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
        self.socket = socket.get_monitor_socket(
            zmq.EVENT_HANDSHAKE_SUCCEEDED
            | zmq.EVENT_HANDSHAKE_FAILED_AUTH
            | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
            | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
        )

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
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self.problem = None
            self.connections += 1
            self._broken_off = 0
        elif event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
            self._broken_off += 1
            if self._broken_off >= _BROKEN_OFF and self.problem is None:
                self.problem = self._explain_broken_off()
        elif event == zmq.EVENT_HANDSHAKE_FAILED_AUTH and self._keys is not None:
            self.problem = AuthenticationFailed(
                f"The stager at {self._address} does not let in the public key "
                f"{self._keys.own.public}; put this client's .pub file into the stager's "
                f"allow-list folder and connect again."
            )
        else:
            self.problem = self._explain_mismatch()

    def _explain_broken_off(self) -> HeadraceError:
        if self._keys is None:
            return TransportError(
                f"What listens at {self._address} breaks off every connection: "
                f"it is probably no stager; check the address."
            )
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
