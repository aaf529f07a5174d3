"""Operators read what they say they read, and nothing else."""

from __future__ import annotations

import pytest

from bridge.testing.answers import assert_same
from bridge.testing.operators import run_operator
from tests.conformance.operator_cases import ALL, Case


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
def test_declared_columns_are_enough(case: Case) -> None:
    reads = case.make().reads()
    assert reads is not None, "Every operator of ours says what it reads."
    few = [b.select([name for name in reads if name in b]) for b in case.stream]
    added = run_operator(case.make(), case.stream)
    alone = run_operator(case.make(), few)
    for batches in (added.batches, alone.batches):
        batches[:] = [
            b.select([c for c in b.columns if c not in case.stream[0].columns]) for b in batches
        ]
    assert_same(added, alone, "given only the columns that it reads", rtol=0.0, atol=0.0)
