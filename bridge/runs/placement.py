"""Which processors the processes of a run may use: trainers can have some of their own.

Giving way by priority leaves what two processes cost each other that meet on one core. Where a
trainer has a core of its own, and everything else of the run keeps off it, they hardly meet.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator, Mapping

from bridge.errors import ConfigError

__all__ = ["Placement", "kept_to", "take_processors"]


class Placement:
    """Splits the processors that this process may use.

    Parameters
    ----------
    wanted
        Name of a process to the number of processors that are to be its own; 0 for none.

    Attributes
    ----------
    own
        Name to its processors, of those that have some.
    others
        What is left for everybody else; None where nobody has any of his own.

    Raises
    ------
    ConfigError
        If nothing would be left, or this system does not let a process choose.
    """

    def __init__(self, wanted: Mapping[str, int]) -> None:
        self.own: dict[str, frozenset[int]] = {}
        self.others: frozenset[int] | None = None
        total = sum(wanted.values())
        if not total:
            return
        available = _available()
        if total >= len(available):
            raise ConfigError(
                f"'processors' asks for {total} that are the trainers' own, and this run may use "
                f"{len(available)} of this machine; leave one at least for everything else."
            )
        for name, count in wanted.items():
            if count:
                self.own[name] = frozenset(available[-count:])
                available = available[:-count]
        self.others = frozenset(available)


def _available() -> list[int]:
    if not hasattr(os, "sched_getaffinity"):
        raise ConfigError(
            "This system does not let a process choose its processors; leave out 'processors'."
        )
    return sorted(os.sched_getaffinity(0))


@contextlib.contextmanager
def kept_to(processors: Collection[int] | None) -> Iterator[None]:
    """Keep this thread, and whatever it starts meanwhile, to some processors; None for no change.

    Raises
    ------
    ConfigError
        If the system refuses.
    """
    if processors is None:
        yield
        return
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, processors)
    except OSError as error:
        raise ConfigError(
            f"The processors {sorted(processors)} cannot be used: {error.strerror}. Leave out "
            "'processors'."
        ) from error
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def take_processors(count: int) -> contextlib.AbstractContextManager[None]:
    """Keep this thread, and whatever it starts meanwhile, to so many processors; 0 for any.

    Raises
    ------
    ConfigError
        As `Placement`, and `kept_to`.
    """
    return kept_to(Placement({"": count}).own.get(""))
