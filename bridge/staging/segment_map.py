"""The mappings of segment files that a client keeps."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

from bridge.staging.segment_file import map_segment

__all__ = ["SegmentMap"]


class SegmentMap:
    """The mappings that a client keeps, least recently used forgotten first.

    One thread at a time may use a map. Before Python 3.13 each mapping holds a file descriptor.

    Parameters
    ----------
    count
        How many mappings are kept; those that are still in use elsewhere live on without it.
    """

    def __init__(self, *, count: int = 64) -> None:
        if count < 1:
            raise ValueError(f"A segment map keeps at least one mapping; {count} were asked for.")
        self.count = count
        self._views: OrderedDict[tuple[str, bool], memoryview] = OrderedDict()

    def get(self, path: str | Path, size: int, *, write: bool = False) -> memoryview:
        """Return the `size` bytes of a segment file, mapped now or before.

        Parameters
        ----------
        path, size
            As the stager told them.
        write
            Whether the view is writable; readers map read-only.

        Raises
        ------
        CorruptSegment
            The file is missing, too short, or not a segment.
        """
        key = (str(path), write)
        view = self._views.get(key)
        if view is not None and len(view) == size:
            self._views.move_to_end(key)
            return view
        view = map_segment(path, size, write=write)
        self._views[key] = view
        self._views.move_to_end(key)
        while len(self._views) > self.count:
            self._views.popitem(last=False)
        return view

    def forget(self, path: str | Path) -> None:
        """Forget the mappings of one file, as when the stager has released it."""
        for write in (False, True):
            self._views.pop((str(path), write), None)

    def clear(self) -> None:
        """Forget all mappings, as when another stager has taken the place of the one before."""
        self._views.clear()

    def __len__(self) -> int:
        return len(self._views)

    def __contains__(self, path: object) -> bool:
        return any((str(path), write) in self._views for write in (False, True))
