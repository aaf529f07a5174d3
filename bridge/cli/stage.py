"""``headrace stage``: a stager in the foreground."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from bridge.cli.stopping import stopped_by_signal
from bridge.config import parse_bytes
from bridge.errors import ConfigError
from bridge.runs.keyfiles import stager_keys
from bridge.staging.messages import StreamOptions
from bridge.staging.rendezvous import publish, withdraw
from bridge.staging.stager import Stager

__all__ = ["add_arguments", "execute"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.description = (
        "Run a stager until Ctrl-C. Simulations and engines find it by its address, by the "
        "environment variable HEADRACE_STAGER, or by the run directory."
    )
    parser.add_argument(
        "--address", default="tcp://127.0.0.1:0", help="where to listen (default %(default)s)"
    )
    parser.add_argument("--run-directory", type=Path, help="write stager.json there")
    parser.add_argument("--directory", type=Path, help="folder of the topics (default: in memory)")
    parser.add_argument(
        "--durable", action="store_true", help="keep the topics in --directory when it ends"
    )
    parser.add_argument("--limit", default="4 GiB", help="bytes of all topics (%(default)s)")
    parser.add_argument("--capacity", default="256 MiB", help="bytes of a topic (%(default)s)")
    parser.add_argument(
        "--share",
        default="1/1",
        metavar="K/N",
        help="which of how many stagers this is; streams are spread over them (%(default)s)",
    )
    parser.add_argument("--keys", default="", help="folder made by headrace keys")


def _share(text: str) -> tuple[int, int]:
    number, slash, count = text.partition("/")
    if slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count):
        return int(number), int(count)
    raise ConfigError(f"--share is {text!r}; write it as 2/3 for the second of three stagers.")


def execute(arguments: argparse.Namespace) -> int:
    """Serve until a signal comes."""
    if arguments.durable and arguments.directory is None:
        raise ConfigError("--durable needs --directory, which says where to keep the topics.")
    number, count = _share(arguments.share)
    keys, allowed = stager_keys(arguments.keys)
    stager = Stager(
        arguments.address,
        directory=arguments.directory,
        durable=arguments.durable,
        limit=parse_bytes(arguments.limit),
        options=StreamOptions(capacity=parse_bytes(arguments.capacity)),
        keys=keys,
        allowed=allowed,
    )
    with stopped_by_signal() as told_to_end:
        facts = {
            "address": stager.address,
            "directory": str(stager.directory),
            "durable": stager.durable,
            "encrypted": keys is not None,
        }
        if arguments.json:
            print(json.dumps(facts), flush=True)
        else:
            print(f"The stager listens at {stager.address}; Ctrl-C ends it.", flush=True)
        if arguments.run_directory is not None:
            publish(
                arguments.run_directory,
                stager.address,
                public_key=keys.public if keys else "",
                number=number,
                count=count,
            )
        try:
            stager.serve(until=told_to_end)
        finally:
            if arguments.run_directory is not None:
                withdraw(arguments.run_directory, stager.address, number=number)
    print("The stager has ended.", file=sys.stderr)
    return 0
