"""The stager's side of all commit rings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

from bridge.staging.commit_ring import RING_BYTES, CommitRing
from bridge.staging.segment_file import Segment
from bridge.staging.segments import SegmentStore

__all__ = ["Rings"]

T = TypeVar("T")


class Rings(Generic[T]):
    """Makes rings for writers, and tells them whether somebody waits."""

    def __init__(self, store: SegmentStore) -> None:
        self._store = store
        self._held: dict[T, tuple[Segment, CommitRing]] = {}
        self._wanted = False

    def __bool__(self) -> bool:
        return bool(self._held)

    def open(self, writer: T) -> Segment:
        """Return the file of a writer's ring, which is made if need be.

        Raises
        ------
        StorageFull
            If there is no room for it.
        """
        if writer not in self._held:
            segment = self._store.take(RING_BYTES)
            ring = CommitRing(segment.view, new=True)
            ring.wanted = self._wanted
            self._held[writer] = segment, ring
        return self._held[writer][0]

    def close(self, writer: T) -> None:
        """Remove the ring of a writer, if it has one."""
        found = self._held.pop(writer, None)
        if found is not None:
            # Who still writes into it is to send, and be told why he should not.
            found[1].wanted = True
            self._store.give_back(found[0], reuse=False)

    def want(self, wanted: bool) -> bool:
        """Say whether somebody waits; returns whether that is new."""
        if wanted is self._wanted:
            return False
        self._wanted = wanted
        for _, ring in self._held.values():
            ring.wanted = wanted
        return True

    def filled(self) -> Iterator[tuple[T, CommitRing]]:
        """Return the rings that have something, and whose they are."""
        return ((writer, ring) for writer, (_, ring) in list(self._held.items()) if ring)
