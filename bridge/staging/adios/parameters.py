"""A stream's policy, as the parameters of ADIOS2's SST."""

from __future__ import annotations

from bridge.staging.messages import FullPolicy

__all__ = ["MAX_QUEUE", "sst_parameters"]

MAX_QUEUE = 64
"""Largest number of steps in the queue of an SST writer."""


def sst_parameters(
    when_full: FullPolicy, capacity: int, frame_bytes: int, *, readers: int = 0
) -> dict[str, str]:
    """Return SST's parameters for a stream's policy.

    ``block`` makes the writer wait for the slowest reader. SST has but one other policy, to
    discard the new step; ``latest`` has a queue of one. Without a reader steps are thrown away.

    Parameters
    ----------
    capacity
        Bytes that the stream may hold; the queue has as many steps of `frame_bytes`, 64 at most.
    readers
        How many readers the opening waits for.
    """
    limit = 1 if when_full == "latest" else max(1, min(MAX_QUEUE, capacity // max(frame_bytes, 1)))
    return {
        "QueueLimit": str(limit),
        "QueueFullPolicy": "Block" if when_full == "block" else "Discard",
        "RendezvousReaderCount": str(readers),
    }
