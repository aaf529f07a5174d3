"""What the tests of staging share: a schema, its frames, and a reader that checks them."""

from __future__ import annotations

import numpy as np

from bridge import StreamSchema
from bridge.staging import Producer, Stager, StagerClient

SCHEMA = StreamSchema.from_arrays(
    {"x": np.zeros((5, 3), np.float32), "energy": np.zeros((), np.float64)},
    units={"x": "nm", "energy": "kJ/mol"},
    time_unit="ps",
)


def frame(i: int) -> dict[str, np.ndarray]:
    """A frame whose every number tells which one it is."""
    return {"x": np.full((5, 3), i, np.float32), "energy": np.float64(-i)}


def read_all(
    client: StagerClient, simulation: str, *, start: int = 0, group: str = "", limit: int = 10**9
) -> list[int]:
    """Read a stream until it is finished, checking every frame; return the offsets."""
    topic = f"frames/{simulation}"
    position, offsets, empty = start, [], 0
    while len(offsets) < limit and empty < 20:
        with client.fetch(
            {topic: position}, group=group, commit={topic: position}, wait=0.5
        ) as got:
            for batch in got.batches:
                assert np.array_equal(batch["x"][:, 0, 0], -batch["energy"])
                offsets += batch.offsets.tolist()
            position = got.positions.get(topic, position)
            empty = 0 if got else empty + 1
            if topic in got.finished:
                break
    if group:
        client.commit(group, {topic: position})
    return offsets


def producer(stager: Stager, simulation: str = "w0", **more: object) -> Producer:
    """A producer of the schema above."""
    return Producer(simulation, SCHEMA, address=stager.address, **more)  # type: ignore[arg-type]
