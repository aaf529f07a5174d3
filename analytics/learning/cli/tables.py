"""How ``headrace models`` shows what there is: tables for people, plain data for machines."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from analytics.learning.registry import Card, Registry, Served

__all__ = [
    "as_data",
    "card_as_data",
    "plain",
    "say",
    "show_card",
    "show_differences",
    "show_history",
    "show_versions",
]

_INDENT = 5


def say(text: str) -> None:
    """Write a sentence."""
    Console(soft_wrap=True).print(text, markup=False, highlight=False)


def plain(value: Any) -> Any:
    """Return plain data that JSON can hold, with every field."""
    if isinstance(value, msgspec.Struct):
        return {name: plain(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def as_data(registry: Registry, name: str) -> dict[str, Any]:
    """Return all that is known of a model."""
    history = registry.history(name)
    return {
        "name": name,
        "served": plain(history[-1]) if history else None,
        "versions": [card_as_data(registry, card) for card in registry.cards(name)],
        "history": plain(history),
    }


def card_as_data(registry: Registry, card: Card) -> dict[str, Any]:
    """Return a card, and the numbers that it was served as."""
    history = registry.history(card.name)
    numbers = [entry.number for entry in history if entry.version == card.version]
    served = bool(history) and history[-1].version == card.version
    return {**plain(card), "served_as": numbers, "served": served}


def show_versions(registry: Registry, name: str) -> None:
    """Draw the versions of a model, oldest first."""
    table = _table("version", "kind", "made", "frames", "score", "from", "state", "note")
    history = registry.history(name)
    for card in registry.cards(name):
        table.add_row(
            card.version[:12],
            escape(card.kind.rpartition(".")[2]),
            time.strftime("%m-%d %H:%M", time.localtime(card.created)),
            str(card.frames),
            _number(card.metrics.get("score")),
            card.parent[:8],
            _state(card, history),
            escape(card.note),
        )
    _draw(table, name)


def show_history(registry: Registry, name: str) -> None:
    """Draw what was served under a name, oldest first."""
    console = Console()
    console.print(name, style="bold", markup=False, highlight=False)
    for entry in registry.history(name):
        kind = f"[yellow]{entry.kind}[/]" if entry.kind == "rollback" else entry.kind
        score = _number(entry.metrics.get("score"))
        told = [f"{entry.number:>3}", entry.version[:12], _when(entry.at), kind]
        told += [f"by {escape(entry.author)}"] if entry.author else []
        told += [f"score {score}"] if score else []
        console.print("  ".join(told), highlight=False, soft_wrap=True)
        # In whole lines of its own: a reason is a sentence or two, and terminals are narrow.
        if entry.reason:
            reason = Text(entry.reason, style="dim")
            console.print(Padding(reason, (0, 0, 0, _INDENT)))


def show_card(registry: Registry, card: Card) -> None:
    """Draw all that is known of a version."""
    table = Table(box=None, show_header=False, pad_edge=False)
    shape = "×".join(map(str, card.input_shape)) or "one number"
    facts = [
        ("version", card.version),
        ("model", card.name),
        ("state", _state(card, registry.history(card.name)) or "not served"),
        ("kind", escape(card.kind)),
        ("takes", f"{shape}{', in pairs' if card.lagged else ''}"),
        ("gives", f"{card.latent} coordinates{', aligned' if card.aligned else ''}"),
        ("parameters", f"{card.parameters} ({card.nbytes / 1e6:.3g} MB)"),
        ("made", f"{_when(card.created)} by {card.code}, torch {card.torch}"),
        ("source", card.source or "unknown"),
        ("from", card.parent or "nothing"),
        ("learned", f"{card.frames} frames, {card.updates} updates"),
    ]
    facts += [(f"  {key}", _number(value)) for key, value in card.metrics.items()]
    facts += [("hyper", "")] if card.hyper else []
    facts += [(f"  {key}", escape(_number(value))) for key, value in card.hyper.items()]
    facts += [("frames of", "")] if card.trained_on else []
    facts += [(f"  {escape(key)}", _ranges(value)) for key, value in card.trained_on.items()]
    facts += [("note", escape(card.note))] if card.note else []
    # A hash is longer than a narrow terminal is wide; it is not to be cut off.
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for what, value in facts:
        table.add_row(what, value)
    Console(soft_wrap=True).print(table)


def show_differences(first: Card, second: Card, result: Mapping[str, Any]) -> None:
    """Draw what `analytics.learning.cli.comparing` found."""
    table = _table("", first.version[:12], second.version[:12])
    for key, pair in result["differences"].items():
        table.add_row(escape(key), *(escape(_number(value)) for value in pair))
    for key, pair in result["metrics"].items():
        table.add_row(f"metric {escape(key)}", *map(_number, pair))
    frames = result.get("frames")
    if frames is not None:
        table.add_row(f"score on {frames['frames']} frames", *map(_number, frames["scores"]))
    Console(soft_wrap=True).print(table)
    if frames is None:
        return
    say(
        f"On {frames['frames']} frames of {frames['topic']} the second scores "
        f"{_number(frames['difference'])} more than the first, at least "
        f"{_number(frames['at_least'])} more with {100 * frames['confidence']:.3g} % confidence."
    )
    if frames["correlations"] is not None:
        told = ", ".join(map(_number, frames["correlations"]))
        say(f"Their coordinates go together with correlations of {told}.")


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", title_justify="left")
    right, long = ("frames", "score", "number"), ("kind", "note", "by", "reason")
    for heading in headings:
        table.add_column(
            heading,
            justify="right" if heading in right else "left",
            # Hashes stay in one piece, to be copied; words go on in the next line.
            no_wrap=heading not in long,
            overflow="fold",
        )
    return table


def _draw(table: Table, name: str) -> None:
    console = Console(soft_wrap=True)
    console.print(name, style="bold", markup=False, highlight=False)
    console.print(table)


def _state(card: Card, history: list[Served]) -> str:
    numbers = [entry.number for entry in history if entry.version == card.version]
    if not numbers:
        return ""
    if history[-1].version == card.version:
        return f"[green]served as {numbers[-1]}[/]"
    return f"[dim]was {', '.join(map(str, numbers))}[/]"


def _when(stamp: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(stamp))


def _number(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _ranges(ranges: list[tuple[int, int]]) -> str:
    shown = ", ".join(f"{first} to {stop - 1}" for first, stop in ranges[:8])
    more = len(ranges) - 8
    return f"{shown}, and {more} ranges more" if more > 0 else shown
