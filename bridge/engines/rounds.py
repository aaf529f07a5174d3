"""The order in which a coordinator takes turns, written ahead in staging.

A *round* is one record of the topic ``turns/<pipeline>``: turns, in their order. The record's
offset is the round's number. Whoever writes a number first decides what the round is; a coordinator
that was started again, or one that does not know yet that it was replaced, takes the round that is
written there.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from bridge.engines.patience import PatientClient
from bridge.engines.turns import Turn
from bridge.errors import ProtocolError
from bridge.staging.messages import StreamOptions

__all__ = ["Rounds"]

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Turn])
_OPTIONS = StreamOptions(capacity=16 << 20, keep=1 << 20)


class Rounds:
    """The topic of rounds of one pipeline.

    Parameters
    ----------
    client
        To the stagers.
    pipeline, group
        Name of the pipeline, and the group under which rounds are released.

    Attributes
    ----------
    begin
        Number of the first round that may be needed, as the group committed it.
    end
        Number of the next round to be written, as far as is known.
    """

    def __init__(self, client: PatientClient, pipeline: str, group: str) -> None:
        self.topic = f"turns/{pipeline}"
        self._client = client
        self._writer = pipeline
        client.append(self.topic, [], options=_OPTIONS)
        client.commit(group, {self.topic: 0})
        self.begin = self.end = 0
        for status in client.topics(self.topic, schemas=False):
            if status.name == self.topic:
                self.end = status.end
                self.begin = max(status.low, status.groups.get(group, 0))

    def read(self, number: int) -> list[Turn] | None:
        """Return a round that is written, None if it is not."""
        if number >= self.end:
            return None
        fetched = self._client.fetch({self.topic: number}, max_frames=1, wait=0.25)
        for record in fetched.records:
            if record.offset == number:
                try:
                    return _decoder.decode(record.data)
                except msgspec.MsgspecError as error:
                    raise ProtocolError(
                        f"Round {number} of {self.topic} cannot be read: {error}."
                    ) from error
        return None

    def propose(self, number: int, turns: Sequence[Turn]) -> list[Turn] | None:
        """Write a round, and return it; or the one that somebody else wrote."""
        result = self._client.append(
            self.topic,
            [_encoder.encode(list(turns))],
            writer=self._writer,
            first=number,
            stop=number + 1,
        )
        if result.accepted:
            self.end = number + 1
            return list(turns)
        self.end = max(self.end, result.watermark)
        return self.read(number)
