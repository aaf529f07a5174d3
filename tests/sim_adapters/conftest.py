"""A stager, its reader, and a hand that sends commands."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec
import pytest

from bridge import Acknowledgement, Command
from bridge.staging import Stager, StagerClient

Send = Callable[[Command], None]


@pytest.fixture
def stager() -> Iterator[Stager]:
    with Stager() as service:
        yield service.start()


@pytest.fixture
def client(stager: Stager) -> Iterator[StagerClient]:
    with StagerClient(stager.address) as reader:
        yield reader


@pytest.fixture
def send(client: StagerClient) -> Send:
    def give(command: Command) -> None:
        client.append(f"commands/{command.simulation}", [msgspec.msgpack.encode(command)])

    return give


@pytest.fixture
def answers(client: StagerClient) -> Callable[[str], dict[str, Acknowledgement]]:
    def read(simulation: str) -> dict[str, Acknowledgement]:
        topic = f"acks/{simulation}"
        found = client.fetch({topic: 0}, wait=5.0).records
        read = [msgspec.msgpack.decode(r.data, type=Acknowledgement) for r in found]
        assert len({a.command for a in read}) == len(read)
        return {a.command: a for a in read}

    return read
