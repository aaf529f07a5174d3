"""Which of the remembered frames to restart from: one chooser a rule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from analytics.novelty import VisitMemory, neighbour_distances

__all__ = ["Choice", "Chooser", "Novel", "Rare", "Sparse", "Uniform", "draw_weighted"]

Array = npt.NDArray[Any]

_GROWTH = 20


def draw_weighted(weights: Array, random: np.random.Generator) -> int:
    """Draw an index with probability in proportion to its weight.

    Parameters
    ----------
    weights
        Shape (n,), not negative, at least one positive.
    """
    edges = np.cumsum(weights)
    index = int(np.searchsorted(edges, random.random() * edges[-1], side="right"))
    # The product may be rounded up to the sum.
    return index if index < len(edges) else int(np.flatnonzero(weights)[-1])


class Choice(NamedTuple):
    """A frame, and why it was chosen.

    Attributes
    ----------
    slot
        Where the frame lies in the memory.
    why
        End of a sentence that begins with the name of the frame.
    evidence
        The numbers.
    """

    slot: int
    why: str
    evidence: dict[str, Any]


class Chooser(Protocol):
    """A rule."""

    def columns(self, n: int) -> dict[str, Array]:
        """Return what the rule wants remembered beside each of `n` new frames."""

    def choose(self, visited: VisitMemory, random: np.random.Generator) -> Choice | None:
        """Choose one of the remembered frames; None if there are no candidates yet."""

    def save(self) -> dict[str, Any]:
        """Return the rule's own state."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what `save` returned."""


class Uniform:
    """Any frame: the control that the other rules are measured against."""

    def columns(self, n: int) -> dict[str, Array]:
        """Nothing."""
        return {}

    def choose(self, visited: VisitMemory, random: np.random.Generator) -> Choice | None:
        """Draw a frame uniformly."""
        n = len(visited.memory)
        slot = int(random.random() * n)
        return Choice(slot, f"drawn at random from {n} frames as a control", {"candidates": n})

    def save(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Nothing."""


class Rare(Uniform):
    """A frame from a bin with few visits (count-based adaptive sampling).

    Bins are drawn with weight ``1 / count**power``, then a frame of the bin uniformly
    (Bowman, Ensign, Pande 2010, doi:10.1021/ct900620b; Weber and Pande 2011,
    doi:10.1021/ct200484f).
    """

    def __init__(self, power: float) -> None:
        self.power = power

    def choose(self, visited: VisitMemory, random: np.random.Generator) -> Choice | None:
        """Draw a bin, then a frame."""
        bins, n = visited.bins, len(visited.memory)
        assert bins is not None
        slot = bins.draw(random, self.power)
        count = int(bins.counts[bins.index[slot]])
        return Choice(
            slot,
            f"whose bin holds {count} of {n} remembered frames",
            {"count": count, "bins": len(bins), "candidates": n},
        )


class Sparse(Uniform):
    """A frame whose neighbours are far.

    Frames are drawn with weight ``distance**power``, where the distance is that to the k-th
    nearest remembered frame. Distances are taken when a choice is due and enough frames came since
    the last time: `update_every`, or a twentieth of all if that is more, so that the cost of a
    frame does not grow with the memory. Frames that came later are no candidates until then.
    """

    def __init__(self, power: float, neighbours: int, update_every: int) -> None:
        self.power = power
        self.neighbours = neighbours
        self.update_every = update_every
        self._due = 0

    def columns(self, n: int) -> dict[str, Array]:
        """Return the distance, unknown as yet."""
        return {"distance": np.zeros(n)}

    def choose(self, visited: VisitMemory, random: np.random.Generator) -> Choice | None:
        """Draw a frame."""
        memory = visited.memory
        distances = memory["distance"]
        if memory.seen >= self._due:
            distances[:] = neighbour_distances(memory["coordinates"], self.neighbours)
            self._due = memory.seen + max(self.update_every, memory.seen // _GROWTH)
        largest = float(distances.max())
        if largest <= 0.0:
            return None
        # Relative to the largest, no power can overflow.
        slot = draw_weighted((distances / largest) ** self.power, random)
        candidates = int(np.count_nonzero(distances))
        distance = float(distances[slot])
        rank = int(np.count_nonzero(distances > distance)) + 1
        return Choice(
            slot,
            f"whose neighbour {self.neighbours} is {distance:.3g} away, rank {rank} of "
            f"{candidates} remembered frames",
            {"distance": distance, "rank": rank, "candidates": candidates},
        )

    def save(self) -> dict[str, Any]:
        """Return when distances are due."""
        return {"due": self._due}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what `save` returned."""
        self._due = int(state["due"])


class Novel(Uniform):
    """One of the frames with the highest scores, each as its score was when it came."""

    def __init__(self, top: int) -> None:
        self.top = top

    def choose(self, visited: VisitMemory, random: np.random.Generator) -> Choice | None:
        """Draw uniformly from the `top` highest scores; among equals, the later slots."""
        scores = visited.memory["score"]
        candidates = int(np.count_nonzero(scores > -np.inf))
        top = min(self.top, candidates)
        if not top:
            return None
        best = np.argpartition(scores, len(scores) - top)[len(scores) - top :]
        slot = int(np.sort(best)[int(random.random() * top)])
        score = float(scores[slot])
        return Choice(
            slot,
            f"whose score {score:.3g} is among the {top} highest of {candidates} remembered frames",
            {"score": score, "candidates": candidates},
        )
