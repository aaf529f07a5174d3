"""``headrace replay``: a trajectory as a live stream, or a recorded run from its first offset."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from rich.console import Console

from bridge.cli.stager_options import (
    add_stager_arguments,
    add_stream_arguments,
    read_stream_options,
)
from bridge.codec import decode_batch
from bridge.errors import ConfigError
from bridge.frames import FrameBatch
from bridge.runs.adapters import load_adapter
from bridge.runs.directory import RunDirectory
from bridge.runs.keyfiles import client_keys
from bridge.runs.recorded import open_run
from bridge.staging.client import StagerClient
from bridge.staging.connection import Connection
from bridge.staging.messages import TopicStatus
from bridge.staging.rendezvous import resolve

__all__ = ["add_arguments", "execute"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.description = (
        "Stream a trajectory into a stager, as if the simulation ran now; or print what a run "
        "recorded, from the oldest item that is kept."
    )
    parser.add_argument(
        "what", nargs="+", type=Path, metavar="PATH",
        help="the folder of a run; or a topology and a trajectory (or one file that is both)",
    )  # fmt: skip
    stream = parser.add_argument_group("for a trajectory")
    add_stager_arguments(stream, "--address")
    stream.add_argument("--name", default="replay", help="name of the simulation (%(default)s)")
    stream.add_argument("--select", default="all", help="atoms, in MDAnalysis's language")
    stream.add_argument("--every", type=int, default=1, help="each n-th frame (%(default)s)")
    pace = stream.add_mutually_exclusive_group()
    pace.add_argument("--frames-per-second", type=float, default=0.0)
    pace.add_argument("--speed", type=float, default=0.0, help="simulated ps a second")
    add_stream_arguments(stream)
    stream.add_argument(
        "--again", action="store_true", help="go on after the last frame of an earlier replay"
    )
    recorded = parser.add_argument_group("for the folder of a run")
    recorded.add_argument(
        "--topic", action="append", default=[], help="print these (default: all but status)"
    )
    recorded.add_argument("--limit", type=int, default=0, help="lines of a topic (0: all)")


def execute(arguments: argparse.Namespace) -> int:
    """Stream, or print."""
    first: Path = arguments.what[0]
    if len(arguments.what) == 1 and first.is_dir():
        return _print_run(arguments, RunDirectory(first))
    return _stream(arguments)


# ----------------------------------------------------------------- trajectories


def _stream(arguments: argparse.Namespace) -> int:
    files: list[Path] = arguments.what
    if len(files) > 2:
        raise ConfigError("Name a topology and one trajectory; join several beforehand.")
    options = read_stream_options(arguments)
    adapter = load_adapter(
        {
            "adapter": "replay",
            "topology": str(files[0].absolute()),
            "trajectory": str(files[-1].absolute()),
            "name": arguments.name,
            "select": arguments.select,
            "every": arguments.every,
            "frames_per_second": arguments.frames_per_second,
            "speed": arguments.speed,
        },
        Path.cwd(),
        "headrace replay",
    )
    keys = client_keys(arguments.keys)
    address = resolve(arguments.stager, arguments.run_directory)
    connection = Connection(address=address, keys=keys, options=options)
    console = Console(stderr=True)
    with console.status(f"Streaming {files[-1].name} to {address} as {arguments.name!r}"):
        adapter.run(adapter.members()[0], connection, seed=0, resume=arguments.again)
    with contextlib.closing(StagerClient(address, name="replay", keys=keys)) as client:
        status = client.status(f"frames/{arguments.name}")
    if arguments.json:
        facts = {
            "simulation": arguments.name, "address": address, "frames": status.end,
            "bytes": status.bytes, "dropped": status.dropped, "finished": status.finished,
        }  # fmt: skip
        print(json.dumps(facts))
    else:
        print(f"{status.end} frames of {arguments.name!r} are in {address}.")
    return 0


# ----------------------------------------------------------------- recorded runs


def _print_run(arguments: argparse.Namespace, directory: RunDirectory) -> int:
    with open_run(directory) as client:
        if client is None:
            raise ConfigError(
                f"The run in {directory.path} kept its topics in memory, and they ended with it; "
                "only a run with durable = true in [staging] can be read again. Its ledger.jsonl "
                "and report.json are still there."
            )
        for topic in _choose(client, arguments.topic):
            for line in itertools.islice(_lines(client, topic), arguments.limit or None):
                print(_json(line) if arguments.json else _plain(line))
    return 0


def _choose(client: StagerClient, names: list[str]) -> list[TopicStatus]:
    topics = {topic.name: topic for topic in client.topics(schemas=False)}
    unknown = [name for name in names if name not in topics]
    if unknown:
        raise ConfigError(
            f"The run has no topic {unknown[0]!r}; it has: {', '.join(sorted(topics))}."
        )
    chosen = names or sorted(name for name in topics if not name.startswith("status/"))
    return [topics[name] for name in chosen]


def _lines(client: StagerClient, topic: TopicStatus) -> Iterator[dict[str, Any]]:
    """Yield one item after the other, as plain data."""
    position = topic.low
    while position < topic.end:
        with client.fetch({topic.name: position}, wait=1.0) as fetched:
            for batch in fetched.batches:
                yield from _rows(topic.name, batch)
            for record in fetched.records:
                if topic.name.startswith("results/"):
                    yield from _rows(topic.name, decode_batch(record.data)[0])
                else:
                    said = msgspec.msgpack.decode(record.data)
                    yield {"topic": topic.name, "offset": record.offset, "stamp": record.stamp,
                           "record": said}  # fmt: skip
            after = fetched.positions.get(topic.name, position)
        if after == position:
            return
        position = after


def _rows(topic: str, batch: FrameBatch) -> Iterator[dict[str, Any]]:
    for frame in batch:
        values = {name: np.asarray(value).tolist() for name, value in frame.values.items()}
        yield {
            "topic": topic, "offset": frame.offset, "step": frame.step, "time": frame.time,
            "epoch": frame.epoch, "values": values,
        }  # fmt: skip


def _json(line: dict[str, Any]) -> str:
    # JSON has neither NaN nor bytes.
    def plain(value: Any) -> Any:
        if isinstance(value, float):
            return value if math.isfinite(value) else None
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [plain(v) for v in value]
        return f"{len(value)} bytes" if isinstance(value, bytes) else value

    return json.dumps(plain(line))


def _plain(line: dict[str, Any]) -> str:
    where = f"{line['topic']} {line['offset']}"
    if "record" in line:
        record = line["record"]
        told = record.get("message") or record.get("reason") or json.loads(_json(record))
        return f"{where}  {told}"
    values = "  ".join(f"{k} = {_brief(v)}" for k, v in line["values"].items())
    return f"{where}  step {line['step']}  time {line['time']:.6g}  {values}"


def _brief(value: Any) -> str:
    array = np.asarray(value)
    if array.size > 8:
        return f"array {'×'.join(map(str, array.shape))}"
    return np.array2string(array, precision=4, separator=", ", floatmode="maxprec")
