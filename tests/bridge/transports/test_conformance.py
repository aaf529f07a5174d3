"""Every transport of ours, through the public suite."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bridge.testing.transports import CHECKS, Transport
from bridge.transports import Channel, Listener, open_channel, open_listener
from bridge.transports.curve import ClientKeys, KeyPair


class Memory:
    def listen(self, address: str = "") -> Listener:
        return open_listener(address or "memory://")

    def connect(self, address: str) -> Channel:
        return open_channel(address)


class Tcp(Memory):
    def listen(self, address: str = "") -> Listener:
        return open_listener(address or "tcp://127.0.0.1:0")


class Ipc(Memory):
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.numbers = itertools.count()

    def listen(self, address: str = "") -> Listener:
        return open_listener(address or f"ipc://{self.directory / str(next(self.numbers))}")


class Curve:
    def __init__(self) -> None:
        self.keys = KeyPair.generate()
        self.client = ClientKeys(KeyPair.generate(), self.keys.public)

    def listen(self, address: str = "") -> Listener:
        allowed = [self.client.own.public]
        return open_listener(address or "tcp://127.0.0.1:0", keys=self.keys, allowed=allowed)

    def connect(self, address: str) -> Channel:
        return open_channel(address, keys=self.client)


@pytest.fixture(params=["memory", "tcp", "ipc", "curve"])
def transport(request: pytest.FixtureRequest) -> Iterator[Transport]:
    # A socket's path must be short, and pytest's are long.
    with tempfile.TemporaryDirectory(prefix="headrace-") as directory:
        yield {"memory": Memory, "tcp": Tcp, "ipc": lambda: Ipc(Path(directory)), "curve": Curve}[
            request.param
        ]()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_transport(transport: Transport, check: Callable[[Transport], None]) -> None:
    check(transport)
