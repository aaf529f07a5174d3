"""What the checks of transports have in common: opening, exchanging, waiting with a limit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Protocol

from bridge.errors import HeadraceError
from bridge.transports.protocol import Channel, Listener

__all__ = [
    "PATIENCE",
    "SHORT",
    "Transport",
    "meet",
    "open_pair",
    "refusal_of",
    "take",
    "take_answer",
    "wait_until",
]

PATIENCE = 30.0
"""Seconds after which a check gives up."""
SHORT = 0.02
"""Seconds to wait for what will not come."""


class Transport(Protocol):
    """Opens the two ends of the transport to be checked."""

    def listen(self, address: str = "") -> Listener:
        """Open a listener at `address`; an empty one stands for an address not used before."""
        ...

    def connect(self, address: str) -> Channel:
        """Open a channel to a listener's address."""
        ...


@contextmanager
def open_pair(transport: Transport) -> Iterator[tuple[Listener, Channel]]:
    """Open a listener and a channel to it; close both at the end."""
    with (
        closing(transport.listen()) as listener,
        closing(transport.connect(listener.address)) as channel,
    ):
        yield listener, channel


def take(listener: Listener) -> tuple[bytes, list[memoryview]]:
    """Return the next message that reaches the listener."""
    message = listener.receive(PATIENCE)
    assert message is not None, f"No message reached {listener.address} in {PATIENCE} s."
    return message


def take_answer(channel: Channel) -> list[memoryview]:
    """Return the next message that reaches the channel."""
    parts = channel.receive(PATIENCE)
    assert parts is not None, f"No answer reached the channel to {channel.address}."
    return parts


def meet(listener: Listener, channel: Channel) -> bytes:
    """Return the channel's name at the listener."""
    channel.send([b"hello"])
    return take(listener)[0]


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Ask again and again whether something is true, within `PATIENCE`."""
    deadline = time.monotonic() + PATIENCE
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"{what} within {PATIENCE} s."
        pause.wait(SHORT)


def refusal_of(
    call: Callable[[], object], kind: type[HeadraceError], otherwise: str
) -> HeadraceError:
    """Return the error of this kind that a call raises."""
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"{otherwise}: there was no {kind.__name__}.")
