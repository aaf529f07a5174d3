"""``headrace serve-model``: a model that answers running simulations."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from rich.console import Console

from bridge.cli.stager_options import add_stager_arguments
from bridge.cli.stopping import stopped_by_signal
from bridge.config import build, find_entry_point
from bridge.errors import ConfigError
from bridge.runs.keyfiles import client_keys
from bridge.staging.inference import InferenceService
from bridge.staging.rendezvous import resolve
from bridge.staging.spread import connect
from bridge.surrogate import SURROGATES

__all__ = ["add_arguments", "execute"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.description = (
        "Answer what simulations ask by link.infer(SERVICE, ...), until Ctrl-C. Requests of all "
        "ranks and simulations that wait are answered in one call of the model. Where it must not "
        "be trusted, simulations are told to compute for themselves."
    )
    parser.add_argument("model", help="name of the model in its registry")
    parser.add_argument("--registry", help="folder of the registry")
    parser.add_argument("--service", default="", help="what simulations call it (default: MODEL)")
    parser.add_argument(
        "--use", default="registry", metavar="NAME|MODULE:FACTORY",
        help="what answers (default: a 'regressor' of the registry)",
    )  # fmt: skip
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="settings",
        help="for what answers, such as device=cuda or threads=2; may be repeated",
    )  # fmt: skip
    parser.add_argument("--max-rows", type=int, default=1 << 20, help="of one call (%(default)s)")
    add_stager_arguments(parser)


def read_settings(given: list[str]) -> dict[str, Any]:
    """Return KEY=VALUE as a table; values that are JSON are taken as such, others as text.

    Raises
    ------
    ConfigError
        If there is no ``=``.
    """
    table: dict[str, Any] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ConfigError(f"--set is {text!r}; write it as KEY=VALUE.")
        try:
            table[key] = json.loads(value)
        except ValueError:
            table[key] = value
    return table


def execute(arguments: argparse.Namespace) -> int:
    """Answer until a signal comes."""
    if arguments.max_rows < 1:
        raise ConfigError(f"--max-rows is {arguments.max_rows}; it must be at least 1.")
    settings = read_settings(arguments.settings)
    if arguments.registry:
        settings["registry"] = arguments.registry
    if arguments.use == "registry" and "registry" not in settings:
        raise ConfigError("Name the folder of the registry of models by --registry.")
    where = f"--use {arguments.use}"
    factory = find_entry_point(SURROGATES, arguments.use, where)
    surrogate = build(factory, {"name": arguments.model, **settings}, where)
    name = arguments.service or arguments.model
    address = resolve(arguments.stager, arguments.run_directory)
    console = Console(stderr=True)
    folder = Path(str(settings.get("registry", "")))
    if arguments.use == "registry" and not folder.is_dir():
        said = f"There is no registry in {folder} yet; until there is, nobody is answered."
        console.print(said, markup=False, highlight=False, soft_wrap=True)
    serving = f"Serving {arguments.model} as {name!r} at {address}; Ctrl-C ends it"
    if not console.is_terminal:
        console.print(f"{serving}.", markup=False, highlight=False, soft_wrap=True)
    with (
        connect(address, name=f"serves-{name}", keys=client_keys(arguments.keys)) as client,
        stopped_by_signal() as told_to_end,
        console.status(serving),
    ):
        service = InferenceService(client, name, surrogate, max_rows=arguments.max_rows)
        done = service.run(told_to_end)
    if arguments.json:
        facts = {
            "service": name, "requests": done.requests, "rows": done.rows,
            "batches": done.batches, "invalid": done.invalid, "expired": done.expired,
            "refused": done.refused, "versions": sorted(done.versions),
        }  # fmt: skip
        print(json.dumps(facts))
    else:
        print(
            f"{done.requests} requests with {done.rows} rows were answered in {done.batches} "
            f"calls; {done.invalid} rows were outside of what the model knows, {done.expired} "
            f"requests came too late, and {done.refused} were refused."
        )
    return 0
