"""Checks of beginnings and ends: who comes late, leaves, comes back, or is closed."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from bridge.errors import AddressInUse, ConnectionLost
from bridge.testing.transport_tools import (
    PATIENCE,
    SHORT,
    Transport,
    meet,
    open_pair,
    refusal_of,
    take,
    take_answer,
    wait_until,
)
from bridge.transports.protocol import COPY_BELOW, Channel, Listener

__all__ = [
    "check_address_in_use",
    "check_close",
    "check_close_ends_receive",
    "check_close_sends_what_is_queued",
    "check_late_listener",
    "check_nothing_leaks",
    "check_peer_left",
    "check_restarted_listener",
]


def check_peer_left(transport: Transport) -> None:
    """Sending to a channel that was closed, or never existed, is refused; the others live on."""
    with open_pair(transport) as (listener, channel):
        with closing(transport.connect(listener.address)) as leaver:
            gone = meet(listener, leaver)
            assert listener.send(gone, [b"still here"])
            take_answer(leaver)
        wait_until(lambda: not listener.send(gone, [b"?"]), "The closed channel was not noticed")
        assert not listener.send(b"nobody", [b"?"])
        peer = meet(listener, channel)
        assert listener.send(peer, [b"alive"])
        assert bytes(take_answer(channel)[0]) == b"alive"


def check_late_listener(transport: Transport) -> None:
    """A channel may come first: what it sent is there when the listener comes."""
    with closing(transport.listen()) as listener:
        address = listener.address
    with closing(transport.connect(address)) as channel:
        channel.send([b"early"])
        assert channel.receive(SHORT) is None
        with closing(transport.listen(address)) as listener:
            assert listener.address == address
            assert bytes(take(listener)[1][0]) == b"early"


def check_restarted_listener(transport: Transport) -> None:
    """A channel finds the listener that takes the place of the one that ended."""
    with closing(transport.listen()) as listener:
        address = listener.address
        channel = transport.connect(address)
        meet(listener, channel)
    with closing(channel), closing(transport.listen(address)) as listener:
        deadline = time.monotonic() + PATIENCE
        message = None
        while message is None:
            assert time.monotonic() < deadline, "The channel did not find the new listener."
            # What is sent into a connection that just broke may be lost: ask again.
            channel.send([b"again"])
            message = listener.receive(10 * SHORT)
        assert listener.send(message[0], [b"welcome back"])
        assert bytes(take_answer(channel)[0]) == b"welcome back"
        assert channel.problem() is None


def check_address_in_use(transport: Transport) -> None:
    """A second listener at the same address is refused, and does not disturb the first."""
    with open_pair(transport) as (listener, channel):
        error = refusal_of(
            lambda: transport.listen(listener.address).close(),
            AddressInUse,
            "Two listeners were opened at one address",
        )
        assert listener.address in str(error), "The refusal does not name the address."
        meet(listener, channel)
    with closing(transport.listen(listener.address)) as again:
        assert again.address == listener.address


def check_close(transport: Transport) -> None:
    """Closing twice is the same as once; a closed end refuses to be used."""
    with open_pair(transport) as (listener, channel):
        peer = meet(listener, channel)
        attempts: list[Callable[[], object]] = [
            lambda: channel.send([b"x"]),
            lambda: channel.receive(0),
            lambda: listener.send(peer, [b"x"]),
            lambda: listener.receive(0),
        ]
        for end in (channel, listener):
            end.close()
            end.close()
            end.wake()
            end.statistics()
        channel.problem()
        for attempt in attempts:
            refusal_of(attempt, ConnectionLost, "A closed end could be used")


def check_close_ends_receive(transport: Transport) -> None:
    """A thread that waits in receive returns when another one closes the end."""

    def wait(end: Channel | Listener) -> None:
        try:
            got.append(end.receive(2 * PATIENCE))
        except ConnectionLost:
            got.append(None)

    with open_pair(transport) as (listener, channel):
        for end in (channel, listener):
            got: list[object] = []
            thread = threading.Thread(target=wait, args=(end,), daemon=True)
            thread.start()
            end.close()
            thread.join(PATIENCE)
            assert got == [None], "Closing did not end a waiting receive."


def check_close_sends_what_is_queued(transport: Transport) -> None:
    """Closing right after sending loses nothing while the peer takes it."""
    with closing(transport.listen()) as listener:
        with closing(transport.connect(listener.address)) as channel:
            meet(listener, channel)
            for number in range(50):
                channel.send([b"%d" % number, bytes(COPY_BELOW)])
        for number in range(50):
            assert bytes(take(listener)[1][0]) == b"%d" % number


def check_nothing_leaks(transport: Transport) -> None:
    """Opening and closing leaves no open files and no threads."""
    files = Path("/proc/self/fd")

    def use() -> None:
        with open_pair(transport) as (listener, channel):
            assert listener.send(meet(listener, channel), [bytes(2 * COPY_BELOW)])
            take_answer(channel)

    def count() -> tuple[int, int]:
        gc.collect()
        return len(os.listdir(files)) if files.exists() else 0, threading.active_count()

    # The first use of a library may open things that stay.
    use()
    before = count()
    for _ in range(10):
        use()

    def is_as_before() -> bool:
        now = count()
        return now[0] <= before[0] and now[1] <= before[1]

    wait_until(is_as_before, "Open files or threads stayed behind")
