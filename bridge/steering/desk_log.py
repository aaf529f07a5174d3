"""The log as a desk sees it: what was asked and said, the rules, and the simulations."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from typing import TypeVar

import msgspec

from bridge.commands import Event
from bridge.errors import (
    CommandRefused,
    ConnectionLost,
    HeadraceError,
    NobodyListening,
    OffsetOutOfRange,
    UnknownTopic,
)
from bridge.staging.client_like import ClientLike
from bridge.staging.messages import TopicStatus
from bridge.staging.ownership import owner, split_addresses, subject
from bridge.steering.approvals import APPROVALS, DECISIONS, ApprovalBook
from bridge.steering.guard import GuardRules
from bridge.steering.rates import Rates
from bridge.steering.telling import DESK, tell_once
from bridge.steering.unreadable import Unreadable

__all__ = ["DeskLog", "StagerAway"]

log = logging.getLogger(__name__)

T = TypeVar("T")

FRAMES = "frames/"
RULES = "rules/"

_FAULTS = (UnicodeError, OverflowError, RecursionError, TypeError, ValueError)
"""What encoding raises of texts and numbers that no message can carry."""

_encode = msgspec.msgpack.Encoder().encode
_rules = msgspec.msgpack.Decoder(GuardRules)


class StagerAway(ConnectionLost):
    """One of several stagers is gone; what the others hold goes on."""


class DeskLog:
    """Reads what concerns a desk, and appends what it says, each thing once.

    One thread at a time uses it.

    Parameters
    ----------
    connect
        Makes a client to staging; called when one is needed, again whenever the way was cut.
    retry
        Seconds after which one of several stagers that was gone is asked again, or three times as
        long as it was waited for, if that is longer.

    Attributes
    ----------
    book, rates
        What was asked and said so far, and what was sent.
    rules
        Pipeline to the rules that it announced; None for rules that cannot be read.
    unreadable
        Records that were passed over.
    """

    def __init__(self, connect: Callable[[], ClientLike], retry: float) -> None:
        self._connect = connect
        self._retry = retry
        self._client: ClientLike | None = None
        self._instance = ""
        self._away: dict[str, tuple[float, str]] = {}
        self._forget()

    def close(self) -> None:
        """Close the connection; it is made anew when it is needed."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    # ------------------------------------------------------------------ reading

    def read(self) -> None:
        """Read all that was asked and said by now."""
        while True:
            more, instance = self._call(self._read_some)
            if instance != self._instance:
                # Another stager, which may hold less than the last one: begin anew with it.
                if self._instance:
                    self._forget()
                self._instance, more = instance, True
            if not more:
                break
        for name, event in self.unreadable.take_untold().items():
            self.tell(name, event)

    def read_rules(self) -> dict[str, GuardRules | None]:
        """Return the rules that pipelines announced by now."""
        while self._call(self._read_some_rules):
            continue
        return self.rules

    def look_at(self, simulation: str) -> TopicStatus | None:
        """Return how it stands with a stream, and what it lets others do; None if there is none."""
        topic = FRAMES + simulation
        try:
            return self._call(lambda client: client.status(topic), topic)
        except UnknownTopic:
            return None

    def writers(self, topic: str) -> set[str]:
        """Return the names under which `append` has stored anything in a topic."""
        try:
            found = self._call(lambda client: client.status(topic), topic).writers
        except UnknownTopic:
            return set()
        return {name.removeprefix(DESK) for name in found if name.startswith(DESK)}

    def simulations(self) -> list[str]:
        """Return those that have not ended, in the order of their names."""
        topics = self._call(lambda client: client.topics(FRAMES, schemas=False))
        return sorted(t.name.removeprefix(FRAMES) for t in topics if not t.finished)

    # ---------------------------------------------------------------- appending

    def append(self, topic: str, writer: str, value: msgspec.Struct) -> None:
        """Store what nobody has stored yet under this writer's name.

        Raises
        ------
        CommandRefused
            If it holds something that no message can carry.
        """
        try:
            data = _encode(value)
        except _FAULTS as error:
            raise CommandRefused(
                f"This cannot be written into the log: {str(error).rstrip('.')}. Look at the "
                "texts, which must be Unicode, and the numbers."
            ) from error
        if topic != APPROVALS:
            # No pipeline's writer is called so: pipelines write there, too.
            writer = DESK + writer
        self._call(
            lambda client: client.append(topic, [data], writer=writer, first=0, stop=1), topic
        )

    def tell(self, name: str, event: Event) -> None:
        """Tell people something, once, whoever else tells it under the same name."""
        log.warning("%s", event.message)
        with contextlib.suppress(HeadraceError):
            self._call(lambda client: tell_once(client, name, event), "events")

    # -------------------------------------------------------------------- parts

    def _forget(self) -> None:
        self._positions: dict[str, int] = {DECISIONS: 0, APPROVALS: 0}
        self._rules_positions: dict[str, int] = {}
        self.book = ApprovalBook()
        self.rates = Rates()
        self.rules: dict[str, GuardRules | None] = {}
        self.unreadable = Unreadable()

    def _read_some(self, client: ClientLike) -> tuple[bool, str]:
        try:
            fetched = client.fetch(self._positions, wait=0.001)
        except OffsetOutOfRange:
            self._forget()
            return True, client.instance
        with fetched as got:
            for record in got.records:
                with self.unreadable.passed_over(record.topic, record.offset):
                    decision = self.book.add_record(record.topic, record.data)
                    if decision is not None and decision.verdict in ("sent", "dry_run"):
                        self.rates.note(decision.command.simulation, decision.stamp)
            self._positions.update(got.positions)
            return bool(got.records), client.instance

    def _read_some_rules(self, client: ClientLike) -> bool:
        try:
            fetched = client.fetch(self._rules_positions, follow=RULES, wait=0.001)
        except OffsetOutOfRange:
            self._rules_positions.clear()
            return True
        with fetched as got:
            for record in got.records:
                # Without those that a pipeline announced, nothing of it can be judged.
                name = record.topic.removeprefix(RULES)
                self.rules[name] = None
                with self.unreadable.passed_over(record.topic, record.offset):
                    self.rules[name] = _rules.decode(record.data)
            self._rules_positions.update(got.positions)
            return bool(got.records)

    def _call(self, act: Callable[[ClientLike], T], topic: str = "") -> T:
        """Ask the stagers something; or that of a topic alone, if it is not known to be away."""
        if self._client is None:
            self._client = self._connect()
        stagers = split_addresses(self._client.address)
        if len(stagers) == 1:
            try:
                return act(self._client)
            except (ConnectionLost, NobodyListening):
                self.close()
                raise
        place = owner(subject(topic), stagers) if topic else ""
        began = time.monotonic()
        again, sentence = self._away.get(place, (0.0, ""))
        if began < again:
            raise StagerAway(sentence)
        try:
            return act(self._client)
        except (ConnectionLost, NobodyListening) as error:
            # The connection is kept: another one could not be made without that stager.
            if not place:
                raise
            now = time.monotonic()
            self._away[place] = now + max(self._retry, 3 * (now - began)), str(error)
            raise StagerAway(str(error)) from error
