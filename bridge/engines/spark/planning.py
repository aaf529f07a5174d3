"""Sharing out: read limits over streams, and ranges of frames over tasks."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

__all__ = ["Range", "deal", "pack", "share"]


@dataclass(frozen=True)
class Range:
    """Frames ``start`` to ``stop`` of one simulation, and about how many bytes they have."""

    simulation: str
    start: int
    stop: int
    nbytes: int


def share(
    available: Mapping[str, int], costs: Mapping[str, int], limit: int, *, first: int = 0
) -> dict[str, int]:
    """Share a limit out over streams, so that none gets less than another that wants as much.

    Parameters
    ----------
    available
        Stream to the number of frames that wait.
    costs
        Stream to the cost of one frame, in units of the limit.
    limit
        What all frames together may cost. At least one frame is granted if there is any.
    first
        Which stream, counted from 0 in alphabetical order, is the first to be rounded up; to be
        turned from one call to the next.

    Returns
    -------
    dict
        Stream to the number of frames that it may bring now.
    """
    names = sorted(name for name, n in available.items() if n > 0)
    if not names:
        return {}
    turn = first % len(names)
    names = names[turn:] + names[:turn]
    granted = dict.fromkeys(names, 0)
    left = limit
    # Whoever wants less than his even share leaves the rest to the others.
    order = sorted(names, key=lambda name: available[name] * max(1, costs[name]))
    for i, name in enumerate(order):
        cost = max(1, costs[name])
        fair = max(0, left) // (len(order) - i)
        granted[name] = min(available[name], fair // cost)
        left -= granted[name] * cost
    for name in names:
        cost = max(1, costs[name])
        if granted[name] < available[name] and cost <= left:
            granted[name] += 1
            left -= cost
    if not any(granted.values()):
        granted[names[0]] = 1
    return {name: n for name, n in granted.items() if n}


def pack(ranges: Iterable[Range], tasks: int, smallest: int) -> list[list[Range]]:
    """Pack ranges into tasks of about the same number of bytes.

    Parameters
    ----------
    ranges
        What to read.
    tasks
        How many tasks there may be.
    smallest
        Bytes of a task below which no further one is begun: small ranges of many streams go into
        one task.

    Returns
    -------
    list of list of Range
        One list for each task. Ranges of more than a task's even share are split.
    """
    wanted = [one for one in ranges if one.stop > one.start]
    total = sum(one.nbytes for one in wanted)
    count = max(1, min(tasks, total // max(1, smallest)))
    even = max(1, -(-total // count))
    pieces: list[Range] = []
    for one in wanted:
        parts = min(-(-one.nbytes // even), one.stop - one.start) or 1
        frames = one.stop - one.start
        edges = [one.start + frames * i // parts for i in range(parts + 1)]
        pieces += [
            Range(one.simulation, a, b, one.nbytes * (b - a) // frames) for a, b in pairwise(edges)
        ]
    bins = deal({i: piece.nbytes for i, piece in enumerate(pieces)}, count)
    return [sorted((pieces[i] for i in chosen), key=_place) for chosen in bins if chosen]


def _place(one: Range) -> tuple[str, int]:
    return one.simulation, one.start


def deal(weights: Mapping[int, int], hands: int) -> list[Sequence[int]]:
    """Deal weighted things out, the heaviest first, each to the hand that has least so far."""
    heap = [(0, 0, hand) for hand in range(hands)]
    out: list[list[int]] = [[] for _ in range(hands)]
    for key in sorted(weights, key=lambda k: (-weights[k], k)):
        total, number, hand = heapq.heappop(heap)
        out[hand].append(key)
        heapq.heappush(heap, (total + weights[key], number + 1, hand))
    return [sorted(chosen) for chosen in out]
