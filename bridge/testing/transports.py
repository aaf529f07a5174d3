"""What every transport must do, as checks that need no test framework.

`check_transport` runs all of them; a failed one raises `AssertionError`. With pytest::

    from bridge.testing.transports import CHECKS

    @pytest.mark.parametrize("check", CHECKS)
    def test_my_transport(check):
        check(MyTransport())

where ``MyTransport`` is a `Transport`: it opens both ends. `bridge.transports.protocol` says what
is promised. No check depends on speed; all give up after `PATIENCE` seconds.
"""

from __future__ import annotations

import array
import gc
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, Protocol

from bridge.errors import AddressInUse, ConnectionLost, HeadraceError
from bridge.transports.protocol import COPY_BELOW, MAX_QUEUED, Buffer, Channel, Listener

__all__ = [
    "CHECKS",
    "PATIENCE",
    "Transport",
    "check_address_in_use",
    "check_answers_find_their_peer",
    "check_buffers_are_let_go",
    "check_close",
    "check_close_ends_receive",
    "check_close_sends_what_is_queued",
    "check_late_listener",
    "check_nothing_leaks",
    "check_order",
    "check_peer_left",
    "check_restarted_listener",
    "check_round_trip",
    "check_send_never_blocks",
    "check_shapes",
    "check_sizes",
    "check_statistics",
    "check_time_limit",
    "check_transport",
    "check_wake",
]

PATIENCE = 30.0
_SHORT = 0.02
_LARGE = 64 << 20


class Transport(Protocol):
    """Opens the two ends of the transport to be checked."""

    def listen(self, address: str = "") -> Listener:
        """Open a listener at `address`; an empty one stands for an address not used before."""
        ...

    def connect(self, address: str) -> Channel:
        """Open a channel to a listener's address."""
        ...


@contextmanager
def _pair(transport: Transport) -> Iterator[tuple[Listener, Channel]]:
    with (
        closing(transport.listen()) as listener,
        closing(transport.connect(listener.address)) as channel,
    ):
        yield listener, channel


def _take(listener: Listener) -> tuple[bytes, list[memoryview]]:
    message = listener.receive(PATIENCE)
    assert message is not None, f"No message reached {listener.address} in {PATIENCE} s."
    return message


def _answer(channel: Channel) -> list[memoryview]:
    parts = channel.receive(PATIENCE)
    assert parts is not None, f"No answer reached the channel to {channel.address}."
    return parts


def _meet(listener: Listener, channel: Channel) -> bytes:
    """Return the channel's name at the listener."""
    channel.send([b"hello"])
    return _take(listener)[0]


def _until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"{what} within {PATIENCE} s."
        pause.wait(_SHORT)


def _refusal(
    call: Callable[[], object], kind: type[HeadraceError], otherwise: str
) -> HeadraceError:
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"{otherwise}: there was no {kind.__name__}.")


def check_round_trip(transport: Transport) -> None:
    """A message arrives whole, read-only, with its sender's name; the answer finds its way."""
    with _pair(transport) as (listener, channel):
        channel.send([b"header", bytearray(b"payload"), memoryview(b"more")])
        peer, parts = _take(listener)
        assert [bytes(part) for part in parts] == [b"header", b"payload", b"more"]
        assert all(isinstance(part, memoryview) and part.readonly for part in parts)
        assert listener.send(peer, [b"answer"])
        assert [bytes(part) for part in _answer(channel)] == [b"answer"]
        assert channel.problem() is None


def check_order(transport: Transport) -> None:
    """Small and large messages stay in order, in both directions."""
    sizes = [0, 10, 2 * COPY_BELOW, 1000]
    with _pair(transport) as (listener, channel):
        for number in range(400):
            channel.send([b"%d" % number, bytes(sizes[number % 4])])
        for number in range(400):
            peer, parts = _take(listener)
            assert bytes(parts[0]) == b"%d" % number, "The listener received out of order."
            assert listener.send(peer, [parts[0], parts[1]])
        for number in range(400):
            assert bytes(_answer(channel)[0]) == b"%d" % number, (
                "The channel received out of order."
            )


def check_sizes(transport: Transport) -> None:
    """Parts of any size, empty and 64 MB among them, and a thousand parts in one message."""
    sizes = [0, 1, COPY_BELOW - 1, COPY_BELOW, COPY_BELOW + 1, 0, _LARGE, 0]
    messages: list[Sequence[Buffer]] = [
        [bytes([number + 1]) * size for number, size in enumerate(sizes)],
        [b""],
        [b"%d" % number for number in range(1000)],
    ]
    with _pair(transport) as (listener, channel):
        for message in messages:
            channel.send(message)
            peer, parts = _take(listener)
            assert parts == list(message), "The listener received other bytes than were sent."
            assert listener.send(peer, parts)
            assert _answer(channel) == list(message), "The channel received other bytes."


