"""Options that several verbs have: where the stager is, how it keeps a stream, what is exported."""

from __future__ import annotations

import argparse
from pathlib import Path

import msgspec

from bridge.config import parse_bytes
from bridge.errors import ConfigError
from bridge.staging.messages import StreamOptions

__all__ = [
    "add_export_arguments",
    "add_stager_arguments",
    "add_stream_arguments",
    "read_stream_options",
]


def add_stager_arguments(parser: argparse._ActionsContainer, *others: str) -> None:
    """Declare how the stager is found and spoken to; `others` are other names of ``--stager``."""
    parser.add_argument(
        "--stager", *others, help="address of the stager (default: HEADRACE_STAGER)"
    )
    parser.add_argument("--run-directory", type=Path, help="where the stager wrote stager.json")
    parser.add_argument("--keys", default="", help="folder of keys")


def add_stream_arguments(parser: argparse._ActionsContainer) -> None:
    """Declare how the stager keeps a stream; `read_stream_options` reads it."""
    parser.add_argument("--when-full", default="block", help="what a full stream does")
    parser.add_argument("--capacity", default="256 MiB", help="bytes of the stream (%(default)s)")


def read_stream_options(arguments: argparse.Namespace) -> StreamOptions:
    """Return how the stager is to keep the stream.

    Raises
    ------
    ConfigError
        If something is not known, or no size.
    """
    try:
        return msgspec.convert(
            {"when_full": arguments.when_full, "capacity": parse_bytes(arguments.capacity)},
            StreamOptions,
        )
    except msgspec.ValidationError as error:
        raise ConfigError(f"--when-full: {error}.") from error


def add_export_arguments(parser: argparse._ActionsContainer, *, layout: str) -> None:
    """Declare what a topic looks like in ADIOS2, and how long is waited for it."""
    parser.add_argument(
        "--layout", choices=("plain", "openpmd"), default=layout,
        help="each variable under its name, or particles by openPMD's convention (%(default)s)",
    )  # fmt: skip
    parser.add_argument("--patience", default="60 s", help="limit for a step (%(default)s)")
    parser.add_argument("--wait", default="0 s", help="for the topic to appear (%(default)s)")
