"""A stager, a walker that answers, and an engine that asks people first."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np

from bridge.commands import Capability, Command
from bridge.schema import StreamSchema
from bridge.staging import Producer, Stager, StagerClient
from bridge.steering import (
    CommandChannel,
    Desk,
    GuardMaker,
    GuardRules,
    LedgerLine,
    SimulationEnd,
    read_ledger,
)
from tests.bridge.engines.common import read

CAPABILITIES = (
    Capability("set", "temperature", minimum=250, maximum=400, unit="K"),
    Capability("pause"),
    Capability("resume"),
    Capability("stop"),
)
NOW = time.time()


class World:
    """A stager, a walker that answers, and an engine that asks people first."""

    def __init__(self, stager: Stager, client: StagerClient, producer: Producer) -> None:
        self.address = stager.address
        self.client = client
        self.producer = producer
        self.end = SimulationEnd(producer, CommandChannel("walker", CAPABILITIES))
        self.applied: list[str] = []

    def connect(self) -> StagerClient:
        return StagerClient(self.address)

    def desk(self, rules: GuardRules | None = None) -> Desk:
        return Desk(self.connect, rules)

    def ask(self, *names: str, rules: GuardRules, now: float = NOW, **more: Any) -> None:
        """Let the guard decide on commands, as an engine does."""
        guard = GuardMaker(rules)(lambda name: self.client)
        for name in names:
            fields = {"parameter": "temperature", "value": 300.0, "simulation": "walker"} | more
            decision = guard.check(Command("set", id=f"p/warm/{name}", **fields), now)
            self.client.append("decisions", [msgspec.msgpack.encode(decision)])

    def let_apply(self) -> list[str]:
        """Let the walker apply what has come; returns ids, in order, of this and earlier calls."""
        self.producer.flush()
        while self.producer.wait_for_command(0.05):
            for command in self.end.commands(10, 1.0):
                self.applied.append(command.id)
                self.end.applied(command, 10, 1.0)
        self.producer.flush()
        return self.applied

    def sent(self) -> list[str]:
        return [c.id for c in read(self.client, "commands/walker", Command)]

    def line(self, name: str) -> LedgerLine:
        return next(line for line in read_ledger(self.client) if line.id == f"p/warm/{name}")


@contextlib.contextmanager
def make_world(address: str) -> Iterator[World]:
    """Open a world whose stager listens at an address."""
    schema = StreamSchema.from_arrays({"x": np.zeros(3)})
    with contextlib.ExitStack() as stack:
        stager = stack.enter_context(Stager(address))
        stager.start()
        client = stack.enter_context(StagerClient(stager.address))
        producer = stack.enter_context(
            Producer("walker", schema, address=stager.address, capabilities=CAPABILITIES)
        )
        producer.put(0, 0.0, {"x": np.arange(3.0)})
        producer.flush()
        yield World(stager, client, producer)
