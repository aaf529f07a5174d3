"""Verbs that others bring: found by entry point, imported when they are wanted."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from importlib import metadata

from bridge.errors import ConfigError, HeadraceError
from bridge.verbs import GROUP, ContributedVerb

__all__ = ["Contributed", "describe", "find", "load"]


def find(taken: Mapping[str, str]) -> dict[str, list[metadata.EntryPoint]]:
    """Return who brings which verb, by name; names that are `taken` are left out."""
    found: dict[str, list[metadata.EntryPoint]] = {}
    for point in metadata.entry_points(group=GROUP):
        if point.name not in taken:
            same = found.setdefault(point.name, [])
            # An editable install beside an older one lists the same module twice.
            if point.value not in [one.value for one in same]:
                same.append(point)
    return dict(sorted(found.items()))


class Contributed:
    """A verb that another package brings, with what the command line does for it."""

    def __init__(self, verb: ContributedVerb) -> None:
        self._verb = verb
        self.help = verb.HELP

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the arguments."""
        self._verb.add_arguments(parser)

    def execute(self, arguments: argparse.Namespace) -> int:
        """Do it, and return the exit code."""
        from bridge.cli.services import CommandLine

        return self._verb.execute(arguments, CommandLine())


def load(points: list[metadata.EntryPoint]) -> Contributed:
    """Import the module of a verb.

    Raises
    ------
    ConfigError
        If it cannot be imported, lacks something, or two distributions bring the same verb.
    """
    name = points[0].name
    if len(points) > 1:
        origins = ", ".join(sorted(map(_origin, points)))
        raise ConfigError(
            f"Several distributions bring the verb {name!r}: {origins}. Remove all but one of them."
        )
    try:
        verb: ContributedVerb = points[0].load()
    except HeadraceError:
        raise
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"The verb {name!r} cannot be loaded from {_origin(points[0])}: {error}. "
            "Install that distribution again."
        ) from error
    missing = [part for part in ("HELP", "add_arguments", "execute") if not hasattr(verb, part)]
    if missing:
        raise ConfigError(
            f"The verb {name!r} of {_origin(points[0])} lacks {' and '.join(missing)}; see "
            "bridge.verbs.ContributedVerb for what a verb must have."
        )
    return Contributed(verb)


def describe(points: list[metadata.EntryPoint]) -> str:
    """Return the one line that tells what a verb does, or why it cannot be had."""
    try:
        return load(points).help
    except HeadraceError as error:
        return str(error)


def _origin(point: metadata.EntryPoint) -> str:
    return f"{point.value} ({point.dist.name})" if point.dist is not None else point.value
