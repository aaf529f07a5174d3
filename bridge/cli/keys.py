"""``headrace keys``: key files for a stager and those who may reach it."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from bridge.errors import ConfigError, SchemaError
from bridge.runs.keyfiles import ALLOWED, CLIENT, STAGER
from bridge.schema import check_name
from bridge.transports.curve import write_keys

__all__ = ["add_arguments", "execute"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.description = (
        "Make key files. Without names: a pair for the stager, a pair for its clients, and the "
        'allow-list that lets these in; [staging] keys = "FOLDER" in a run.toml, or headrace '
        "stage --keys FOLDER, then uses them. With names: a pair for each of these clients, let "
        "in as well."
    )
    parser.add_argument("folder", type=Path, help="where to write them")
    parser.add_argument("names", nargs="*", metavar="NAME", help="further clients")


def execute(arguments: argparse.Namespace) -> int:
    """Write the files."""
    folder: Path = arguments.folder
    allowed = folder / ALLOWED
    names: list[str] = arguments.names
    try:
        for name in names:
            check_name(name, "name of a key")
    except SchemaError as error:
        raise ConfigError(str(error)) from error
    first = not (folder / f"{STAGER}.key").exists()
    if not first and not names:
        raise ConfigError(
            f"{folder} has keys already, which are not overwritten; name a client to add keys for "
            "it, or choose another folder."
        )
    written: list[Path] = []
    if first:
        written += write_keys(folder, STAGER)
    allowed.mkdir(mode=0o700, exist_ok=True)
    for name in ([CLIENT] if first else []) + names:
        secret, public = write_keys(folder, name)
        shutil.copy(public, allowed / public.name)
        written += [secret, public, allowed / public.name]
    if arguments.json:
        print(json.dumps({"folder": str(folder), "files": [str(p) for p in written]}))
        return 0
    for path in written:
        print(path)
    print(
        f"\nKeep the .key files secret. A client on another machine needs its own .key file and "
        f"{STAGER}.pub."
    )
    return 0
