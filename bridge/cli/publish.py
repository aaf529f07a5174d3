"""``headrace publish``: a topic live over ADIOS2's SST, for the readers that people have."""

from __future__ import annotations

import argparse
import json

from rich.console import Console

from bridge.cli.ingest import read_parameters
from bridge.cli.stager_options import add_export_arguments, add_stager_arguments
from bridge.cli.stopping import stopped_by_signal
from bridge.config import parse_duration
from bridge.runs.keyfiles import client_keys
from bridge.staging.adios import publish
from bridge.staging.rendezvous import resolve
from bridge.staging.spread import connect

__all__ = ["add_arguments", "execute"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.description = (
        "Send the frames of a simulation, or a topic of results, on over ADIOS2's SST as they "
        "come. Readers that know ADIOS2 or openPMD join in and leave as they like."
    )
    parser.add_argument("stream", help="name of a simulation, or a topic such as results/pca/sim")
    parser.add_argument("contact", help="of the SST stream: CONTACT.sst tells readers where it is")
    add_stager_arguments(parser)
    parser.add_argument(
        "--when-full", choices=("drop_newest", "latest", "block"), default="drop_newest",
        help="leave out what the slowest reader has no room for, or wait for him (%(default)s)",
    )  # fmt: skip
    parser.add_argument("--queue", type=int, default=4, help="steps that wait (%(default)s)")
    parser.add_argument("--readers", type=int, default=0, help="to wait for first (%(default)s)")
    parser.add_argument("--from-start", action="store_true", help="begin with the oldest frame")
    parser.add_argument(
        "--parameter", action="append", default=[], metavar="NAME=VALUE",
        help="for SST, such as DataTransport=RDMA",
    )  # fmt: skip
    add_export_arguments(parser, layout="openpmd")


def execute(arguments: argparse.Namespace) -> int:
    """Publish until the topic ends, or a signal comes."""
    address = resolve(arguments.stager, arguments.run_directory)
    keys = client_keys(arguments.keys)
    console = Console(stderr=True)
    with (
        connect(address, name="publish", keys=keys) as client,
        stopped_by_signal() as told_to_end,
        console.status(f"Publishing {arguments.stream} as {arguments.contact}") as status,
    ):
        done = publish(
            client,
            arguments.stream,
            arguments.contact,
            when_full=arguments.when_full,
            queue=arguments.queue,
            readers=arguments.readers,
            layout=arguments.layout,
            from_start=arguments.from_start,
            parameters=read_parameters(arguments.parameter),
            until=told_to_end,
            patience=parse_duration(arguments.patience),
            wait=parse_duration(arguments.wait),
            on_written=lambda n: status.update(f"Published {n} steps of {arguments.stream}"),
        )
    if arguments.json:
        facts = {
            "topic": done.topic, "contact": arguments.contact, "steps": done.frames,
            "dropped": done.dropped, "next_offset": done.next_offset, "finished": done.finished,
        }  # fmt: skip
        print(json.dumps(facts))
    else:
        print(f"{done.frames} steps of {done.topic} were sent; {done.dropped} were left out.")
    return 0
