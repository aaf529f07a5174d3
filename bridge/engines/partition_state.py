"""What a worker knows of one partition, and what of it is saved."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from bridge.codec import decode_state, encode_state
from bridge.engines.job import split_partition
from bridge.engines.partials import PartitionReport
from bridge.engines.shares import Share
from bridge.errors import ProtocolError

__all__ = ["Partition"]

_VERSION = 1
_COUNTS = ("step", "time", "frames", "batches", "quarantined", "missed", "replayed", "finished")


class Partition:
    """One partition, as the worker that serves it knows it.

    Attributes
    ----------
    name, simulation, topic
        Its name, whose frames, and where they are.
    share
        The rows of the frames that are its own; None for whole frames.
    position
        Offset of the next frame to be analysed.
    dirty
        Bytes of frames since it was saved; more than 0 for any news.
    pending
        What could not be stored yet; None if everything is.
    put, stamp
        Unix times at which the newest frame was put, and at which its results were stored.
    states
        Keyed operator to bytes of its state, when it was last saved or taken up.
    """

    __slots__ = (
        "batches",
        "dirty",
        "finished",
        "frames",
        "missed",
        "name",
        "pending",
        "position",
        "put",
        "quarantined",
        "replayed",
        "share",
        "simulation",
        "stamp",
        "states",
        "step",
        "time",
        "topic",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.simulation, _ = split_partition(name)
        self.topic = f"frames/{self.simulation}"
        self.share: Share | None = None
        self.position = 0
        self.step, self.time = -1, 0.0
        self.frames = self.batches = self.quarantined = self.missed = self.replayed = 0
        self.finished = False
        self.put = self.stamp = 0.0
        self.states: Mapping[str, int] = {}
        self.dirty = 0
        self.pending: Callable[[], None] | None = None

    def report(self, seconds: Mapping[str, float], worker: str) -> PartitionReport:
        """Return how things stand."""
        return PartitionReport(
            self.name, self.position, self.step, self.time, self.frames, self.batches,
            self.quarantined, self.missed, self.replayed, self.finished and self.pending is None,
            dict(seconds), worker, self.put, self.stamp, dict(self.states),
        )  # fmt: skip

    def save(self, keyed: bytes) -> bytes:
        """Return position, counts and the states of the keyed operators as bytes."""
        self.dirty = 0
        state: dict[str, Any] = {
            "version": _VERSION,
            "position": self.position,
            **{name: getattr(self, name) for name in _COUNTS},
        }
        if keyed:
            state["keyed"] = np.frombuffer(keyed, np.uint8)
        return encode_state(state)

    def restore(self, saved: bytes) -> memoryview | None:
        """Take up what `save` returned, and return the states of the keyed operators.

        Raises
        ------
        ProtocolError
            If it is damaged, or of another version.
        """
        state = decode_state(saved)
        if state.get("version") != _VERSION:
            raise ProtocolError(
                f"The saved state of {self.name!r} is not of version {_VERSION}; it was written by "
                "another release. Use that release, or begin anew without the saved state."
            )
        try:
            self.position = int(state["position"])
            for name in _COUNTS:
                setattr(self, name, state[name])
        except KeyError as error:
            raise ProtocolError(f"The saved state of {self.name!r} lacks {error}.") from error
        keyed = state.get("keyed")
        return None if keyed is None else memoryview(keyed)
