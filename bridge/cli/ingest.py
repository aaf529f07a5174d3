"""``headrace ingest``: what ADIOS2 writers send becomes the stream of a simulation."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rich.console import Console

from bridge.cli.stager_options import (
    add_stager_arguments,
    add_stream_arguments,
    read_stream_options,
)
from bridge.cli.stopping import stopped_by_signal
from bridge.config import parse_duration
from bridge.errors import ConfigError
from bridge.staging.adios import Ingest
from bridge.staging.rendezvous import resolve

__all__ = ["add_arguments", "execute", "read_parameters"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.description = (
        "Read an ADIOS2 stream (SST) or a growing file (BP5) of any writer, and put its steps into "
        "a stager. Several sources are the ranks of one simulation, and are joined step by step."
    )
    parser.add_argument(
        "sources", nargs="+", metavar="CONTACT_OR_FILE",
        help="contact of an SST stream (the file CONTACT.sst tells where it is), or a BP file",
    )  # fmt: skip
    parser.add_argument("--simulation", required=True, help="name of the simulation")
    add_stager_arguments(parser)
    parser.add_argument("--mapping", type=Path, help="TOML file that says what variables mean")
    parser.add_argument("--engine", choices=("auto", "SST", "BP5"), default="auto")
    parser.add_argument(
        "--parameter", action="append", default=[], metavar="NAME=VALUE",
        help="for ADIOS2's engine, such as DataTransport=RDMA",
    )  # fmt: skip
    add_stream_arguments(parser)
    limits = parser.add_argument_group("time limits")
    limits.add_argument("--open-timeout", default="60 s", help="for the writers (%(default)s)")
    limits.add_argument("--patience", default="5 min", help="for a step (%(default)s)")
    limits.add_argument(
        "--reopen", default="0 s", help="for another writer, if one went away (%(default)s: end)"
    )


def read_parameters(given: list[str]) -> dict[str, str]:
    """Return ADIOS2's parameters as they were given on the command line."""
    out = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise ConfigError(f"--parameter is {text!r}; write it as NAME=VALUE.")
        out[name] = value
    return out


def execute(arguments: argparse.Namespace) -> int:
    """Read until the writers end, or a signal comes."""
    options = read_stream_options(arguments)
    address = resolve(arguments.stager, arguments.run_directory)
    ingest = Ingest(
        arguments.sources,
        arguments.simulation,
        address=address,
        mapping=arguments.mapping,
        engine=arguments.engine,
        parameters=read_parameters(arguments.parameter),
        options=options,
        keys=arguments.keys,
        open_timeout=parse_duration(arguments.open_timeout),
        patience=parse_duration(arguments.patience),
        reopen=parse_duration(arguments.reopen),
    )
    console = Console(stderr=True)
    with stopped_by_signal() as told_to_end:
        waiting = f"Waiting for a writer of {', '.join(arguments.sources)}"
        with console.status(waiting) as status:

            def opened(message: str) -> None:
                status.update(f"Reading {message}")
                console.print(f"Reading {message}")

            done = ingest.run(told_to_end, on_opened=opened)
    if arguments.json:
        facts = {
            "simulation": arguments.simulation, "address": address, "frames": done.frames,
            "skipped": done.skipped, "last_step": done.last_step, "finished": done.finished,
        }  # fmt: skip
        print(json.dumps(facts))
    else:
        passed = f"; {done.skipped} steps were passed over" if done.skipped else ""
        print(f"{done.frames} frames of {arguments.simulation!r} are in {address}{passed}.")
    return 0
