"""Staging: logs of frames and records, the service that keeps them, and its clients."""

from bridge.staging.client import AppendResult, Fetched, Gap, StagerClient, StoredRecord
from bridge.staging.client_like import ClientLike
from bridge.staging.messages import StreamOptions, TopicStatus
from bridge.staging.ownership import owner
from bridge.staging.producer import Producer, ProducerStatistics, Resumed
from bridge.staging.rendezvous import publish, resolve
from bridge.staging.spread import SpreadClient, connect
from bridge.staging.stager import Stager, StagerStatistics

__all__ = [
    "AppendResult",
    "ClientLike",
    "Fetched",
    "Gap",
    "Producer",
    "ProducerStatistics",
    "Resumed",
    "SpreadClient",
    "Stager",
    "StagerClient",
    "StagerStatistics",
    "StoredRecord",
    "StreamOptions",
    "TopicStatus",
    "connect",
    "owner",
    "publish",
    "resolve",
]
