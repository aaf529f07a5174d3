"""Every operator of ours passes the public suite, and the suite finds operators that cheat."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from bridge.frames import FrameBatch
from bridge.pipeline import Context, FrameOperator, GlobalOperator, KeyedOperator, Operator
from bridge.testing import operators
from bridge.testing.operators import (
    CHECKS,
    check_cuts,
    check_operator,
    check_scope,
    random_stream,
)
from tests.conformance.operator_cases import ALL, Case

STREAM = random_stream({"x": (2,)}, frames=60)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
def test_our_operators(case: Case, check: Callable[..., None]) -> None:
    own = {"rtol": case.rtol, "atol": case.atol} if check in (check_cuts, check_scope) else {}
    check(case.make, case.stream, **own)


class Total(KeyedOperator):
    """Honest: the running sum of a simulation."""

    def __init__(self) -> None:
        self.sum = np.zeros(2)

    def process(self, batch: FrameBatch, context: Context) -> FrameBatch:
        total = self.sum + np.cumsum(batch["x"], axis=0, dtype=np.float64)
        self.sum = total[-1]
        return batch.with_columns({"total": total})

    def save(self) -> dict[str, Any]:
        return {"sum": self.sum}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.sum = state["sum"]


class BatchMean(FrameOperator):
    """Looks at its neighbours."""

    def process(self, batch: FrameBatch, context: Context) -> FrameBatch:
        return batch.with_columns({"y": batch["x"] - batch["x"].mean(axis=0)})


class Forgetful(Total):
    """Saves nothing."""

    def save(self) -> dict[str, Any]:
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.sum = np.zeros(2)


class Shared(Total):
    """Keeps its state where all copies find it."""

    memory: list[Any] = [np.zeros(2)]  # noqa: RUF012

    def process(self, batch: FrameBatch, context: Context) -> FrameBatch:
        self.sum = self.memory[0]
        out = super().process(batch, context)
        self.memory[0] = self.sum
        return out


class InPlace(FrameOperator):
    """Adds to the batch that it was given."""

    def process(self, batch: FrameBatch, context: Context) -> FrameBatch:
        batch.columns["y"] = batch["x"] * 2
        return batch


class Dropping(FrameOperator):
    """Hands on its own column alone."""

    def process(self, batch: FrameBatch, context: Context) -> FrameBatch:
        return batch.with_columns({"y": batch["x"]}).select(["y"])


class Reversing(FrameOperator):
    """Hands on the rows from the last to the first."""

    def process(self, batch: FrameBatch, context: Context) -> FrameBatch:
        return batch.take(slice(None, None, -1))


class Undefined(FrameOperator):
    """Divides by what is zero."""

    def process(self, batch: FrameBatch, context: Context) -> FrameBatch:
        return batch.with_columns({"y": np.full(len(batch), np.nan)})


class Listening(GlobalOperator):
    """Says that it is keyed, and sums over all simulations."""

    scope = "keyed"

    def process(self, batch: FrameBatch, context: Context) -> FrameBatch:
        column = np.full(len(batch), float(len(context.simulations)))
        return batch.with_columns({"y": column})


class Mixing(FrameOperator):
    """Lets frames of other simulations into the answer when they come together."""

    def process(self, batch: FrameBatch, context: Context) -> FrameBatch:
        return batch.with_columns({"y": batch["x"].sum(axis=1)})

    def process_many(
        self, batches: Sequence[FrameBatch], contexts: Sequence[Context]
    ) -> list[FrameBatch | None]:
        n = float(len({batch.simulation for batch in batches}))
        return [b.with_columns({"y": n * b["x"].sum(axis=1)}) for b in batches]


class Chatty(GlobalOperator):
    """Tells something at each batch."""

    def process(self, batch: FrameBatch, context: Context) -> FrameBatch:
        context.event("batch", "A batch came.")
        return batch


class Hasty(GlobalOperator):
    """Decides something at each batch."""

    def process(self, batch: FrameBatch, context: Context) -> FrameBatch:
        context.command("pause", batch.simulation, reason="A batch came.")
        return batch


def test_an_honest_operator_passes() -> None:
    check_operator(Total, STREAM)


@pytest.mark.parametrize(
    ("make", "check", "says"),
    [
        (BatchMean, "check_cuts", "one frame at a time"),
        (BatchMean, "check_scope", "given some of the rows"),
        (Forgetful, "check_save_and_restore", "restored after"),
        (Shared, "check_prototype", "second time"),
        (InPlace, "check_inputs_untouched", "must return a batch of its own"),
        (Dropping, "check_columns", "dropped the input column 'x'"),
        (Reversing, "check_columns", "reordered"),
        (Undefined, "check_finite", "not finite"),
        (Listening, "check_scope", "given 'walker0' alone"),
        (Mixing, "check_scope", "given with others"),
        (Chatty, "check_cuts", "Other events"),
        (Hasty, "check_cuts", "Other commands"),
    ],
)
def test_an_operator_that_cheats_is_found(make: type[Operator], check: str, says: str) -> None:
    with pytest.raises(AssertionError, match=says):
        getattr(operators, check)(make, STREAM)
    with pytest.raises(AssertionError):
        check_operator(make, STREAM)
