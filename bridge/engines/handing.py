"""Where a worker puts what its operators answered, each thing once.

Results go to their topic if no operator is left; else the columns go to the coordinator, as do all
commands, since one guard judges them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import msgspec

from bridge.commands import Event
from bridge.engines.job import Job
from bridge.engines.outcome import Outcome
from bridge.engines.partials import encode_end, encode_partial, partial_topic
from bridge.engines.patience import PatientClient
from bridge.engines.publisher import append_items, append_new, encode_results
from bridge.engines.stopping import has_target
from bridge.frames import FrameBatch
from bridge.staging.messages import StreamOptions

__all__ = ["Hand"]

_encode = msgspec.msgpack.Encoder().encode


class Hand:
    """Appends what came of the partitions of one worker.

    Parameters
    ----------
    client
        To the stagers, patient.
    job
        Whose results.
    """

    def __init__(self, client: PatientClient, job: Job) -> None:
        self._client = client
        self._job = job
        self._options = StreamOptions(capacity=job.options.partial_bytes, keep=1 << 20)

    def begin(self, partition: str) -> None:
        """Begin what is handed on of a partition, and keep it for the coordinator."""
        topic = partial_topic(self._job.name, partition)
        self._client.append(topic, [], options=self._options)
        self._client.commit(self._job.merger, {topic: 0})

    def on(self, partition: str, outcome: Outcome, put: float) -> int:
        """Hand on what came of some frames.

        Returns
        -------
        int
            The offset from which on it was not stored before.

        Raises
        ------
        StreamFull
            If the coordinator is too far behind; to be done again later.
        """
        job = self._job
        span, first = (outcome.first, outcome.stop), outcome.first
        writer = f"{job.name}/{partition}"
        if job.is_gathered or outcome.commands or has_target(outcome):
            first = self._hand_on(
                partition, writer, span, lambda first: self._encode(outcome, first, put)
            )
        self._tell(outcome.events, f"{writer}/worker", span)
        if not job.is_gathered:
            encode = encode_results(job.name, outcome.results, outcome.stop)
            topic = f"results/{job.name}/{outcome.simulation}"
            first, _ = append_new(self._client, topic, writer, span, encode)
        return first

    def end(self, partition: str, outcome: Outcome) -> None:
        """Hand on what operators said at the end of a stream, and that it has come.

        Raises
        ------
        StreamFull
            As `on`.
        """
        span = (outcome.first, outcome.stop)
        writer = f"{self._job.name}/{partition}/end"
        if self._job.is_gathered or outcome.commands:
            name, commands = outcome.simulation, outcome.commands
            self._hand_on(
                partition, writer, span, lambda first: [encode_end(name, first, commands)]
            )
        self._tell(outcome.events, f"{writer}/worker", span)

    def gap(self, partition: str, simulation: str, first: int, stop: int) -> None:
        """Tell that frames were released before they were analysed."""
        event = Event(
            "gap",
            f"{stop - first} frames of {simulation!r} were released before they were analysed, "
            f"between the offsets {first} and {stop - 1}.",
            simulation=simulation,
            source=self._job.name,
            level="warning",
            data={"count": stop - first, "first": first, "stop": stop},
        )
        self._tell([event], f"{self._job.name}/{partition}/gaps", (first, stop))

    def joined_late(self, partition: str, simulation: str, first: int) -> None:
        """Tell that a stream is not read from its beginning."""
        event = Event(
            "joined_late",
            f"The stream of {simulation!r} is read from offset {first} on; what came before was "
            "released already.",
            simulation=simulation,
            source=self._job.name,
            data={"offset": first},
        )
        self._tell([event], f"{self._job.name}/{partition}/joined", (0, first))

    def _hand_on(
        self,
        partition: str,
        writer: str,
        span: tuple[int, int],
        encode: Callable[[int], Sequence[bytes | bytearray]],
    ) -> int:
        topic = partial_topic(self._job.name, partition)
        first, _ = append_new(self._client, topic, writer, span, encode, self._options)
        return first

    def _tell(self, events: Sequence[Event], writer: str, span: tuple[int, int]) -> None:
        if not events:
            return
        now = time.time()
        # An event names no frame: a batch's events are stored all together, or not again.
        stamped = [msgspec.structs.replace(event, stamp=now) for event in events]
        items = [(span[1] - 1, _encode(event)) for event in stamped]
        append_items(self._client, "events", writer, span, items)

    def _encode(self, outcome: Outcome, first: int, put: float) -> list[bytes | bytearray]:
        gathered = self._job.is_gathered
        commands = [numbered for numbered in outcome.commands if numbered.offset >= first]
        is_target = has_target(outcome)
        if not gathered and not commands and not is_target:
            return []
        left = outcome.batch if gathered else None
        if left is not None:
            # What the stream itself has lies in staging, for whoever needs it.
            rows = left if first <= left.first else left.take(left.offsets >= first)
            left = rows.select([name for name in rows.columns if name in outcome.added])
        else:
            left = FrameBatch.from_arrays(outcome.simulation, {})
        return [
            encode_partial(
                left,
                first=first,
                stop=outcome.stop,
                put=put,
                quarantined=outcome.quarantined,
                variables=outcome.variables,
                commands=commands,
                is_target=is_target,
            )
        ]
