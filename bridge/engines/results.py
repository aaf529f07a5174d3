"""Reading what a pipeline published."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bridge.codec import decode_batch
from bridge.errors import UnknownTopic
from bridge.frames import FrameBatch
from bridge.staging.client_like import ClientLike

__all__ = ["iterate_results", "read_results", "results_topic"]


def results_topic(pipeline: str, simulation: str) -> str:
    """Return the topic of a pipeline's results for one simulation."""
    return f"results/{pipeline}/{simulation}"


def iterate_results(
    client: ClientLike, pipeline: str, simulation: str, *, start: int = 0
) -> Iterator[tuple[FrameBatch, dict[str, Any]]]:
    """Yield the records of results that staging holds, oldest first, without waiting for more.

    Parameters
    ----------
    client
        To the stager.
    pipeline, simulation
        Whose results.
    start
        Offset in the topic of results to begin at.

    Yields
    ------
    batch, meta
        Rows, whose offsets are those of the frames they were computed from; and the meta data
        ``pipeline``, ``first`` and ``stop`` (the range of source offsets).
    """
    topic = results_topic(pipeline, simulation)
    position = start
    while True:
        try:
            fetched = client.fetch({topic: position}, wait=0.0)
        except UnknownTopic:
            return
        for record in fetched.records:
            yield decode_batch(bytes(record.data))
        if not fetched.records:
            return
        position = fetched.positions[topic]


def read_results(client: ClientLike, pipeline: str, simulation: str) -> FrameBatch | None:
    """Return all results that staging holds as one batch; None if there are none."""
    batches = [batch for batch, _ in iterate_results(client, pipeline, simulation)]
    return FrameBatch.concatenate(batches) if batches else None
