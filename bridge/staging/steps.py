"""Steps of which some ranks' blocks are there, those that can never be complete, and their count.

Each rank drops by itself when it has no room: none knows what the others do at the same step, and
asking them would be the wait that the policy is there to avoid. So the stager gives a step up as
soon as it sees that one rank has passed over it (steps only go up), and takes no more blocks of it.
"""

from __future__ import annotations

from collections.abc import Iterator

from bridge.staging.messages import Part

__all__ = ["Brought", "OpenSteps"]

_NEVER = 1 << 63
"""Below this, a rank that has left brings no step any more."""

_REMEMBERED = 1024
"""Steps that were given up of which blocks are still expected, at most."""

Brought = tuple[Part, float, int]


class _Course:
    """How far a rank has come.

    Attributes
    ----------
    low
        The lowest step that it may still bring.
    passed
        Given-up steps that it passed over.
    dropped
        Steps that it dropped, as far as it has told.
    """

    __slots__ = ("dropped", "low", "passed")

    def __init__(self) -> None:
        self.low = 0
        self.passed = 0
        self.dropped = 0


class OpenSteps:
    """Blocks that wait for those of other ranks; a state machine without I/O.

    Parameters
    ----------
    ranks
        How many ranks bring a block of each step.

    Attributes
    ----------
    incomplete
        Steps that were given up after some ranks, but not all, had brought or sent a block.
    """

    def __init__(self, ranks: int) -> None:
        self.ranks = ranks
        self.incomplete = 0
        self._waiting: dict[int, dict[int, Brought]] = {}
        self._given_up: dict[int, None] = {}
        self._courses: dict[int, _Course] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[int]:
        return iter(self._waiting)

    def of(self, step: int) -> dict[int, Brought]:
        """Return rank to block of a step that waits; empty if there is none."""
        return self._waiting.get(step, {})

    def oldest(self) -> tuple[int, dict[int, Brought]] | None:
        """Return the step that waits longest, and what is there of it."""
        return next(iter(self._waiting.items()), None)

    def _course(self, rank: int) -> _Course:
        return self._courses.setdefault(rank, _Course())

    # ------------------------------------------------------------------ blocks

    def advance(self, rank: int, low: int) -> list[int]:
        """Note that a rank brings no step below this one any more.

        Returns
        -------
        hopeless
            Steps that wait for it in vain; give them up.
        """
        course = self._course(rank)
        course.passed += sum(course.low <= step < low for step in self._given_up)
        before, course.low = course.low, max(course.low, low)
        hopeless: list[int] = []
        if self._waiting and next(reversed(self._waiting)) >= before:
            # Steps lie here in their order: a new one comes from nobody who is behind.
            for step, there in self._waiting.items():
                if step >= low:
                    break
                if rank not in there:
                    hopeless.append(step)
        return hopeless

    def join(self, rank: int) -> None:
        """Note that a rank is there, perhaps again."""
        course = self._course(rank)
        if course.low == _NEVER:
            course.low = 0

    def leave(self, rank: int) -> list[int]:
        """Note that a rank brings nothing any more; see `advance`."""
        return self.advance(rank, _NEVER)

    def bring(self, rank: int, step: int, block: Brought) -> bool:
        """Take a block up; false if its step can never be complete, and it is not taken."""
        there = self._waiting.get(step, {})
        lost = step in self._given_up
        if not lost and any(
            course.low > step and r not in there for r, course in self._courses.items() if r != rank
        ):
            lost = True
            self._lose(step, (*there, rank))
        course = self._course(rank)
        course.low = max(course.low, step + 1)
        if lost:
            return False
        self._waiting.setdefault(step, {})[rank] = block
        return True

    def restore(self, rank: int, step: int, block: Brought) -> None:
        """Take a block up again that waited when the stager ended."""
        self._waiting.setdefault(step, {})[rank] = block
        course = self._course(rank)
        course.low = max(course.low, step + 1)

    def complete(self, step: int) -> dict[int, Brought]:
        """Take out a step of which all is there."""
        for rank in range(self.ranks):
            course = self._course(rank)
            course.low = max(course.low, step + 1)
        return self._waiting.pop(step, {})

    def give_up(self, step: int) -> dict[int, Brought]:
        """Take out a step that is not complete, and take no more blocks of it."""
        there = self._waiting.pop(step)
        self._lose(step, tuple(there))
        return there

    def _lose(self, step: int, there: tuple[int, ...]) -> None:
        self.incomplete += 1
        for rank, course in self._courses.items():
            course.passed += rank not in there and course.low > step
        self._given_up[step] = None
        # Nobody brings what all have passed over.
        behind = min((self._course(rank).low for rank in range(self.ranks)), default=0)
        for old in [s for s in self._given_up if s < behind]:
            del self._given_up[old]
        while len(self._given_up) > _REMEMBERED:
            del self._given_up[next(iter(self._given_up))]

    # ------------------------------------------------------------------ counts

    def dropped(self, rank: int, total: int) -> None:
        """Note how many blocks a rank has dropped in all."""
        course = self._course(rank)
        course.dropped = max(course.dropped, total)

    @property
    def lost(self) -> int:
        """Steps that were given up, by one rank or by all; each counts once.

        A rank that dropped more than the given-up steps which it passed over dropped the rest where
        all others did.
        """
        together = min(
            (self._course(rank).dropped - self._course(rank).passed for rank in range(self.ranks)),
            default=0,
        )
        return self.incomplete + max(0, together)
