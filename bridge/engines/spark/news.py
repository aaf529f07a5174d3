"""What Spark's workers tell the coordinator: through staging, as it happens.

A report that went through Spark would come when the micro-batch is over.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from bridge.engines.partials import PartitionReport
from bridge.engines.patience import PatientClient
from bridge.staging.messages import StreamOptions

__all__ = ["News", "NewsReader", "TakenOver", "tell_news"]

_OPTIONS = StreamOptions(when_full="drop_oldest", capacity=8 << 20)


class TakenOver(msgspec.Struct, array_like=True, frozen=True):
    """A worker serves a lease that another one was lost with.

    Attributes
    ----------
    lease, task, attempt
        Which task of which micro-batch, and how often it was tried before.
    planned, stamp
        Unix times at which the lease was dealt, and at which its partitions were taken up again.
    partitions
        Which.
    """

    lease: int
    task: int
    attempt: int
    planned: float
    stamp: float
    partitions: tuple[str, ...]


class News(msgspec.Struct, array_like=True, frozen=True):
    """What a worker tells.

    Attributes
    ----------
    run
        Which run of the job it works for.
    reports
        On partitions that got further.
    failure, message
        Name of the error's class, and its sentence, if the job cannot go on.
    taken_over
        A lease that was begun by somebody else.
    """

    run: str
    reports: list[PartitionReport] = []
    failure: str = ""
    message: str = ""
    taken_over: TakenOver | None = None


_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(News)


def _topic(pipeline: str) -> str:
    return f"reports/{pipeline}"


def tell_news(client: PatientClient, pipeline: str, news: News) -> None:
    """Store news."""
    client.append(_topic(pipeline), [_encode(news)], options=_OPTIONS)


class NewsReader:
    """Reads the news of one run, from the moment it is made.

    Parameters
    ----------
    client
        To the stagers.
    pipeline, run
        Which run of which job.
    """

    def __init__(self, client: PatientClient, pipeline: str, run: str) -> None:
        self._client = client
        self._topic = _topic(pipeline)
        self._run = run
        self._position = 0
        client.append(self._topic, [], options=_OPTIONS)
        for status in client.topics(self._topic, schemas=False):
            if status.name == self._topic:
                self._position = status.end

    def read(self, wait: float = 0.001) -> Sequence[News]:
        """Return what came since the last call."""
        out = []
        while True:
            fetched = self._client.fetch({self._topic: self._position}, wait=wait)
            for record in fetched.records:
                news = _decoder.decode(record.data)
                if news.run == self._run:
                    out.append(news)
            self._position = fetched.positions.get(self._topic, self._position)
            if not fetched.records:
                return out
            wait = 0.001
