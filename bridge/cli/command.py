"""``headrace command``: a person's own command to simulations that run."""

from __future__ import annotations

import argparse
import contextlib
import json
from fnmatch import fnmatchcase
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bridge.cli.steering import (
    add_author_arguments,
    add_run_arguments,
    open_client,
    open_desk,
    report,
    who,
)
from bridge.commands import COMMAND_KINDS, Capability, FrameReference
from bridge.errors import ConfigError
from bridge.schema import plain_unit

__all__ = ["add_arguments", "execute"]

_FORMS = {
    "set": ("PARAMETER", "VALUE"),
    "interval": ("STEPS",),
    "restart": ("SIMULATION@OFFSET",),
}
"""What follows the simulation, for commands that carry something."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.description = (
        "Send a command of your own, within what the simulation declares and the rules of the run "
        "allow: set SIMULATION PARAMETER VALUE, interval SIMULATION STEPS, restart SIMULATION "
        "OTHER@OFFSET, or pause, resume or stop SIMULATION. With list, show what each simulation "
        "lets others do."
    )
    add_run_arguments(parser)
    parser.add_argument("kind", choices=("list", *COMMAND_KINDS))
    parser.add_argument(
        "words", metavar="SIMULATION [...]", nargs="*",
        help="a name, or a pattern such as 'walker-*' for every one that matches; then the rest",
    )  # fmt: skip
    parser.add_argument("--all", action="store_true", help="every simulation, instead of a name")
    add_author_arguments(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Send, or list."""
    with contextlib.closing(open_client(arguments, "command")) as client:
        topics = client.topics("frames/", schemas=True)
    found = {t.name.removeprefix("frames/"): t for t in topics}
    if arguments.kind == "list":
        return _list({n: t.capabilities for n, t in found.items()}, as_json=arguments.json)
    pattern, fields = _parse(arguments)
    alive = sorted(name for name, topic in found.items() if not topic.finished)
    # A name is sent to as it stands, so that the ledger tells of one that is not there.
    exact = not arguments.all and (pattern in found or not set("*?[") & set(pattern))
    names = [pattern] if exact else [n for n in alive if fnmatchcase(n, pattern)]
    if not names:
        raise ConfigError(
            f"No running simulation matches {pattern!r}; there are {', '.join(alive) or 'none'}."
        )
    given = {"author": who(arguments), "reason": arguments.reason, "key": arguments.key, **fields}
    with open_desk(arguments) as desk:
        if exact:
            one = desk.send(arguments.kind, pattern, **given)
            told = [{"simulation": pattern, **one}]
        else:
            told = desk.send_each(arguments.kind, names, **given)
    return report(arguments, told)


def _parse(arguments: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    kind = arguments.kind
    words = ["*", *arguments.words] if arguments.all else list(arguments.words)
    form = _FORMS.get(kind, ())
    if len(words) != 1 + len(form):
        what = " ".join((*([] if arguments.all else ["SIMULATION"]), *form)) or "nothing else"
        raise ConfigError(f"After {kind}, give {what}.")
    fields: dict[str, Any] = {}
    if kind == "set":
        fields = {"parameter": words[1], "value": _number(words[2])}
    elif kind == "interval":
        fields = {"value": _number(words[1])}
    elif kind == "restart":
        simulation, sign, offset = words[1].rpartition("@")
        if not (sign and simulation and offset.isdecimal()):
            raise ConfigError(f"A frame is named SIMULATION@OFFSET, not {words[1]!r}.")
        fields = {"frame": FrameReference(simulation, int(offset))}
    return words[0], fields


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"{text!r} is not a number.") from None


def _list(found: dict[str, list[Capability]], *, as_json: bool) -> int:
    rows = [
        {
            "simulation": name,
            "kind": c.kind,
            "parameter": c.parameter,
            # JSON knows no infinity.
            "minimum": None if c.minimum == -float("inf") else c.minimum,
            "maximum": None if c.maximum == float("inf") else c.maximum,
            "unit": c.unit,
            "description": c.description,
        }
        for name in sorted(found)
        for c in found[name]
    ]
    if as_json:
        print(json.dumps(rows))
        return 0
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("simulation", "command", "from", "to", "unit", "what it is"):
        table.add_column(heading)
    for row in rows:
        bounds = ("" if row[side] is None else f"{row[side]:g}" for side in ("minimum", "maximum"))
        what = f"{row['kind']} {row['parameter']}".rstrip()
        texts = (row["simulation"], what, *bounds, plain_unit(str(row["unit"])), row["description"])
        table.add_row(*(escape(str(text)) for text in texts))
    Console().print(table)
    return 0
