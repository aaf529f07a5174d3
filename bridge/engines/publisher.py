"""What a pipeline answered, brought into staging, each thing once.

Everything is appended under the writer ``<pipeline>/<simulation>`` with the range of source offsets
that it was computed from; the stager drops what it holds already. Decisions and commands go first,
since a simulation waits for them; results last, so that a batch whose results are stored is done
with altogether.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import msgspec

from bridge.codec import encode_batch
from bridge.commands import Command, Decision, Event
from bridge.engines.outcome import Outcome
from bridge.engines.patience import PatientClient
from bridge.engines.protocol import Guard
from bridge.engines.stopping import Stops
from bridge.frames import FrameBatch
from bridge.staging.messages import StreamOptions

__all__ = ["Encode", "Publisher", "append_items", "append_new", "encode_results"]

_encode = msgspec.msgpack.Encoder().encode

Encode = Callable[[int], Sequence[bytes | bytearray]]
"""Makes records of what follows from the source offsets from one on."""


def append_new(
    client: PatientClient,
    topic: str,
    writer: str,
    span: tuple[int, int],
    encode: Encode,
    options: StreamOptions | None = None,
) -> tuple[int, int]:
    """Store what `encode` makes of the source offsets that the stager does not hold yet.

    Returns
    -------
    first
        Source offset from which on things were stored now; the end of `span` for nothing.
    end
        Offset after the last record in the topic; 0 if unknown.
    """
    first, stop = span
    while first < stop:
        records = encode(first)
        result = client.append(
            topic, records, writer=writer, first=first, stop=stop, options=options
        )
        if result.accepted:
            return first, result.offset + len(records)
        # Refused: everything below the watermark is stored, so only the rest is offered.
        first = max(first + 1, result.watermark)
    return stop, 0


def append_items(
    client: PatientClient,
    topic: str,
    writer: str,
    span: tuple[int, int],
    items: Sequence[tuple[int, bytes]],
) -> tuple[int, int]:
    """Store items, each caused by a source offset; see `append_new`."""

    def encode(first: int) -> list[bytes | bytearray]:
        return [data for offset, data in items if offset >= first]

    return append_new(client, topic, writer, span, encode)


def encode_results(pipeline: str, results: FrameBatch | None, stop: int) -> Encode:
    """Return what makes a record of results; see `append_new`."""

    def encode(first: int) -> list[bytes | bytearray]:
        if results is None:
            return []
        rows = results if first <= results.first else results.take(results.offsets >= first)
        if not len(rows):
            return []
        meta = {"pipeline": pipeline, "first": first, "stop": stop}
        return [encode_batch(rows, meta=meta)]

    return encode


class Publisher:
    """Appends outcomes to the topics of one pipeline.

    Parameters
    ----------
    client
        To the stager, patient.
    pipeline
        Name of the pipeline.
    guard
        Asked once for each command that was not decided on before, and does not come too late.
    stops
        Knows which commands do.

    Attributes
    ----------
    verdicts
        Verdict to number of decisions.
    events
        Events told.
    decisions_end
        Offset after the last record of ``decisions`` that this publisher knows of.
    """

    def __init__(
        self, client: PatientClient, pipeline: str, guard: Guard, stops: Stops | None = None
    ) -> None:
        self.verdicts: dict[str, int] = {}
        self.events = 0
        self.decisions_end = 0
        self._client = client
        self._pipeline = pipeline
        self._guard = guard
        self._stops = stops or Stops()
        self._recalled: dict[str, Decision] = {}

    def recall(self, start: int) -> None:
        """Read the decisions that this pipeline stored from offset `start` on.

        Their verdicts hold when the same commands are decided on again: the guard is not asked a
        second time, and a command whose sending was cut short is sent. What people said later is
        left alone, since whoever hears them sends the command.
        """
        position = start
        while True:
            fetched = self._client.fetch({"decisions": position}, wait=0.001)
            for record in fetched.records:
                try:
                    decision = msgspec.msgpack.decode(record.data, type=Decision)
                except (msgspec.MsgspecError, UnicodeError):
                    # Nothing that a pipeline of this version has stored; a desk tells of it.
                    continue
                if decision.command.id.startswith(f"{self._pipeline}/") and not decision.by:
                    self._recalled[decision.command.id] = decision
            position = fetched.positions.get("decisions", position)
            if not fetched.records:
                break
        self.decisions_end = max(self.decisions_end, position)

    def announce(self) -> None:
        """Store the guard's rules, where it has any, so that those who hear people know them."""
        rules = getattr(self._guard, "rules", None)
        if isinstance(rules, msgspec.Struct):
            self._client.append(f"rules/{self._pipeline}", [_encode(rules)])

    def restore(self, counts: Mapping[str, int]) -> None:
        """Go on from the totals of a checkpoint: ``events``, and ``verdict …`` for each."""
        self.events = counts.get("events", 0)
        head = "verdict "
        self.verdicts = {k.removeprefix(head): n for k, n in counts.items() if k.startswith(head)}

    def forget(self) -> None:
        """Drop what was recalled: the replay is over."""
        self._recalled.clear()

    def publish(
        self, outcome: Outcome, *, results: bool = True, target: bool = False
    ) -> list[Command]:
        """Store what one batch brought, and return the commands that were sent.

        What is stored already, because an engine that was killed came so far, is not stored twice.

        Parameters
        ----------
        outcome
            What it brought.
        results
            False if those are stored by somebody else.
        target
            An operator on a worker told of a target reached with this batch.
        """
        writer = f"{self._pipeline}/{outcome.simulation}"
        sent = self._decide(outcome, writer, target=target) if outcome.commands else []
        if outcome.events:
            self._tell(outcome, writer)
        if outcome.simulation and results:
            self._results(outcome, writer)
        return sent

    def publish_end(self, outcome: Outcome) -> list[Command]:
        """Store what operators said at the end of a stream, or of all."""
        writer = f"{self._pipeline}/{outcome.simulation}/end"
        sent = self._decide(outcome, writer) if outcome.commands else []
        if outcome.events:
            self._tell(outcome, writer)
        return sent

    def tell(self, event: Event) -> None:
        """Store an event of the engine's own."""
        stamped = msgspec.structs.replace(
            event, source=event.source or self._pipeline, stamp=time.time()
        )
        self._client.append("events", [_encode(stamped)])
        self.events += 1

    def tell_absences(self) -> None:
        """Tell of each time that a stager was started anew since the last call."""
        while self._client.absences:
            seconds = self._client.absences.popleft()
            self.tell(
                Event(
                    "stager_away",
                    f"The stager at {self._client.address} was started anew; it was away for "
                    f"{seconds:.1f} s.",
                    level="warning",
                    data={"downtime": round(seconds, 3)},
                )
            )

    # -------------------------------------------------------------- decisions

    def _decide(self, outcome: Outcome, writer: str, *, target: bool = False) -> list[Command]:
        now = time.time()
        late = self._stops.find_late(outcome, target=target)
        decided: list[tuple[int, Decision]] = []
        for numbered in outcome.commands:
            command = numbered.command
            decision = self._recalled.get(command.id)
            if decision is None and command.id in late:
                decision = Decision(command, "refused", reason=late[command.id], stamp=now)
            elif decision is None:
                decision = self._guard.check(command, now)
            # An operator may name a frame of an earlier batch; the batch is the cause all the same.
            offset = min(max(numbered.offset, outcome.first), outcome.stop - 1)
            decided.append((offset, decision))
        first, end = self._append(
            "decisions", writer, outcome, [(o, _encode(d)) for o, d in decided]
        )
        if first > outcome.first:
            # Some stand in the ledger already: their verdicts hold, not those made just now.
            self.recall(self.decisions_end)
            decided = [
                (offset, d if offset >= first else self._recalled[d.command.id])
                for offset, d in decided
                if offset >= first or d.command.id in self._recalled
            ]
        self.decisions_end = max(self.decisions_end, end)
        for _, decision in decided:
            self._recalled.pop(decision.command.id, None)
            self.verdicts[decision.verdict] = self.verdicts.get(decision.verdict, 0) + 1
        sent = [(offset, d.command) for offset, d in decided if d.verdict == "sent"]
        for simulation in dict.fromkeys(command.simulation for _, command in sent):
            theirs = [(o, _encode(c)) for o, c in sent if c.simulation == simulation]
            self._append(f"commands/{simulation}", writer, outcome, theirs)
        return [command for _, command in sent]

    # ------------------------------------------------------- events and results

    def _tell(self, outcome: Outcome, writer: str) -> None:
        now = time.time()
        stamped = [msgspec.structs.replace(event, stamp=now) for event in outcome.events]
        # An event names no frame: a batch's events are stored all together, or not again.
        items = [(outcome.stop - 1, _encode(event)) for event in stamped]
        self._append("events", writer, outcome, items)
        self.events += len(items)

    def _results(self, outcome: Outcome, writer: str) -> None:
        topic = f"results/{self._pipeline}/{outcome.simulation}"
        encode = encode_results(self._pipeline, outcome.results, outcome.stop)
        append_new(self._client, topic, writer, (outcome.first, outcome.stop), encode)

    def _append(
        self, topic: str, writer: str, outcome: Outcome, items: Sequence[tuple[int, bytes]]
    ) -> tuple[int, int]:
        return append_items(self._client, topic, writer, (outcome.first, outcome.stop), items)
