"""Checks of what goes through a transport: whole, in order, to the right peer, in time."""

from __future__ import annotations

import array
import gc
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from typing import Any

from bridge.errors import ConnectionLost
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
from bridge.transports.protocol import COPY_BELOW, MAX_QUEUED, Buffer

__all__ = [
    "check_answers_find_their_peer",
    "check_buffers_are_let_go",
    "check_order",
    "check_round_trip",
    "check_send_beside_receive",
    "check_send_never_blocks",
    "check_shapes",
    "check_sizes",
    "check_statistics",
    "check_time_limit",
    "check_wake",
]


_LARGE = 64 << 20


def check_round_trip(transport: Transport) -> None:
    """A message arrives whole, read-only, with its sender's name; the answer finds its way."""
    with open_pair(transport) as (listener, channel):
        channel.send([b"header", bytearray(b"payload"), memoryview(b"more")])
        peer, parts = take(listener)
        assert [bytes(part) for part in parts] == [b"header", b"payload", b"more"]
        assert all(isinstance(part, memoryview) and part.readonly for part in parts)
        assert listener.send(peer, [b"answer"])
        assert [bytes(part) for part in take_answer(channel)] == [b"answer"]
        assert channel.problem() is None


def check_order(transport: Transport) -> None:
    """Small and large messages stay in order, in both directions."""
    sizes = [0, 10, 2 * COPY_BELOW, 1000]
    with open_pair(transport) as (listener, channel):
        for number in range(400):
            channel.send([b"%d" % number, bytes(sizes[number % 4])])
        for number in range(400):
            peer, parts = take(listener)
            assert bytes(parts[0]) == b"%d" % number, "The listener received out of order."
            assert listener.send(peer, [parts[0], parts[1]])
        for number in range(400):
            assert bytes(take_answer(channel)[0]) == b"%d" % number, (
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
    with open_pair(transport) as (listener, channel):
        for message in messages:
            channel.send(message)
            peer, parts = take(listener)
            assert parts == list(message), "The listener received other bytes than were sent."
            assert listener.send(peer, parts)
            assert take_answer(channel) == list(message), "The channel received other bytes."


def check_shapes(transport: Transport) -> None:
    """Buffers of any type and shape arrive as plain bytes."""
    numbers = array.array("d", range(COPY_BELOW))
    grid: memoryview[Any] = memoryview(numbers).cast("B").cast("d", [256, COPY_BELOW // 256])
    few: memoryview[Any] = memoryview(numbers)[:3]
    empty: memoryview[Any] = memoryview(array.array("d"))
    with open_pair(transport) as (listener, channel):
        channel.send([grid, few, empty])
        parts = take(listener)[1]
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
            peer, parts = take(listener)
            names.setdefault(peer, set()).add(bytes(parts[0]))
            assert listener.send(peer, parts)
        assert len(names) == len(channels), "Two channels have one name."
        assert all(len(said) == 1 for said in names.values()), "A name stands for two channels."
        for number, channel in enumerate(channels):
            for _ in range(5):
                assert bytes(take_answer(channel)[0]) == b"%d" % number


def check_time_limit(transport: Transport) -> None:
    """Receiving ends with None, at once where the limit is 0 or less."""
    with open_pair(transport) as (listener, channel):
        for limit in (SHORT, 0.0, -1.0):
            assert listener.receive(limit) is None
            assert channel.receive(limit) is None


def check_wake(transport: Transport) -> None:
    """A wake ends one receive, present or next, and loses no message."""
    with open_pair(transport) as (listener, channel):
        peer = meet(listener, channel)
        assert listener.send(peer, [b"kept"])
        for end in (listener, channel):
            end.wake()
            end.wake()
            assert end.receive(PATIENCE) is None, "A wake did not end the next receive."
        assert bytes(take_answer(channel)[0]) == b"kept", "A wake lost a message, or came twice."
        for end in (listener, channel):
            thread = threading.Thread(target=end.wake)
            started = time.monotonic()
            thread.start()
            assert end.receive(PATIENCE) is None
            thread.join()
            assert time.monotonic() - started < PATIENCE, "A wake did not end a waiting receive."
            assert end.receive(SHORT) is None
        channel.send([b"still"])
        assert bytes(take(listener)[1][0]) == b"still"


def check_send_beside_receive(transport: Transport) -> None:
    """One thread sends while another waits to receive, and no answer is overlooked."""
    count = 500
    with open_pair(transport) as (listener, channel):
        answers: list[bytes] = []

        def receive() -> None:
            end = time.monotonic() + PATIENCE
            while len(answers) < count and time.monotonic() < end:
                parts = channel.receive(PATIENCE)
                answers.extend(bytes(part) for part in parts or ())

        thread = threading.Thread(target=receive, daemon=True)
        thread.start()
        for number in range(count):
            channel.send([b"%d" % number])
            if number % 3:
                # The answer to it may come while the next one is sent.
                peer, parts = take(listener)
                listener.send(peer, parts)
        for _ in range(len(range(0, count, 3))):
            peer, parts = take(listener)
            listener.send(peer, parts)
        thread.join(PATIENCE)
        assert answers == [b"%d" % n for n in range(count)], "Answers were lost beside sending."


def check_send_never_blocks(transport: Transport) -> None:
    """Without a listener messages queue up, then sending is refused instead of waiting."""
    with closing(transport.listen()) as listener:
        address = listener.address
    with closing(transport.connect(address)) as channel:

        def send_much() -> None:
            for _ in range(3 * MAX_QUEUED):
                channel.send([b"x"])

        error = refusal_of(send_much, ConnectionLost, "Messages were queued without a limit")
        assert address in str(error), "The refusal does not name the address."
        assert channel.statistics().sent >= MAX_QUEUED
        assert channel.statistics().refused == 1


def check_buffers_are_let_go(transport: Transport) -> None:
    """Received parts outlive the ends; a sent buffer is free once nobody has the message."""
    buffer = bytearray(4 * COPY_BELOW)
    buffer[:4] = b"data"
    with open_pair(transport) as (listener, channel):
        channel.send([buffer, b"small"])
        parts = take(listener)[1]
        channel.send([bytes(4 * COPY_BELOW)])
        take(listener)
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

    wait_until(can_resize, "The transport did not let go of a buffer that it had sent")


def check_statistics(transport: Transport) -> None:
    """Both ends count what went through them."""
    with open_pair(transport) as (listener, channel):
        peer = meet(listener, channel)
        channel.send([b"123", b"4567"])
        take(listener)
        assert listener.send(peer, [b"", b"89"])
        assert not listener.send(b"nobody", [b"lost"])
        take_answer(channel)
        channel.problem()
        here, there = channel.statistics(), listener.statistics()
        assert (here.sent, here.sent_bytes) == (there.received, there.received_bytes) == (2, 12)
        assert (here.received, here.received_bytes) == (there.sent, there.sent_bytes) == (1, 2)
        assert (here.refused, there.refused) == (0, 1)
        assert (here.connections, there.connections) == (1, 0)
