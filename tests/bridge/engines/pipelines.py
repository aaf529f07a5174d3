"""Operators and pipelines whose answers are easy to know."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from bridge.frames import FrameBatch
from bridge.pipeline import Context, FrameOperator, GlobalOperator, KeyedOperator, Pipeline


class Norm(FrameOperator):
    """The sum of squares of each frame."""

    def __init__(self, *, input: str = "x", output: str = "norm") -> None:
        self.input = input
        self.output = output

    def process(self, batch: FrameBatch, context: Context) -> FrameBatch:
        flat = batch[self.input].reshape(len(batch), -1).astype(np.float64)
        return batch.with_columns({self.output: (flat * flat).sum(axis=1)})


class Running(KeyedOperator):
    """The running sum of a column, of one simulation."""

    def __init__(self, *, input: str = "norm") -> None:
        self.input = input
        self.total = 0.0

    def process(self, batch: FrameBatch, context: Context) -> FrameBatch:
        # One by one, so that the order of the additions does not depend on the batches.
        out = np.empty(len(batch))
        for i, value in enumerate(batch[self.input]):
            self.total += float(value)
            out[i] = self.total
        return batch.with_columns({"running": out})

    def save(self) -> dict[str, Any]:
        return {"total": self.total}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.total = state["total"]

    def finish(self, context: Context) -> None:
        context.event("ended", f"The sum of {context.simulation!r} is {self.total}.")


class Place(GlobalOperator):
    """Which frame it is, counted over all simulations: depends on the order of their turns."""

    def __init__(self) -> None:
        self.seen = 0

    def process(self, batch: FrameBatch, context: Context) -> FrameBatch:
        places = self.seen + np.arange(len(batch))
        self.seen += len(batch)
        return batch.with_columns({"place": places})

    def save(self) -> dict[str, Any]:
        return {"seen": self.seen}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.seen = state["seen"]

    def finish(self, context: Context) -> None:
        context.event("total", f"{self.seen} frames.", frames=self.seen)


class EachTenth(GlobalOperator):
    """Decides at each frame whose place is a multiple of ten, for the next simulation by name."""

    def process(self, batch: FrameBatch, context: Context) -> FrameBatch:
        names = context.simulations
        for row in np.flatnonzero(batch["place"] % 10 == 9):
            whom = names[(names.index(batch.simulation) + 1) % len(names)]
            context.command(
                "set",
                whom,
                reason=f"Place {batch['place'][row]}.",
                parameter="temperature",
                value=float(batch["place"][row]),
                at=int(batch.offsets[row]),
            )
        return batch


class StopAt(GlobalOperator):
    """Tells of a target reached, and stops everybody, at a place."""

    def __init__(self, place: int) -> None:
        self.place = place

    def process(self, batch: FrameBatch, context: Context) -> FrameBatch:
        for row in np.flatnonzero(batch["place"] == self.place):
            context.event("target_reached", "That is it.")
            for name in context.simulations:
                context.command("stop", name, reason="Reached.", at=int(batch.offsets[row]))
        return batch


class Failing(FrameOperator):
    """Raises at frames of some steps."""

    def __init__(self, steps: tuple[int, ...]) -> None:
        self.steps = steps

    def process(self, batch: FrameBatch, context: Context) -> FrameBatch:
        for step in batch.steps:
            if int(step) in self.steps:
                raise ValueError(f"step {step} is not to my taste")
        return batch


def make_pipeline(*more: tuple[str, Any], name: str = "test", **fields: Any) -> Pipeline:
    """Return the pipeline of the first three operators, and `more`."""
    operators = [("norm", Norm()), ("running", Running()), ("place", Place()), *more]
    return Pipeline(name, operators, **fields)


class Slow(FrameOperator):
    """Takes its time over each frame."""

    def __init__(self, *, seconds: float) -> None:
        self.seconds = seconds

    def reads(self) -> tuple[str, ...]:
        return ()

    def process(self, batch: FrameBatch, context: Context) -> FrameBatch:
        time.sleep(self.seconds * len(batch))
        return batch
