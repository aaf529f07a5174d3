"""Configuration: TOML tables into typed objects that refuse unknown keys and name the nearest."""

from __future__ import annotations

import difflib
import inspect
import tomllib
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from bridge.errors import ConfigError, HeadraceError
from bridge.mistakes import describe_mistake

__all__ = [
    "build",
    "check_arguments",
    "find_entry_point",
    "parse_bytes",
    "parse_duration",
    "read_toml",
    "refuse_unknown",
    "to_struct",
]

T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)

_BYTES = {"": 1, "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9}
_BYTES |= {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_SECONDS = {"": 1.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "min": 60.0, "h": 3600.0}


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises
    ------
    ConfigError
        If it cannot be read, or is not TOML; the message names the file and the line.
    """
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"Cannot read {path}: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}.") from error


def refuse_unknown(given: Iterable[str], known: Iterable[str], where: str) -> None:
    """Raise a `ConfigError` for the first key that is not known, naming the nearest one."""
    names = sorted(known)
    for key in given:
        if key not in names:
            near = difflib.get_close_matches(key, names, 1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"known are: {', '.join(names)}."
            raise ConfigError(f"{where} has the unknown key {key!r}; {hint}")


def to_struct(cls: type[S], table: Mapping[str, Any], where: str) -> S:
    """Make a typed object from a table.

    Parameters
    ----------
    cls
        A `msgspec.Struct`; fields that are themselves structs are checked as well.
    where
        What the table is, for messages, such as ``run.toml, [staging]``.

    Raises
    ------
    ConfigError
        For an unknown key, a missing one, or a value of the wrong type.
    """
    _check(cls, table, where)
    try:
        return msgspec.convert(table, cls)
    except HeadraceError as error:
        raise ConfigError(f"{where}: {error}") from error
    except msgspec.ValidationError as error:
        cause = error.__cause__
        said = str(cause) if isinstance(cause, HeadraceError) else ""
        said = said or describe_mistake(error, cls, table)
        raise ConfigError(f"{where}: {said}") from error


def _check(cls: type[msgspec.Struct], table: Mapping[str, Any], where: str) -> None:
    fields = {f.encode_name: f for f in msgspec.structs.fields(cls)}
    refuse_unknown(table, fields, where)
    for name, value in table.items():
        kind = fields[name].type
        if (
            isinstance(value, Mapping)
            and isinstance(kind, type)
            and issubclass(kind, msgspec.Struct)
        ):
            _check(kind, value, f"{where}, {name}")


def check_arguments(factory: Callable[..., Any], table: Mapping[str, Any], where: str) -> None:
    """Raise a `ConfigError` for a key that a constructor does not take, or one that is missing."""
    parameters = inspect.signature(factory).parameters
    known = [p.name for p in parameters.values() if p.kind is not p.VAR_KEYWORD]
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        refuse_unknown(table, known, where)
    missing = [
        p.name
        for p in parameters.values()
        if p.default is p.empty
        and p.name not in table
        and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    ]
    if missing:
        raise ConfigError(f"{where} lacks {', '.join(repr(m) for m in missing)}.")


def build(factory: type[T], table: Mapping[str, Any], where: str) -> T:
    """Call a class with a table's entries as keyword arguments.

    Raises
    ------
    ConfigError
        For a key that the constructor does not take, one that is missing, or a value it refuses.
    """
    check_arguments(factory, table, where)
    try:
        return factory(**table)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: {str(error).rstrip('.')}.") from error


def find_entry_point(group: str, name: str, where: str) -> Any:
    """Load what a distribution registered under a name, or ``module:object`` itself.

    Raises
    ------
    ConfigError
        If there is no such entry point; the message names those that there are.
    """
    try:
        if ":" in name:
            return metadata.EntryPoint(name, name, group).load()
        points = {p.name: p for p in metadata.entry_points(group=group)}
        if name not in points:
            near = difflib.get_close_matches(name, points, 1, cutoff=0.5)
            guess = f"did you mean {near[0]!r}? Known" if near else "known"
            raise ConfigError(
                f"{where}: there is no {name!r} among {group}; {guess} are: "
                f"{', '.join(sorted(points)) or 'none'}; or write module:object."
            )
        return points[name].load()
    except (ModuleNotFoundError, AttributeError) as error:
        raise ConfigError(f"{where}: cannot load {name!r}: {error}.") from error


def _parse(text: str | float, units: Mapping[str, float], what: str) -> float:
    if isinstance(text, (int, float)):
        return float(text)
    number = text.strip().rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    unit = text.strip()[len(number) :]
    try:
        return float(number) * units[unit]
    except (KeyError, ValueError):
        known = ", ".join(u for u in units if u)
        raise ConfigError(f"{text!r} is not a {what}; write a number and one of {known}.") from None


def parse_bytes(text: str | float) -> int:
    """Read a size such as ``"64 MiB"``; a bare number is bytes."""
    return int(_parse(text, _BYTES, "size"))


def parse_duration(text: str | float) -> float:
    """Read a duration such as ``"250 ms"``, in seconds; a bare number is seconds."""
    return _parse(text, _SECONDS, "duration")
