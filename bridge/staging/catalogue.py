"""All topics of a stager, with their journals when it is durable."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from bridge.errors import CorruptSegment, UnknownTopic
from bridge.schema import check_name
from bridge.staging.facts import Created, Fact, decode_facts, encode_facts
from bridge.staging.frame_log import FrameLog
from bridge.staging.journal import Journal
from bridge.staging.messages import StreamOptions
from bridge.staging.record_log import RecordLog
from bridge.staging.segments import SegmentStore

__all__ = ["Catalogue", "topic_name"]

log = logging.getLogger(__name__)

RECORDS = StreamOptions(when_full="drop_oldest", capacity=64 << 20)
"""How a topic of records is kept unless its first writer says otherwise."""

COMPACT_AFTER = 4096
"""Journals are rewritten when this many, and four times as many records as are live, are in."""

_FILE = re.compile(r"(?P<name>.+)\.journal")


def topic_name(name: str) -> str:
    """Return `name` if its parts between slashes are all valid names."""
    for part in name.split("/"):
        check_name(part, f"part of the topic {name!r}")
    return name


class Catalogue:
    """Topics by name.

    Parameters
    ----------
    store
        Where segments come from.
    journals
        Folder of the topics' journals; None if nothing is to outlive the process.
    options
        How streams are kept whose producer does not say.
    """

    def __init__(
        self,
        store: SegmentStore,
        *,
        journals: Path | None = None,
        options: StreamOptions | None = None,
    ) -> None:
        self.store = store
        self.options = options or StreamOptions()
        self._topics: dict[str, FrameLog | RecordLog] = {}
        self._folder = journals
        self._journals: dict[str, Journal] = {}
        self._lengths: dict[str, int] = {}
        self._facts: dict[str, list[Fact]] = {}
        if journals is not None:
            journals.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._recover(journals)

    # ------------------------------------------------------------------ topics

    def get(self, name: str) -> FrameLog | RecordLog | None:
        """Return a topic, or None."""
        return self._topics.get(name)

    def under(self, prefix: str) -> Iterator[FrameLog | RecordLog]:
        """Return the topics whose names begin with `prefix`, oldest first."""
        return iter([t for n, t in self._topics.items() if n.startswith(prefix)])

    def frame_logs(self) -> list[FrameLog]:
        """Return the topics of frames."""
        return [t for t in self._topics.values() if isinstance(t, FrameLog)]

    def frames(self, simulation: str, options: StreamOptions) -> FrameLog:
        """Return the log of a simulation's frames, begun with these options if need be."""
        name = f"frames/{simulation}"
        found = self._topics.get(name)
        if found is None:
            found = FrameLog(name, options, self.store, self._recorder(name), self.flush)
            self._topics[name] = found
        assert isinstance(found, FrameLog)
        return found

    def existing_frames(self, simulation: str) -> FrameLog:
        """Return the log of a simulation's frames.

        Raises
        ------
        UnknownTopic
            If there is none.
        """
        found = self._topics.get(f"frames/{simulation}")
        if not isinstance(found, FrameLog):
            raise UnknownTopic(f"There is no stream of {simulation!r}; open it first.")
        return found

    def records(self, name: str, options: StreamOptions | None) -> RecordLog:
        """Return a topic of records, begun if need be."""
        found = self._topics.get(name)
        if found is None:
            if name.startswith("frames/"):
                raise UnknownTopic(f"Frames are put by a producer, not appended to {name!r}.")
            found = RecordLog(
                topic_name(name), options or RECORDS, self.store, self._recorder(name), self.flush
            )
            found.begin()
            self._topics[name] = found
        if not isinstance(found, RecordLog):
            raise UnknownTopic(f"{name!r} holds frames; records cannot be appended to it.")
        return found

    # ---------------------------------------------------------------- journals

    def _recorder(self, name: str) -> Callable[[Fact], None] | None:
        if self._folder is None:
            return None
        facts = self._facts.setdefault(name, [])
        return facts.append

    def flush(self) -> None:
        """Write what one request brought about to the journals."""
        if self._folder is None:
            return
        for name, facts in self._facts.items():
            if not facts:
                continue
            journal = self._journals.get(name)
            if journal is None:
                path = self._folder / f"{name.replace('/', '+')}.journal"
                journal = self._journals[name] = Journal(path)
                self._lengths[name] = 0
            journal.append(encode_facts(facts))
            facts.clear()
            self._topics[name].let_leave()
            self._lengths[name] += 1
            self._compact(name, journal)

    def _compact(self, name: str, journal: Journal) -> None:
        topic = self._topics.get(name)
        length = self._lengths[name]
        if topic is None or length < COMPACT_AFTER or length < 4 * topic.n_live:
            return
        journal.rewrite([encode_facts(topic.snapshot())])
        self._lengths[name] = 1

    def _recover(self, folder: Path) -> None:
        keep: set[int] = set()
        for path in sorted(folder.iterdir()):
            match = _FILE.fullmatch(path.name)
            if match:
                topic = self._recover_topic(match["name"].replace("+", "/"), path)
                if topic is not None:
                    keep.update(topic.held)
        self.store.sweep(keep)

    def _recover_topic(self, name: str, path: Path) -> FrameLog | RecordLog | None:
        journal = Journal(path)
        self._facts.setdefault(name, [])
        lines = journal.replay()
        topic: FrameLog | RecordLog | None = None
        for number, line in enumerate(lines):
            try:
                facts = decode_facts(line)
            except msgspec.MsgspecError as error:
                raise CorruptSegment(
                    f"Record {number} of the journal {path} cannot be read: {error}. Restore the "
                    "file from a copy, or move it away to begin the topic anew."
                ) from error
            for fact in facts:
                if topic is None:
                    topic = self._made(name, fact)
                if topic is not None:
                    topic.restore(fact)
            self._facts[name].clear()
        if topic is None:
            return None
        self._facts[name].clear()
        topic.after_restore()
        self._topics[name] = topic
        self._journals[name] = journal
        self._lengths[name] = len(lines)
        log.info("Recovered %s: offsets %d to %d.", name, topic.low, topic.end)
        return topic

    def _made(self, name: str, fact: Fact) -> FrameLog | RecordLog | None:
        if not isinstance(fact, Created):
            return None
        kind = FrameLog if fact.kind == "frames" else RecordLog
        return kind(name, fact.options, self.store, self._recorder(name), self.flush)

    def close(self) -> None:
        """Write everything out and close the journals."""
        self.flush()
        for journal in self._journals.values():
            journal.close()
