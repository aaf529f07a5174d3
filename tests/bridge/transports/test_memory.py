"""What only the in-memory transport promises."""

from __future__ import annotations

from contextlib import closing

import pytest

from bridge.errors import AddressInUse
from bridge.transports import open_channel, open_listener
from bridge.transports.memory import MemoryListener
from bridge.transports.protocol import MAX_QUEUED


def test_nothing_is_copied() -> None:
    data = bytearray(b"small")
    with (
        closing(open_listener("memory://")) as listener,
        closing(open_channel(listener.address)) as channel,
    ):
        channel.send([data])
        message = listener.receive(0)
        assert message is not None
        data[0] = ord("S")
        assert message[1][0] == b"Small"


def test_a_name_is_taken_once() -> None:
    with (
        closing(MemoryListener("taken")),
        pytest.raises(AddressInUse, match="memory://taken has a listener in this process already"),
    ):
        MemoryListener("taken")


def test_without_a_name_each_listener_gets_its_own() -> None:
    with closing(open_listener("memory://")) as one, closing(open_listener("memory://")) as other:
        assert one.address != other.address


def test_a_peer_that_takes_nothing_is_refused_more() -> None:
    with (
        closing(open_listener("memory://")) as listener,
        closing(open_channel(listener.address)) as channel,
    ):
        channel.send([b"hello"])
        message = listener.receive(0)
        assert message is not None
        sent = sum(listener.send(message[0], [b"x"]) for _ in range(MAX_QUEUED + 5))
        assert sent == MAX_QUEUED
        assert listener.statistics().refused == 5
