"""Which worker serves which partition: slots that the coordinator deals out, and keys for them.

Flink spreads keys over workers by a hash, and moves their state when a job is rescaled. Partitions
are therefore put into a fixed number of slots, whose keys are chosen so that any number of workers
has its even share. The coordinator gives each new partition to the slot that has least to do, and
writes that to the topic ``slots/<pipeline>``, once and for ever.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Any

import msgspec

from bridge.engines.patience import PatientClient
from bridge.staging.messages import StreamOptions

__all__ = ["MAX_PARALLELISM", "SLOTS", "SlotTable", "choose_keys"]

SLOTS = 32
MAX_PARALLELISM = 128

_OPTIONS = StreamOptions(capacity=16 << 20, keep=16 << 20)


class _Dealt(msgspec.Struct, array_like=True, frozen=True):
    partition: str
    slot: int


_decoder = msgspec.msgpack.Decoder(_Dealt)


def choose_keys(gateway: Any) -> list[int]:
    """Return a key for each slot, so that slots are spread evenly over any number of workers.

    Parameters
    ----------
    gateway
        PyFlink's gateway to the JVM, which is asked how it hashes.
    """
    assign = gateway.jvm.org.apache.flink.runtime.state.KeyGroupRangeAssignment.assignToKeyGroup
    wanted = {slot * (MAX_PARALLELISM // SLOTS): slot for slot in range(SLOTS)}
    keys: dict[int, int] = {}
    key = 0
    while wanted:
        row = gateway.jvm.org.apache.flink.types.Row(1)
        row.setField(0, key)
        slot = wanted.pop(assign(row, MAX_PARALLELISM), None)
        if slot is not None:
            keys[slot] = key
        key += 1
    return [keys[slot] for slot in range(SLOTS)]


class SlotTable:
    """The topic of slots of one pipeline, as it is known here.

    Parameters
    ----------
    client
        To the stagers.
    pipeline
        Its name.
    """

    def __init__(self, client: PatientClient, pipeline: str) -> None:
        self._client = client
        self._topic = f"slots/{pipeline}"
        self._writer = pipeline
        self._position = 0
        self._slots: dict[str, int] = {}

    def refresh(self) -> None:
        """Read what was dealt out since."""
        while True:
            fetched = self._client.fetch({self._topic: self._position}, wait=0.001)
            for record in fetched.records:
                dealt = _decoder.decode(record.data)
                self._slots.setdefault(dealt.partition, dealt.slot)
                self._position = record.offset + 1
            if not fetched.records:
                return

    def slot(self, partition: str) -> int | None:
        """Return the slot of a partition; None if it was not dealt out yet."""
        return self._slots.get(partition)

    def deal(self, partitions: Collection[str]) -> int:
        """Give a slot to each of those that have none, and return how many did.

        Parameters
        ----------
        partitions
            All that are to be served at present; their slots count as busy.
        """
        if all(partition in self._slots for partition in partitions):
            return 0
        self.refresh()
        busy = Counter(dict.fromkeys(range(SLOTS), 0))
        busy.update(self._slots[p] for p in partitions if p in self._slots)
        dealt = 0
        for partition in partitions:
            if partition in self._slots:
                continue
            # Far apart slots first, so that few partitions meet on one worker only if they must.
            slot = min(range(SLOTS), key=lambda s: (busy[s], _spread(s)))
            busy[slot] += 1
            number = self._position
            result = self._client.append(
                self._topic,
                [msgspec.msgpack.encode(_Dealt(partition, slot))],
                writer=self._writer,
                first=number,
                stop=number + 1,
                options=_OPTIONS,
            )
            self.refresh()
            dealt += result.accepted
        return dealt


def _spread(slot: int) -> int:
    """Return the bits of a slot's number in reverse: neighbours come far apart."""
    bits = SLOTS.bit_length() - 1
    return int(f"{slot:0{bits}b}"[::-1], 2)
