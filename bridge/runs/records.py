"""The ledger and the events of a run as files, one JSON object a line, for when staging is gone."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from bridge.commands import Event
from bridge.errors import ConfigError
from bridge.staging.client import StagerClient
from bridge.steering import LedgerLine, Unreadable

__all__ = ["load_events", "load_ledger", "read_events", "save_lines"]

T = TypeVar("T", bound=msgspec.Struct)


def save_lines(path: Path, values: Iterable[Any]) -> None:
    """Write one JSON object a line."""
    beside = path.with_name(path.name + ".part")
    with beside.open("wb") as file:
        for value in values:
            file.write(msgspec.json.encode(value) + b"\n")
    beside.replace(path)


def _load(path: Path, kind: type[T]) -> list[T]:
    try:
        with path.open("rb") as file:
            return [msgspec.json.decode(line, type=kind) for line in file if line.strip()]
    except OSError as error:
        raise ConfigError(f"Cannot read {path}: {error.strerror}.") from error
    except msgspec.MsgspecError as error:
        raise ConfigError(f"{path} is damaged: {error}.") from error


def load_ledger(path: Path) -> list[LedgerLine]:
    """Read a ledger that `save_lines` wrote.

    Raises
    ------
    ConfigError
        If it is not there, or is something else.
    """
    return _load(path, LedgerLine)


def load_events(path: Path) -> list[Event]:
    """Read events that `save_lines` wrote.

    Raises
    ------
    ConfigError
        If they are not there, or are something else.
    """
    return _load(path, Event)


def read_events(client: StagerClient) -> list[Event]:
    """Read all events that staging keeps; what cannot be read is passed over."""
    events: list[Event] = []
    unreadable = Unreadable()
    for topic in client.topics("events", schemas=False):
        position = topic.low
        while topic.name == "events" and position < topic.end:
            with client.fetch({"events": position}, wait=1.0) as fetched:
                for record in fetched.records:
                    with unreadable.passed_over(record.topic, record.offset):
                        events.append(msgspec.msgpack.decode(record.data, type=Event))
                if not fetched.records:
                    break
                position = fetched.positions["events"]
    return events
