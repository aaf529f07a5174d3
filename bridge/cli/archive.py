"""``headrace archive``: a topic into an ADIOS2 file, which is gone on with after a break."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rich.console import Console

from bridge.cli.stager_options import add_export_arguments, add_stager_arguments
from bridge.cli.stopping import stopped_by_signal
from bridge.config import parse_duration
from bridge.runs.keyfiles import client_keys
from bridge.staging.adios import archive
from bridge.staging.rendezvous import resolve
from bridge.staging.spread import connect

__all__ = ["add_arguments", "execute"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.description = (
        "Write the frames of a simulation, or a topic of results, into an ADIOS2 file (BP5), bit "
        "for bit, until they end. Started again, it goes on where it was."
    )
    parser.add_argument("stream", help="name of a simulation, or a topic such as results/pca/sim")
    parser.add_argument("out", type=Path, metavar="OUT.bp", help="the file")
    add_stager_arguments(parser)
    parser.add_argument("--now", action="store_true", help="end with what is there now")
    add_export_arguments(parser, layout="plain")


def execute(arguments: argparse.Namespace) -> int:
    """Archive until the topic ends, or a signal comes."""
    address = resolve(arguments.stager, arguments.run_directory)
    keys = client_keys(arguments.keys)
    console = Console(stderr=True)
    with (
        connect(address, name="archive", keys=keys) as client,
        stopped_by_signal() as told_to_end,
        console.status(f"Archiving {arguments.stream} in {arguments.out}") as status,
    ):
        done = archive(
            client,
            arguments.stream,
            arguments.out,
            follow=not arguments.now,
            layout=arguments.layout,
            until=told_to_end,
            patience=parse_duration(arguments.patience),
            wait=parse_duration(arguments.wait),
            on_written=lambda n: status.update(f"Archived {n} steps of {arguments.stream}"),
        )
    if arguments.json:
        facts = {
            "topic": done.topic, "file": str(arguments.out), "steps": done.frames,
            "missed": done.dropped, "next_offset": done.next_offset, "finished": done.finished,
        }  # fmt: skip
        print(json.dumps(facts))
    else:
        missed = f" {done.dropped} were released before they could be read." if done.dropped else ""
        print(f"{done.frames} steps of {done.topic} were added to {arguments.out}.{missed}")
    return 0
