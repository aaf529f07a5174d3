"""``headrace models``: what the registry holds, what is served, and why."""

from __future__ import annotations

import argparse
import getpass
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bridge.commands import Event
from bridge.errors import ConfigError, CorruptData, HeadraceError, RegistryError
from bridge.extras import needs
from bridge.verbs import Services

if TYPE_CHECKING:
    from analytics.learning.registry import Registry, Served

__all__ = ["HELP", "add_arguments", "execute"]

HELP = "show the versions of models, promote and compare them, go back to earlier ones"

_VARIABLE = "HEADRACE_REGISTRY"
_MARK = "registry.json"
_VERSION = "first digits of its hash, NAME@NUMBER, or NAME for what is served"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    one = _add(actions, "list", "show the versions, and which of them are served")
    one.add_argument("name", nargs="?", default="", help="of this model alone")
    one.add_argument("--history", action="store_true", help="show what was served, one by one")

    one = _add(actions, "show", "show all that is known of a version")
    one.add_argument("version", help=_VERSION)
    one.add_argument("--check", action="store_true", help="read its tensors and check their hash")

    one = _add(actions, "promote", "serve a version from now on, whatever the gate says")
    one.add_argument("version", help=_VERSION)
    one.add_argument("--name", default="", help="model to serve it as (default: its own)")
    _add_hand(one)

    one = _add(actions, "rollback", "serve again what was served before")
    one.add_argument("name", help="of the model")
    one.add_argument("--to", default="", metavar="VERSION", help="go back to this one")
    _add_hand(one)

    one = _add(actions, "compare", "show how two versions differ, also on recorded frames")
    one.add_argument("first", help=_VERSION)
    one.add_argument("second", help=_VERSION)
    one.add_argument("--on", default="", metavar="RUN_DIR|ADDRESS", help="where the frames are")
    one.add_argument("--topic", default="", help="frames/NAME or results/PIPELINE/NAME")
    one.add_argument(
        "--column", action="append", default=[], metavar="NAME",
        help="what the models are shown; several side by side, as in 'input' of train",
    )  # fmt: skip
    one.add_argument("--last", type=int, default=2000, help="newest frames (%(default)s; 0: all)")
    one.add_argument("--lag", type=int, default=0, help="frames of a pair, for models of pairs")
    one.add_argument("--keys", default="", help="folder of keys, for an ADDRESS with keys")


def _add(actions: Any, name: str, text: str) -> argparse.ArgumentParser:
    about = text[0].upper() + text[1:] + "."
    parser: argparse.ArgumentParser = actions.add_parser(name, help=text, description=about)
    parser.add_argument(
        "--registry", type=Path, metavar="FOLDER",
        help=f"folder of the registry (default: {_VARIABLE}, or ./models)",
    )  # fmt: skip
    # The outer parser has the option, too, and its default must not undo what was said here.
    parser.add_argument(
        "--json", action="store_true", default=argparse.SUPPRESS,
        help="write one JSON document to standard output",
    )  # fmt: skip
    return parser