def check_shapes(transport: Transport) -> None:
    """Buffers of any type and shape arrive as plain bytes."""
    numbers = array.array("d", range(COPY_BELOW))
    grid: memoryview[Any] = memoryview(numbers).cast("B").cast("d", [256, COPY_BELOW // 256])
    few: memoryview[Any] = memoryview(numbers)[:3]
    empty: memoryview[Any] = memoryview(array.array("d"))
    with _pair(transport) as (listener, channel):
        channel.send([grid, few, empty])
        parts = _take(listener)[1]
        assert [len(part) for part in parts] == [8 * COPY_BELOW, 24, 0]
        assert parts[0] == numbers.tobytes()
        assert parts[1] == numbers[:3].tobytes()


def check_answers_find_their_peer(transport: Transport) -> None:
    """Many channels reach one listener, each under a name of its own, and get their own answers."""
    with ExitStack() as stack:
        listener = stack.enter_context(closing(transport.listen()))
        channels = [
            stack.enter_context(closing(transport.connect(listener.address))) for _ in range(20)
        ]
        for number, channel in enumerate(channels):
            for _ in range(5):
                channel.send([b"%d" % number])
        names: dict[bytes, set[bytes]] = {}
        for _ in range(5 * len(channels)):
            peer, parts = _take(listener)
            names.setdefault(peer, set()).add(bytes(parts[0]))
            assert listener.send(peer, parts)
        assert len(names) == len(channels), "Two channels have one name."
        assert all(len(said) == 1 for said in names.values()), "A name stands for two channels."
        for number, channel in enumerate(channels):
            for _ in range(5):
                assert bytes(_answer(channel)[0]) == b"%d" % number


def check_time_limit(transport: Transport) -> None:
    """Receiving ends with None, at once where the limit is 0 or less."""
    with _pair(transport) as (listener, channel):
        for limit in (_SHORT, 0.0, -1.0):
            assert listener.receive(limit) is None
            assert channel.receive(limit) is None


def check_wake(transport: Transport) -> None:
    """A wake ends one receive, present or next, and loses no message."""
    with _pair(transport) as (listener, channel):
        peer = _meet(listener, channel)
        assert listener.send(peer, [b"kept"])
        for end in (listener, channel):
            end.wake()
            end.wake()
            assert end.receive(PATIENCE) is None, "A wake did not end the next receive."
        assert bytes(_answer(channel)[0]) == b"kept", "A wake lost a message, or came twice."
        for end in (listener, channel):
            thread = threading.Thread(target=end.wake)
            started = time.monotonic()
            thread.start()
            assert end.receive(PATIENCE) is None
            thread.join()
            assert time.monotonic() - started < PATIENCE, "A wake did not end a waiting receive."
            assert end.receive(_SHORT) is None
        channel.send([b"still"])
        assert bytes(_take(listener)[1][0]) == b"still"


def check_peer_left(transport: Transport) -> None:
    """Sending to a channel that was closed, or never existed, is refused; the others live on."""
    with _pair(transport) as (listener, channel):
        with closing(transport.connect(listener.address)) as leaver:
            gone = _meet(listener, leaver)
            assert listener.send(gone, [b"still here"])
            _answer(leaver)
        _until(lambda: not listener.send(gone, [b"?"]), "The closed channel was not noticed")
        assert not listener.send(b"nobody", [b"?"])
        peer = _meet(listener, channel)
        assert listener.send(peer, [b"alive"])
        assert bytes(_answer(channel)[0]) == b"alive"


def check_late_listener(transport: Transport) -> None:
    """A channel may come first: what it sent is there when the listener comes."""
    with closing(transport.listen()) as listener:
        address = listener.address
    with closing(transport.connect(address)) as channel:
        channel.send([b"early"])
        assert channel.receive(_SHORT) is None
        with closing(transport.listen(address)) as listener:
            assert listener.address == address
            assert bytes(_take(listener)[1][0]) == b"early"


def check_restarted_listener(transport: Transport) -> None:
    """A channel finds the listener that takes the place of the one that ended."""
    with closing(transport.listen()) as listener:
        address = listener.address
        channel = transport.connect(address)
        _meet(listener, channel)
    with closing(channel), closing(transport.listen(address)) as listener:
        deadline = time.monotonic() + PATIENCE
        message = None
        while message is None:
            assert time.monotonic() < deadline, "The channel did not find the new listener."
            # What is sent into a connection that just broke may be lost: ask again.
            channel.send([b"again"])
            message = listener.receive(10 * _SHORT)
        assert listener.send(message[0], [b"welcome back"])
        assert bytes(_answer(channel)[0]) == b"welcome back"
        assert channel.problem() is None


def check_send_never_blocks(transport: Transport) -> None:
    """Without a listener messages queue up, then sending is refused instead of waiting."""
    with closing(transport.listen()) as listener:
        address = listener.address
    with closing(transport.connect(address)) as channel:

        def send_much() -> None:
            for _ in range(3 * MAX_QUEUED):
                channel.send([b"x"])

        error = _refusal(send_much, ConnectionLost, "Messages were queued without a limit")
        assert address in str(error), "The refusal does not name the address."
        assert channel.statistics().sent >= MAX_QUEUED
        assert channel.statistics().refused == 1


def check_buffers_are_let_go(transport: Transport) -> None:
    """Received parts outlive the ends; a sent buffer is free once nobody has the message."""
    buffer = bytearray(4 * COPY_BELOW)
    buffer[:4] = b"data"
    with _pair(transport) as (listener, channel):
        channel.send([buffer, b"small"])
        parts = _take(listener)[1]
        channel.send([bytes(4 * COPY_BELOW)])
        _take(listener)
    assert bytes(parts[0][:4]) == b"data"
    assert bytes(parts[1]) == b"small"
    del parts

    def can_resize() -> bool:
        gc.collect()
        try:
            buffer.append(0)
        except BufferError:
            return False
        return True

    _until(can_resize, "The transport did not let go of a buffer that it had sent")


def check_address_in_use(transport: Transport) -> None:
    """A second listener at the same address is refused, and does not disturb the first."""
    with _pair(transport) as (listener, channel):
        error = _refusal(
            lambda: transport.listen(listener.address).close(),
            AddressInUse,
            "Two listeners were opened at one address",
        )
        assert listener.address in str(error), "The refusal does not name the address."
        _meet(listener, channel)
    with closing(transport.listen(listener.address)) as again:
        assert again.address == listener.address


def check_close(transport: Transport) -> None:
    """Closing twice is the same as once; a closed end refuses to be used."""
    with _pair(transport) as (listener, channel):
        peer = _meet(listener, channel)
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
            _refusal(attempt, ConnectionLost, "A closed end could be used")


def check_close_ends_receive(transport: Transport) -> None:
    """A thread that waits in receive returns when another one closes the end."""

    def wait(end: Channel | Listener) -> None:
        try:
            got.append(end.receive(2 * PATIENCE))
        except ConnectionLost:
            got.append(None)

    with _pair(transport) as (listener, channel):
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
            _meet(listener, channel)
            for number in range(50):
                channel.send([b"%d" % number, bytes(COPY_BELOW)])
        for number in range(50):
            assert bytes(_take(listener)[1][0]) == b"%d" % number


def check_statistics(transport: Transport) -> None:
    """Both ends count what went through them."""
    with _pair(transport) as (listener, channel):
        peer = _meet(listener, channel)
        channel.send([b"123", b"4567"])
        _take(listener)
        assert listener.send(peer, [b"", b"89"])
        assert not listener.send(b"nobody", [b"lost"])
        _answer(channel)
        channel.problem()
        here, there = channel.statistics(), listener.statistics()
        assert (here.sent, here.sent_bytes) == (there.received, there.received_bytes) == (2, 12)
        assert (here.received, here.received_bytes) == (there.sent, there.sent_bytes) == (1, 2)
        assert (here.refused, there.refused) == (0, 1)
        assert (here.connections, there.connections) == (1, 0)


def check_nothing_leaks(transport: Transport) -> None:
    """Opening and closing leaves no open files and no threads."""
    files = Path("/proc/self/fd")

    def use() -> None:
        with _pair(transport) as (listener, channel):
            assert listener.send(_meet(listener, channel), [bytes(2 * COPY_BELOW)])
            _answer(channel)

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

    _until(is_as_before, "Open files or threads stayed behind")


CHECKS: tuple[Callable[[Transport], None], ...] = (
    check_round_trip,
    check_order,
    check_sizes,
    check_shapes,
    check_answers_find_their_peer,
    check_time_limit,
    check_wake,
    check_peer_left,
    check_late_listener,
    check_restarted_listener,
    check_send_never_blocks,
    check_buffers_are_let_go,
    check_address_in_use,
    check_close,
    check_close_ends_receive,
    check_close_sends_what_is_queued,
    check_statistics,
    check_nothing_leaks,
)


def check_transport(transport: Transport) -> None:
    """Run all checks, in order."""
    for check in CHECKS:
        check(transport)
