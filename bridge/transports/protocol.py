"""What every transport promises: a client's `Channel` and the stager's `Listener`.

A message is a list of buffers, the *parts*. Both ends keep these rules, and
`bridge.testing.transports` checks them:

* Messages between one channel and one listener arrive whole, in the order they were sent.
* `send` never blocks. What a peer has not taken waits in a queue of `MAX_QUEUED` messages.
* Parts larger than `COPY_BELOW` bytes travel without a copy: whoever sends them leaves them
  unchanged until the peer has answered.
* Received parts are read-only and stay valid for as long as they are referenced.
* One thread at a time receives at an end, and one sends; they may be two, and neither waits for the
  other. `wake`, `close` and `statistics` may be called from any thread.
* A message may be lost when a connection breaks or a listener ends: whoever needs an answer asks
  again. None arrives twice.
* A channel may be opened before its listener, and finds a listener that was started anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from bridge.errors import HeadraceError, MessageTooLarge

__all__ = [
    "COPY_BELOW",
    "MAX_PART_BYTES",
    "MAX_QUEUED",
    "Buffer",
    "Channel",
    "Listener",
    "TransportStatistics",
    "freeze",
    "freeze_all",
]

Buffer: TypeAlias = bytes | bytearray | memoryview

# Below this a copy costs less than telling the garbage collector about the buffer.
COPY_BELOW = 65536
# One payload of the wire encoding (8 GiB) and some; a larger part ends the connection.
MAX_PART_BYTES = (1 << 33) + (1 << 24)
# Messages of one peer that wait to be sent, and again as many to be received.
MAX_QUEUED = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportStatistics:
    """What went through one end since it was opened."""

    sent: int = 0
    """Messages handed to the transport."""
    received: int = 0
    """Messages handed to the caller."""
    sent_bytes: int = 0
    """Bytes of all parts of the messages sent."""
    received_bytes: int = 0
    """Bytes of all parts of the messages received."""
    refused: int = 0
    """Messages that could not be sent because the peer was gone or its queue was full."""
    connections: int = 0
    """Times a channel reached its listener; always 0 for a listener."""


class Channel(Protocol):
    """A client's end."""

    @property
    def address(self) -> str:
        """Where the listener is."""
        ...

    def send(self, parts: Sequence[Buffer]) -> None:
        """Queue one message; never blocks.

        Raises
        ------
        ConnectionLost
            If the channel is closed, or `MAX_QUEUED` messages wait already. Where there is a
            `problem`, that is raised instead.
        MessageTooLarge
            If a part is larger than `MAX_PART_BYTES`.
        ValueError
            If there are no parts.
        """
        ...

    def receive(self, timeout: float) -> list[memoryview] | None:
        """Return the next message.

        Parameters
        ----------
        timeout
            Seconds to wait at most; 0 returns at once.

        Returns
        -------
        parts
            None at the time limit, when woken, when closed meanwhile, and when a problem appeared.

        Raises
        ------
        ConnectionLost
            If the channel was closed before the call.
        """
        ...

    def problem(self) -> HeadraceError | None:
        """Return why the listener cannot be reached, if that is known; never blocks.

        A listener that is merely absent is no problem: it may come. A key that is refused is one.
        """
        ...

    def wake(self) -> None:
        """Make a present `receive`, or else the next one, return None at once."""
        ...

    def statistics(self) -> TransportStatistics:
        """Return what went through this channel so far."""
        ...

    def close(self) -> None:
        """Close; what is queued is still sent for at most one second. May be called again."""
        ...


class Listener(Protocol):
    """The stager's end, which many channels reach."""

    @property
    def address(self) -> str:
        """What a channel has to be opened with: the real one, where a port was left open."""
        ...

    def receive(self, timeout: float) -> tuple[bytes, list[memoryview]] | None:
        """Return the sender's name and its message; otherwise as `Channel.receive`."""
        ...

    def send(self, peer: bytes, parts: Sequence[Buffer]) -> bool:
        """Queue one message for a peer; never blocks.

        Returns
        -------
        queued
            False if the peer is gone, or does not take what `MAX_QUEUED` messages before held.

        Raises
        ------
        ConnectionLost
            If the listener is closed.
        MessageTooLarge
            If a part is larger than the limit.
        """
        ...

    def wake(self) -> None:
        """Make a present `receive`, or else the next one, return None at once."""
        ...

    def statistics(self) -> TransportStatistics:
        """Return what went through this listener so far."""
        ...

    def close(self) -> None:
        """Close; what is queued is still sent for at most one second. May be called again."""
        ...


def freeze(part: Buffer) -> memoryview:
    """Return a read-only view of the bytes of a part, whatever its shape and type."""
    view = memoryview(part).toreadonly()
    if view.nbytes > MAX_PART_BYTES:
        raise MessageTooLarge(
            f"A part of a message has {view.nbytes} bytes; the limit is {MAX_PART_BYTES}. "
            f"Send it in several pieces."
        )
    if view.format == "B" and view.ndim == 1:
        return view
    # Views without elements cannot be cast.
    return view.cast("B") if view.nbytes else memoryview(b"")


def freeze_all(parts: Sequence[Buffer]) -> list[memoryview]:
    """Return `freeze` of each part; a message has at least one."""
    if not parts:
        raise ValueError("A message has at least one part.")
    return [freeze(part) for part in parts]