def _add_hand(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--reason", default="", help="why, in a sentence, for the history")
    parser.add_argument("--author", default="", help="who does it (default: the user)")
    parser.add_argument(
        "--tell", default="", metavar="RUN_DIR|ADDRESS", help="tell it in the log of a run, too"
    )
    parser.add_argument("--keys", default="", help="folder of keys, for an ADDRESS with keys")


def execute(arguments: argparse.Namespace, services: Services) -> int:
    """Look, or act."""
    with needs("learning", "models and their registry"):
        registry = _open(arguments.registry)
        if arguments.action == "list":
            return _list(registry, arguments)
        if arguments.action == "show":
            return _show(registry, arguments)
        if arguments.action == "compare":
            return _compare(registry, arguments, services)
        return _act(registry, arguments, services)


def _open(folder: Path | None) -> Registry:
    from analytics.learning.registry import Registry

    place = folder or Path(os.environ.get(_VARIABLE, "models"))
    if not place.is_dir():
        raise ConfigError(
            f"There is no registry of models in {place}: no such folder. Name one by --registry "
            f"(that of a run is RUN_DIR/models), or by the environment variable {_VARIABLE}."
        )
    inside = place / "models"
    if (inside / _MARK).is_file() and not (place / _MARK).is_file():
        place = inside  # The folder of a run, in which its registry lies.
    return Registry(place)


def _list(registry: Registry, arguments: argparse.Namespace) -> int:
    from analytics.learning.cli import tables

    names = registry.names()
    if arguments.name and arguments.name not in names:
        raise ConfigError(
            f"The registry {registry.folder} has no model {arguments.name!r}; it has: "
            f"{', '.join(names) or 'none'}."
        )
    chosen = [arguments.name] if arguments.name else names
    if not chosen and not arguments.json:
        tables.say(f"The registry {registry.folder} holds no model yet.")
    show = tables.show_history if arguments.history else tables.show_versions
    told, failed = [], None
    for name in chosen:
        try:
            if arguments.json:
                told.append(tables.as_data(registry, name))
            else:
                show(registry, name)
        except CorruptData as error:
            # What is damaged of one model hides no other one; it is still an error, told last.
            failed = error
            if arguments.json:
                told.append({"name": name, "problem": str(error)})
            else:
                tables.say(f"{name}: {error}")
    if arguments.json:
        _write(told)
        # Said in the document, which is to be the only one.
        return 1 if failed is not None else 0
    if failed is not None:
        raise failed
    return 0


def _show(registry: Registry, arguments: argparse.Namespace) -> int:
    from analytics.learning.cli import tables

    card = registry.card(arguments.version)
    if arguments.check:
        registry.load(card.version)
    if arguments.json:
        told = tables.card_as_data(registry, card)
        _write({**told, "checked": bool(arguments.check)})
    else:
        tables.show_card(registry, card)
        if arguments.check:
            tables.say("Its tensors are what its hash says, and fit the code that is here.")
    return 0


def _compare(registry: Registry, arguments: argparse.Namespace, services: Services) -> int:
    from analytics.learning.cli import comparing, tables

    first, second = registry.card(arguments.first), registry.card(arguments.second)
    result: dict[str, Any] = comparing.differences(first, second)
    if arguments.on:
        result["frames"] = comparing.on_frames(registry, first, second, arguments, services)
    if arguments.json:
        _write(result)
    else:
        tables.show_differences(first, second, result)
    return 0


def _act(registry: Registry, arguments: argparse.Namespace, services: Services) -> int:
    from analytics.learning.cli import tables

    promotes = arguments.action == "promote"
    if promotes:
        card = registry.card(arguments.version)
        name = arguments.name or card.name
    else:
        name = arguments.name
    before = registry.served(name)
    reason = arguments.reason or _ask(name)
    author = arguments.author or getpass.getuser()
    if promotes:
        entry = registry.promote(name, card.version, reason=reason, author=author)
    else:
        entry = registry.rollback(name, reason=reason, to=arguments.to, author=author)
    changed = entry != before
    short = entry.version[:12]
    if not changed:
        said = f"{short} is served as number {entry.number} of {name!r} already."
    else:
        said = f"{short} is served as number {entry.number} of {name!r} from now on."
    told = bool(arguments.tell) and changed
    if told:
        _tell(arguments, services, name, entry, said)
    if arguments.json:
        plain = tables.plain(entry)
        _write({"name": name, "changed": changed, "told": told, "served": plain})
    else:
        tables.say(said)
    return 0


def _ask(name: str) -> str:
    if not sys.stdin.isatty():
        raise ConfigError("Say why, for the history of the model: --reason 'a sentence'.")
    sys.stderr.write(f"Why is what {name!r} serves to change? ")
    sys.stderr.flush()
    return sys.stdin.readline().strip()


def _tell(
    arguments: argparse.Namespace, services: Services, name: str, entry: Served, said: str
) -> None:
    promotes = entry.kind == "promotion"
    event = Event(
        "promoted" if promotes else "rolled_back",
        f"{said} {entry.reason}",
        source=f"models, {entry.author}",
        level="info" if promotes else "warning",
        data={"model": name, "version": entry.version, "number": entry.number, "by": entry.author},
    )
    try:
        services.tell(arguments.tell, event, keys=arguments.keys)
    except HeadraceError as error:
        raise RegistryError(f"{said} But the log could not be told: {error}") from error


def _write(value: Any) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
