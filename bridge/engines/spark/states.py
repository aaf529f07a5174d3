"""Where a job on Spark keeps what must survive a crash: in staging, beside the frames.

Each partition has a topic ``state/<pipeline>/<simulation>``, the coordinator
``coordinator/<pipeline>``; the newest record counts. Records name the checkpoint that they belong
to: with another checkpoint, a job begins anew.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from bridge.engines.partials import PartitionReport
from bridge.engines.patience import PatientClient
from bridge.errors import ProtocolError
from bridge.staging.messages import StreamOptions

__all__ = ["Saved", "StagedStates"]

_CAPACITY = 256 << 20
_OPTIONS = StreamOptions(when_full="drop_oldest", capacity=_CAPACITY, keep=0)


class Saved(msgspec.Struct, array_like=True, frozen=True):
    """One state.

    Attributes
    ----------
    checkpoint
        Which checkpoint it belongs to.
    state
        What `PartitionStage.save`, or `Coordinator.save`, returned.
    report
        How things stood then, encoded.
    positions
        For the coordinator: what staging may release now that this is stored.
    """

    checkpoint: str
    state: bytes
    report: bytes = b""
    positions: dict[str, int] = {}


_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(Saved)


class StagedStates:
    """The states of one job.

    Parameters
    ----------
    client
        To the stagers.
    pipeline
        Its name.
    checkpoint
        Which checkpoint they belong to.
    """

    def __init__(self, client: PatientClient, pipeline: str, checkpoint: str) -> None:
        self._client = client
        self._checkpoint = checkpoint
        self._prefix = f"state/{pipeline}/"
        self._own = f"coordinator/{pipeline}"
        self._group = f"{pipeline}.states"

    def topic(self, partition: str) -> str:
        """Return the topic of one partition; of the coordinator for an empty name."""
        return self._prefix + partition.replace("#", "/") if partition else self._own

    def ends(self, partitions: Iterable[str]) -> dict[str, int]:
        """Return, for partitions that have states, the offset after the newest."""
        found = {t.name: t.end for t in self._client.topics(self._prefix, schemas=False)}
        ends = {name: found.get(self.topic(name), 0) for name in partitions}
        return {name: end for name, end in ends.items() if end}

    def load(self, ends: dict[str, int]) -> dict[str, Saved]:
        """Return the newest states of partitions, all in as few requests as they fit into.

        Parameters
        ----------
        ends
            What `ends` returned.
        """
        names = {self.topic(name): name for name in ends}
        wanted = {topic: ends[name] - 1 for topic, name in names.items()}
        out: dict[str, Saved] = {}
        while wanted:
            fetched = self._client.fetch(wanted, max_frames=1 << 20, max_bytes=64 << 20, wait=0.25)
            if not fetched.records:
                break
            for record in fetched.records:
                if record.topic not in names:
                    continue
                out[names[record.topic]] = self._decode(record.data)
                wanted.pop(record.topic, None)
        return {name: one for name, one in out.items() if one.checkpoint == self._checkpoint}

    def load_all(self) -> dict[str, Saved]:
        """Return the newest states of all partitions."""
        names = [
            t.name.removeprefix(self._prefix).replace("/", "#")
            for t in self._client.topics(self._prefix, schemas=False)
        ]
        return self.load(self.ends(names))

    def load_coordinator(self) -> Saved | None:
        """Return the newest state of the coordinator."""
        for status in self._client.topics(self._own, schemas=False):
            if status.name == self._own and status.end:
                return self.load({"": status.end}).get("")
        return None

    def store(
        self,
        partition: str,
        state: bytes,
        *,
        report: PartitionReport | None = None,
        positions: dict[str, int] | None = None,
    ) -> int:
        """Store a state, and return the offset after it; 0 if a later one is stored already.

        A worker that was taken for dead, and lives, does not put an old state over a new one.
        """
        topic = self.topic(partition)
        saved = Saved(
            self._checkpoint,
            state,
            b"" if report is None else report.encode(),
            positions or {},
        )
        first = -1 if report is None else 2 * report.position + report.finished
        result = self._client.append(
            topic,
            [_encode(saved)],
            writer="" if report is None else self._checkpoint,
            first=first,
            stop=first + 1 if first >= 0 else -1,
            options=_OPTIONS,
        )
        if not result.accepted:
            return 0
        end = result.offset + 1
        # What lies before the newest may go.
        self._client.commit(self._group, {topic: end - 1})
        return end

    @staticmethod
    def _decode(data: memoryview) -> Saved:
        try:
            return _decoder.decode(data)
        except msgspec.MsgspecError as error:
            raise ProtocolError(f"A saved state cannot be read: {error}.") from error
