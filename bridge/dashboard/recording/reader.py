"""A run that is over, put back into memory: from its recording, else from what it left."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from bridge.commands import Capability
from bridge.dashboard.about import About
from bridge.dashboard.recording.index import read_index
from bridge.dashboard.recording.pictures import Pictures
from bridge.dashboard.recording.rows import load_arrays
from bridge.dashboard.stores.memory import Memory
from bridge.dashboard.stores.simulations import FIELDS
from bridge.engines.protocol import EngineStatistics
from bridge.errors import ConfigError, HeadraceError
from bridge.runs.records import load_events, load_ledger
from bridge.runs.traces import load_traces
from bridge.schema import StreamSchema
from bridge.staging.messages import TopicStatus

__all__ = ["load_files", "load_recording", "take_up"]

Array = npt.NDArray[Any]


def load_recording(folder: Path, memory: Memory) -> Pictures:
    """Read a recording into an empty memory.

    Raises
    ------
    ConfigError
        If there is none, or it is damaged.
    """
    index = read_index(folder)
    with memory.lock:
        _load(folder, index, memory)
        memory.seen = index["seen"]
        _load_lines(folder / "ledger.jsonl", folder / "events.jsonl", memory)
    pictures = Pictures(folder, memory.limits.recording)
    pictures.load(index["pictures"])
    return pictures


def take_up(folder: Path, memory: Memory) -> None:
    """Go on with a recording: put into memory what staging may not hold any more.

    Ledger and events are read from staging again.

    Raises
    ------
    ConfigError
        If it is damaged; nothing is in memory then.
    """
    index = read_index(folder)
    with memory.lock:
        try:
            _load(folder, index, memory)
        except BaseException:
            memory.reset()
            raise


def _load(folder: Path, index: dict[str, Any], memory: Memory) -> None:
    memory.started = index["started"]
    _load_rows(folder, index, memory)
    _load_declared(folder, memory)
    _load_history(folder, memory)
    for status in _statuses(folder / "status.jsonl"):
        memory.take_status(status)


def _load_rows(folder: Path, index: dict[str, Any], memory: Memory) -> None:
    results = memory.results
    for name in index["names"]:
        results.number(str(name))
    results.stride = int(index["stride"])
    for name in index["rows"]:
        arrays = load_arrays(folder / Path(name).name)
        keys = {k[4:]: v for k, v in arrays.items() if k.startswith("key/")}
        columns = {k[7:]: v for k, v in arrays.items() if k.startswith("column/")}
        results.load(keys, columns, index["sizes"])
    results.seq = int(index["seq"])


class _Declared(msgspec.Struct):
    names: list[str]
    schemas: dict[str, StreamSchema]
    capabilities: dict[str, list[Capability]]


def _load_declared(folder: Path, memory: Memory) -> None:
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        data = (folder / "schemas.json").read_bytes()
        declared = msgspec.json.decode(data, type=_Declared)
        for name in declared.names:
            memory.simulations.expect(name)
        for name, schema in declared.schemas.items():
            memory.simulations.declare(name, schema, declared.capabilities.get(name))


def _load_history(folder: Path, memory: Memory) -> None:
    arrays = load_arrays(folder / "history.npz")
    for name in arrays["names"]:
        memory.simulations.expect(name.decode())
    order = [memory.simulations.names.index(n.decode()) for n in arrays["names"]]
    for stamp, rows in zip(arrays["stamps"].tolist(), arrays["rows"], strict=True):
        table = np.zeros((len(memory.simulations.names), len(FIELDS)))
        table[order] = rows
        memory.simulations.history.add(stamp, table)
        memory.simulations.latest = table


def _load_lines(ledger: Path, events: Path, memory: Memory) -> None:
    with contextlib.suppress(ConfigError):
        for line in load_ledger(ledger):
            memory.ledger.put(line)
    with contextlib.suppress(ConfigError):
        for event in load_events(events):
            memory.events.add(event)


def _statuses(path: Path) -> list[EngineStatistics]:
    out = []
    with contextlib.suppress(OSError), path.open("rb") as file:
        for line in file:
            with contextlib.suppress(msgspec.MsgspecError):
                out.append(msgspec.json.decode(line, type=EngineStatistics))
    return sorted(out, key=lambda s: s.stamp)


def load_files(about: About, memory: Memory) -> None:
    """Read what a run without a recording left: its report, ledger, events and results.

    Rows of results have no times of the clock there: each is given the time at which it would have
    come, had its simulation gone at an even pace.
    """
    report, directory = about.report, about.directory
    assert directory is not None
    started = float(report.get("started") or 0.0)
    wall = float(report.get("wall_time_s") or 0.0)
    with memory.lock:
        memory.started, memory.seen = started or None, started + wall or None
        _load_lines(directory.ledger, directory.events, memory)
        with contextlib.suppress(msgspec.MsgspecError, TypeError):
            status = msgspec.convert(report.get("engine"), EngineStatistics)
            memory.take_status(status)
        _load_report(report, memory, started + wall)
        with contextlib.suppress(HeadraceError):
            _load_traces(directory.results, memory, started, wall)


def _load_report(report: dict[str, Any], memory: Memory, end: float) -> None:
    unit = str((report.get("simulated_time") or {}).get("unit") or "")
    status = next(iter(memory.latest.values()), None)
    topics = []
    for row in report.get("simulations") or []:
        name = str(row.get("name", ""))
        topics.append(
            TopicStatus(
                f"frames/{name}", "frames", end=int(row.get("frames", 0)), finished=True,
                dropped=int(row.get("dropped", 0)), incarnation=int(row.get("lives", 0)),
                last_step=int(row.get("step", -1)),
                last_time=float(row.get("simulated_time") or 0.0),
            )
        )  # fmt: skip
        memory.simulations.declare(name, StreamSchema((), time_unit=unit), [])
    progress = {} if status is None else status.simulations
    memory.simulations.look(topics, progress, set(), end)


def _load_traces(path: Path, memory: Memory, started: float, wall: float) -> None:
    traces = [t for t in load_traces(path) if len(t)]
    results = memory.results
    parts: list[tuple[dict[str, Array], dict[str, Array]]] = []
    for trace in traces:
        number = results.number(trace.simulation)
        rows = trace.rows
        offsets = rows["offset"]
        last = max(1, int(offsets.max()))
        keys: dict[str, Array] = {
            "simulation": np.full(len(offsets), number, np.uint16),
            "stamp": started + wall * offsets / last,
            **{k: rows[k] for k in ("offset", "step", "time", "epoch")},
        }
        columns = {
            k: v.reshape(len(v), -1).astype(np.float32)
            for k, v in rows.items()
            if k not in (*keys, "marked") and v.dtype.kind in "biuf"
        }
        parts.append((keys, columns))
    results.stride = max((t.stride for t in traces), default=1)
    for keys, columns in parts:
        n = len(keys["offset"])
        keys["seq"] = np.arange(results.seq, results.seq + n)
        results.load(keys, columns, {k: v.shape[1] for k, v in columns.items()})
