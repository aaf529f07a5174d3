"""A run with others beside it, to lay their results over each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bridge.dashboard.feed import Feed, open_feed
from bridge.dashboard.stores.memory import Limits
from bridge.errors import ConfigError
from bridge.runs.directory import RunDirectory

__all__ = ["ComparedFeed", "open_compared"]

TOLD = ("title", "columns", "temperature", "time_unit", "simulations", "started", "state")


class ComparedFeed:
    """A feed that knows others by name; everything else is its own.

    Parameters
    ----------
    feed
        The run.
    others
        Name to feed.
    """

    def __init__(self, feed: Feed, others: Mapping[str, Feed]) -> None:
        self._feed = feed
        self._others = dict(others)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._feed, name)

    def version(self, kinds: Sequence[str]) -> int:
        """Return a number that grows whenever there is news of one of them; see `Feed.version`."""
        return sum(feed.version(kinds) for feed in (self._feed, *self._others.values()))

    def listen(self, told: Callable[[], None]) -> None:
        """Have something called whenever there is news of one of them; see `Feed.listen`."""
        for feed in (self._feed, *self._others.values()):
            feed.listen(told)

    def watch(self, paces: Mapping[str, float], slower: float = 1.0) -> None:
        """Read all of them as often as is looked at; see `Feed.watch`."""
        for feed in (self._feed, *self._others.values()):
            feed.watch(paces, slower)

    def run(self, at: float | None = None) -> dict[str, Any]:
        """Return what the run is, and in ``compare`` what the others are."""
        compare = []
        for name, feed in self._others.items():
            facts = feed.run()
            compare.append({"name": name, **{key: facts[key] for key in TOLD}})
        return {**self._feed.run(at), "compare": compare}

    def of_run(self, name: str) -> Feed:
        """Return the feed of one of the others.

        Raises
        ------
        ConfigError
            If there is none of that name.
        """
        found = self._others.get(name)
        if found is None:
            known = ", ".join(self._others) or "none; name some with --compare"
            raise ConfigError(f"There is no run {name!r} to compare with; there are: {known}.")
        return found

    def close(self) -> None:
        """End; waits for the threads of all."""
        for feed in (*self._others.values(), self._feed):
            feed.close()


def open_compared(
    feed: Feed, paths: Sequence[Path], *, limits: Limits | None = None
) -> ComparedFeed:
    """Open other runs beside one; they are named after their folders.

    Raises
    ------
    ConfigError
        If a folder is not that of a run.
    """
    others: dict[str, Feed] = {}
    try:
        for path in paths:
            directory = RunDirectory(path)
            directory.read_resolved()
            name, number = directory.path.name, 1
            while name in others:
                number += 1
                name = f"{directory.path.name}-{number}"
            others[name] = open_feed(directory, limits=limits)
    except BaseException:
        for other in others.values():
            other.close()
        raise
    return ComparedFeed(feed, others)
