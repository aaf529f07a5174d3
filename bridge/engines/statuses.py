"""Reading what a running job tells of itself."""

from __future__ import annotations

import msgspec

from bridge.engines.patience import PatientClient
from bridge.engines.protocol import EngineStatistics

__all__ = ["StatusReader"]

_decoder = msgspec.msgpack.Decoder(EngineStatistics)


class StatusReader:
    """The statuses of one pipeline, from now on.

    Parameters
    ----------
    client
        To the stagers.
    pipeline
        Name of the pipeline.
    """

    def __init__(self, client: PatientClient, pipeline: str) -> None:
        self._client = client
        self._topic = f"status/{pipeline}"
        self._position = 0
        for status in client.topics(self._topic, schemas=False):
            if status.name == self._topic:
                self._position = status.end

    def read(self, wait: float) -> list[EngineStatistics]:
        """Return those that are new, waiting a while for one."""
        fetched = self._client.fetch({self._topic: self._position}, wait=wait)
        self._position = fetched.positions.get(self._topic, self._position)
        return [_decoder.decode(record.data) for record in fetched.records]
