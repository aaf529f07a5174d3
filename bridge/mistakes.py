"""What is wrong with a value of a configuration, in a sentence for whoever wrote it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import inspect

__all__ = ["describe_mistake"]

_TYPES = {
    "int": "a whole number",
    "float": "a number",
    "str": 'text, in "quotes"',
    "bool": "true or false",
    "array": "a list, in [brackets]",
    "object": "a table",
    "null": "left out",
}
_PLACE = re.compile(r" - at `(\$[^`]*)`$")
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]")


def describe_mistake(error: msgspec.ValidationError, cls: type[Any], table: Any) -> str:
    """Return what msgspec found, as a sentence that names the key, its value and what it may be.

    Parameters
    ----------
    error
        What `msgspec.convert` raised.
    cls
        What it was to make.
    table
        What it was to make it of.
    """
    said = str(error)
    place = _PLACE.search(said)
    steps = [] if place is None else _split(place[1])
    said = said[: place.start()] if place else said
    key, value, known = _look_up(steps, table)
    if missing := re.fullmatch(r"Object missing required field `(.*)`", said):
        return f"The key {'.'.join([*key, missing[1]])!r} is missing."
    if not known or not key:
        return f"{said}." if place is None else f"{said}, at {place[1].removeprefix('$.')}."
    head = f"The key {'.'.join(key)!r} is {_show(value)}; it must be"
    if said.startswith("Invalid enum value") and (choices := _choices(steps, cls)):
        return f"{head} one of {', '.join(map(_show, choices))}."
    if found := re.fullmatch(r"Expected `array` of length (\d+), got \d+", said):
        return f"{head} a list of {found[1]}."
    if found := re.fullmatch(r"Expected `([a-z |]+)`, got `[a-z]+`", said):
        kinds = [_TYPES.get(kind, kind) for kind in found[1].split(" | ") if kind != "null"]
        return f"{head} {', or '.join(kinds)}."
    return f"{head} something else: {said[:1].lower()}{said[1:]}."


def _split(place: str) -> list[str]:
    """Return the steps of a path such as ``$.report.maps[0].name``."""
    return [match[1] or match[2] for match in _STEP.finditer(place)]


def _look_up(steps: list[str], table: Any) -> tuple[list[str], Any, bool]:
    """Return the readable steps, the value they lead to, and whether they lead to one."""
    value, key = table, []
    for step in steps:
        if isinstance(value, Mapping) and step in value:
            value = value[step]
            key.append(step)
        elif isinstance(value, list | tuple) and step.isdigit() and int(step) < len(value):
            value = value[int(step)]
            key[-1:] = [f"{key[-1] if key else ''}[{step}]"]
        else:
            # The keys of a map are not told: it was one of them.
            return key, None, False
    return key, value, True


def _choices(steps: list[str], cls: type[Any]) -> tuple[Any, ...]:
    """Return the values that are allowed there, if they can be counted."""
    found: list[inspect.Type] = [inspect.type_info(cls)]
    for step in steps:
        found = [inner for kind in found for inner in _enter(kind, step)]
    values: list[Any] = []
    for kind in found:
        if isinstance(kind, inspect.LiteralType):
            values += kind.values
        elif isinstance(kind, inspect.EnumType):
            values += [member.value for member in kind.cls]
    return tuple(values)


def _enter(kind: inspect.Type, step: str) -> list[inspect.Type]:
    if isinstance(kind, inspect.StructType):
        inner = [field.type for field in kind.fields if field.encode_name == step]
    elif isinstance(kind, inspect.DictType):
        inner = [kind.value_type]
    elif isinstance(kind, inspect.TupleType):
        inner = list(kind.item_types)
    elif isinstance(kind, inspect.CollectionType):
        inner = [kind.item_type]
    else:
        inner = []
    return [one for i in inner for one in (i.types if isinstance(i, inspect.UnionType) else (i,))]


def _show(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "a table"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
