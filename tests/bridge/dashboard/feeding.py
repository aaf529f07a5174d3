"""What the tests of the feed share: simulations and an engine that say what they are told to."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import numpy as np

from bridge import StreamSchema
from bridge.codec import encode_batch
from bridge.commands import Acknowledgement, Capability, Command, Decision, Event
from bridge.engines.protocol import EngineStatistics, SimulationProgress
from bridge.frames import FrameBatch
from bridge.schema import Topology
from bridge.staging import Producer, StagerClient

PIPELINE = "test"
ATOMS = 12
TOPOLOGY = Topology(
    names=("N", "CA", "C", "O", "N", "CA", "C", "O", "OW", "HW1", "HW2", "NA"),
    elements=("N", "C", "C", "O", "N", "C", "C", "O", "O", "H", "H", "NA"),
    residues=("ALA",) * 4 + ("GLY",) * 4 + ("HOH",) * 3 + ("NA",),
    residue_ids=(1,) * 4 + (2,) * 4 + (3,) * 3 + (4,),
    bonds=((0, 1), (1, 2), (2, 3), (2, 4), (4, 5), (8, 9), (8, 10)),
)
SCHEMA = StreamSchema.from_arrays(
    {
        "positions": np.zeros((ATOMS, 3), np.float32),
        "box": np.zeros((3, 3)),
        "energy": np.zeros(()),
    },
    units={"positions": "angstrom", "box": "angstrom", "energy": "kJ/mol"},
    time_unit="ps",
    topology=TOPOLOGY,
)
CAPABILITIES = [Capability("pause"), Capability("set", "temperature", 1.0, 500.0, "K")]


def wait_for(ready: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Return what `ready` returns, once that is true."""
    deadline = time.monotonic() + seconds
    while True:
        value = ready()
        if value:
            return value
        assert time.monotonic() < deadline, "It did not come in time."
        time.sleep(0.02)


def place(offset: int) -> np.ndarray:
    """Where the atoms are in a frame, in angstrom."""
    return np.arange(ATOMS * 3, dtype=np.float32).reshape(ATOMS, 3) + np.float32(offset) / 8


class Script:
    """A simulation that puts frames, and an engine that publishes their results."""

    def __init__(self, address: str, name: str, schema: StreamSchema = SCHEMA) -> None:
        self.name = name
        self.frames = 0
        self.client = StagerClient(address)
        self.producer = Producer(name, schema, address=address, capabilities=CAPABILITIES)

    def put(self, count: int, values: Callable[[int], Mapping[str, Any]] | None = None) -> None:
        """Put frames."""
        for i in range(self.frames, self.frames + count):
            self.producer.put(
                i * 10,
                i * 0.5,
                values(i)
                if values
                else {"positions": place(i), "box": np.eye(3) * 30.0, "energy": np.float64(-i)},
            )
        self.producer.flush()
        self.frames += count

    def publish(self, columns: Mapping[str, np.ndarray], first: int = 0) -> None:
        """Publish results of frames from an offset on."""
        n = len(next(iter(columns.values())))
        offsets = np.arange(first, first + n)
        batch = FrameBatch.from_arrays(
            self.name, columns, first_offset=first, steps=offsets * 10, times=offsets * 0.5
        )
        self.client.append(f"results/{PIPELINE}/{self.name}", [encode_batch(batch)])

    def close(self, *, finished: bool = True) -> None:
        """End."""
        self.producer.close(finished=finished)
        self.client.close()


def tell(client: StagerClient, kind: str, message: str, **more: Any) -> None:
    """Append an event."""
    event = Event(kind, message, stamp=more.pop("stamp", time.time()), **more)
    client.append("events", [msgspec.msgpack.encode(event)])


def decide(client: StagerClient, command: Command, verdict: Any, stamp: float, **more: Any) -> None:
    """Append a decision."""
    decision = Decision(command, verdict, stamp=stamp, **more)
    client.append("decisions", [msgspec.msgpack.encode(decision)])


def answer(client: StagerClient, command: Command, outcome: Any, stamp: float) -> None:
    """Append an acknowledgement."""
    said = Acknowledgement(command.id, command.simulation, outcome, step=7, time=3.5, stamp=stamp)
    client.append(f"acks/{command.simulation}", [msgspec.msgpack.encode(said)])


def report(client: StagerClient, positions: Mapping[str, int], **more: Any) -> EngineStatistics:
    """Append what an engine says of itself."""
    progress = {
        n: SimulationProgress(position=p, lag=more.get("lag", 0), missed=more.get("missed", 0))
        for n, p in positions.items()
    }
    status = EngineStatistics(
        PIPELINE,
        state=more.get("state", "running"),
        frames=sum(positions.values()),
        rate=12.5,
        latency=0.02,
        seconds=more.get("seconds", {"dihedrals": 1.0, "tica": 2.0}),
        states=more.get("states", {"tica": 1200}),
        units={"novelty": "nm", "angles": "rad"},
        page=more.get("page", ""),
        simulations=progress,
        uptime=more.get("uptime", 10.0),
        stamp=more.get("stamp", time.time()),
    )
    client.append(f"status/{PIPELINE}", [msgspec.msgpack.encode(status)])
    return status
