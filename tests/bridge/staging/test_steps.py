"""Which steps are given up, and how often they are counted, whatever order blocks come in."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bridge.staging.messages import Part
from bridge.staging.steps import OpenSteps

RANKS = 3
BLOCK = (Part(0, 0, 1, 0, 1, 0), 0.0, 0)


class Model:
    """Feeds the blocks of ranks, each of which drops some, and keeps what became of each step."""

    def __init__(self, kept: list[list[bool]]) -> None:
        self.steps = OpenSteps(RANKS)
        self.left = [[(step, k) for step, k in enumerate(course)] for course in kept]
        self.complete: list[int] = []
        self.drops = [0] * RANKS

    def turn(self, rank: int) -> None:
        """Let a rank bring, or drop, its next step; then it leaves."""
        if not self.left[rank]:
            return
        step, keep = self.left[rank].pop(0)
        if keep:
            for hopeless in self.steps.advance(rank, step):
                assert len(self.steps.give_up(hopeless)) < RANKS
            if self.steps.bring(rank, step, BLOCK) and len(self.steps.of(step)) == RANKS:
                self.steps.complete(step)
                self.complete.append(step)
        else:
            self.drops[rank] += 1
        self.steps.dropped(rank, self.drops[rank])
        if not self.left[rank]:
            for hopeless in self.steps.leave(rank):
                self.steps.give_up(hopeless)


@given(
    st.integers(0, 12).flatmap(
        lambda n: st.lists(
            st.lists(st.booleans(), min_size=n, max_size=n), min_size=RANKS, max_size=RANKS
        )
    ),
    st.lists(st.integers(0, RANKS - 1), max_size=40),
)
def test_every_step_is_complete_or_counted_once(kept: list[list[bool]], order: list[int]) -> None:
    model = Model(kept)
    n = len(kept[0])
    for rank in [*order, *(r for r in range(RANKS) for _ in range(n))]:
        model.turn(rank)
    expected = [step for step in range(n) if all(course[step] for course in kept)]
    assert model.complete == expected
    assert len(model.steps) == 0
    assert model.steps.lost == n - len(expected)
    partly = [s for s in range(n) if any(c[s] for c in kept) and not all(c[s] for c in kept)]
    assert model.steps.incomplete == len(partly)


def test_a_step_is_given_up_as_soon_as_a_rank_has_passed_over_it() -> None:
    steps = OpenSteps(3)
    assert steps.advance(0, 5) == []
    assert steps.bring(0, 5, BLOCK)
    assert steps.advance(1, 6) == [5]
    assert list(steps.give_up(5)) == [0]
    assert steps.bring(1, 6, BLOCK)
    assert not steps.bring(2, 5, BLOCK)
    assert (steps.incomplete, list(steps)) == (1, [6])


def test_a_rank_that_skips_a_step_and_the_next_is_not_waited_for() -> None:
    steps = OpenSteps(2)
    steps.advance(0, 4)
    assert steps.bring(1, 4, BLOCK)
    assert steps.advance(0, 5) == [4]


def test_a_rank_that_comes_again_is_waited_for() -> None:
    steps = OpenSteps(2)
    steps.leave(1)
    steps.join(1)
    assert steps.bring(0, 3, BLOCK)
