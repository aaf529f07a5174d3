"""Records of the log that cannot be read: passed over, counted, and told of."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator

import msgspec

from bridge.commands import Event

__all__ = ["Unreadable"]

_FAULTS = (msgspec.MsgspecError, UnicodeError, RecursionError, OverflowError)
"""What decoding raises of bytes that are something else: garbage, or of another version."""


class Unreadable:
    """Lets readers pass over records that cannot be decoded, and keeps count of them.

    One bad record must not hide those behind it: whoever reads goes on, and people are told.

    Attributes
    ----------
    counts
        Topic to records that could not be read.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._untold: dict[str, Event] = {}

    @contextlib.contextmanager
    def passed_over(self, topic: str, offset: int) -> Iterator[None]:
        """Decode a record in the body; where that fails the body ends, and it is noted."""
        try:
            yield
        except _FAULTS as error:
            self._note(topic, offset, error)

    def take_untold(self) -> dict[str, Event]:
        """Return events that were not told yet, by a name that is the same for whoever reads.

        Of many records of a topic the first is told of, the tenth, the hundredth, and so on.
        """
        untold, self._untold = self._untold, {}
        return untold

    def _note(self, topic: str, offset: int, error: Exception) -> None:
        self.counts[topic] += 1
        count = self.counts[topic]
        if str(count).strip("0") != "1":
            return
        so_far = "" if count == 1 else f" There are {count} of them so far."
        self._untold[f"{topic}@{offset}"] = Event(
            "unreadable_record",
            f"Record {offset} of the topic {topic!r} cannot be read and is passed over: "
            f"{str(error).rstrip('.')}. Something else writes there, or another version of "
            f"Headrace.{so_far}",
            source="desk",
            level="warning",
            data={"topic": topic, "offset": offset, "count": count},
        )
