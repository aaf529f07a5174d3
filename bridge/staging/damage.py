"""Damaged records that readers passed over: each is told of once."""

from __future__ import annotations

from bridge.commands import Event
from bridge.staging.index import StoredRecord
from bridge.staging.record_log import RecordLog

__all__ = ["Damage"]

_LOOK_EACH = 1024
"""Records of a topic after which those that were released are forgotten."""


class Damage:
    """Remembers which records are known to be damaged, and makes events of those that are new."""

    def __init__(self) -> None:
        self._known: dict[str, set[int]] = {}
        self._untold: dict[str, tuple[list[int], str]] = {}

    def note(self, topic: RecordLog, record: StoredRecord, sentence: str) -> None:
        """Note that a reader passed over a record, and why."""
        known = self._known.setdefault(topic.name, set())
        if record.offset not in known:
            if not len(known) % _LOOK_EACH:
                # What was released since cannot be found again.
                known.difference_update([offset for offset in known if offset < topic.low])
            known.add(record.offset)
            self._untold.setdefault(topic.name, ([], sentence))[0].append(record.offset)

    def take(self) -> list[Event]:
        """Return an event for each topic in which more damage was found since the last call."""
        untold, self._untold = self._untold, {}
        return [_tell(name, offsets, sentence) for name, (offsets, sentence) in untold.items()]


def _tell(name: str, offsets: list[int], sentence: str) -> Event:
    count = len(offsets)
    others = f" So are {count - 1} of the records behind it." if count > 1 else ""
    return Event(
        "damaged_record",
        f"{sentence}{others} Readers pass over what is damaged.",
        level="error",
        data={"topic": name, "first": offsets[0], "last": offsets[-1], "count": count},
    )
