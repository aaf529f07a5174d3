"""How a job is getting on: asked of the cluster, of its process, and of staging."""

from __future__ import annotations

import contextlib

import msgspec

from bridge.commands import Event
from bridge.engines.protocol import EngineStatistics
from bridge.errors import HeadraceError
from bridge.jobs.records import JobRecord, is_running
from bridge.runs.keyfiles import client_keys
from bridge.staging.client_like import ClientLike
from bridge.staging.spread import connect

__all__ = ["JobView", "look"]

_PATIENCE = 3.0
_TOLD = (
    "engine_restarted",
    "resumed",
    "worker_changed",
    "worker_lost",
    "stager_away",
    "engine_failed",
)
_MANY = 400


class JobView(msgspec.Struct, kw_only=True):
    """A job as it is shown.

    Attributes
    ----------
    record
        What is remembered of it.
    state
        ``running``, ``finished``, ``stopped``, ``failed``, ``restarting``, or ``lost`` where nobody
        knows anything of it any more.
    why
        Why it failed, or why nothing can be known.
    statistics
        What it told of itself last.
    restarts
        How often the cluster started it again.
    downtime
        Seconds that it rested at restarts, all together.
    told
        The newest events about restarts and failures.
    """

    record: JobRecord
    state: str = "unknown"
    why: str = ""
    statistics: EngineStatistics | None = None
    restarts: int = 0
    downtime: float = 0.0
    told: list[Event] = []


def look(record: JobRecord, *, events: bool = True) -> JobView:
    """Ask everybody who may know; nobody is waited for longer than a few seconds."""
    view = JobView(record=record)
    try:
        keys = client_keys(record.keys) if record.keys else None
        with connect(record.stagers, name="jobs", keys=keys, timeout=_PATIENCE) as client:
            view.statistics = _last_status(client, record.pipeline)
            if events:
                _read_events(client, record.pipeline, view)
    except HeadraceError as error:
        view.why = str(error)
    view.state = _state(record, view)
    return view


def _state(record: JobRecord, view: JobView) -> str:
    told = view.statistics.state if view.statistics is not None else ""
    if record.flink:
        return _ask_flink(record, view, told)
    if is_running(record.pid, record.started):
        return told if told in ("running", "stopping") else "starting"
    return told if told in ("finished", "stopped", "failed") else "lost"


def _ask_flink(record: JobRecord, view: JobView, told: str) -> str:
    from bridge.engines.flink.rest import FlinkRest

    rest = FlinkRest(record.rest, timeout=_PATIENCE)
    try:
        state = rest.state(record.flink).lower()
        view.restarts = len(rest.failures(record.flink))
        if state in ("failed", "restarting", "failing"):
            view.why = rest.cause(record.flink)
    except HeadraceError as error:
        view.why = str(error)
        return told if told in ("finished", "stopped", "failed") else "lost"
    if state == "canceled":
        return told if told in ("finished", "stopped") else "cancelled"
    return "stopped" if state == "finished" and told != "finished" else state


def _last_status(client: ClientLike, pipeline: str) -> EngineStatistics | None:
    topic = f"status/{pipeline}"
    for status in client.topics(topic, schemas=False):
        if status.name == topic and status.end > status.low:
            fetched = client.fetch({topic: status.end - 1}, wait=_PATIENCE)
            for record in fetched.records:
                return msgspec.msgpack.decode(record.data, type=EngineStatistics)
    return None


def _read_events(client: ClientLike, pipeline: str, view: JobView) -> None:
    for topic in client.topics("events", schemas=False):
        if topic.name != "events":
            continue
        position = max(topic.low, topic.end - _MANY)
        while position < topic.end:
            fetched = client.fetch({"events": position}, wait=_PATIENCE)
            for record in fetched.records:
                with contextlib.suppress(msgspec.MsgspecError):
                    event = msgspec.msgpack.decode(record.data, type=Event)
                    if event.kind in _TOLD and event.source.partition("/")[0] == pipeline:
                        view.told.append(event)
                        view.downtime += float(event.data.get("downtime") or 0.0)
            if not fetched.records:
                break
            position = fetched.positions["events"]
