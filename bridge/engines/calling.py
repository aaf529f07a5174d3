"""One call of an operator: what it said is taken up, and what went wrong is told."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bridge.block_batch import BlockBatch
from bridge.commands import Event
from bridge.engines.outcome import Outcome, number_commands
from bridge.engines.protocol import OnError
from bridge.engines.screen import quarantine_event, screen
from bridge.engines.units import Units
from bridge.errors import HeadraceError, OperatorFailed, PipelineError, SchemaError
from bridge.frames import FrameBatch
from bridge.pipeline import Context, FrameOperator, Operator

__all__ = ["Begun", "Caller", "takes_many"]

log = logging.getLogger(__name__)


def takes_many(operator: Operator) -> bool:
    """Whether an operator has a way of its own to take many batches at once."""
    return (
        isinstance(operator, FrameOperator)
        and type(operator).process_many is not FrameOperator.process_many
    )


class Begun:
    """A batch that went through frame operators.

    Attributes
    ----------
    outcome
        What was said and set aside so far.
    batch
        What came out; None for nothing.
    variables
        Columns that the stream itself has.
    error
        Why it can go no further; raised when its turn comes.
    """

    __slots__ = ("batch", "error", "outcome", "variables")

    def __init__(
        self,
        outcome: Outcome,
        batch: FrameBatch | None = None,
        *,
        error: PipelineError | None = None,
    ) -> None:
        self.outcome = outcome
        self.batch = batch
        self.variables: tuple[str, ...] = ()
        self.error = error


def _replaced(before: FrameBatch, after: FrameBatch, known: Mapping[str, None]) -> list[str]:
    """Name the columns of which an operator kept other rows than there were."""
    rows: Any = None
    out = []
    written = set(before.in_blocks) if isinstance(before, BlockBatch) else set()
    for name in after.columns:
        if name not in before.columns or name in known:
            continue
        if isinstance(after, BlockBatch) and name in written.intersection(after.in_blocks):
            continue
        old, column = before.columns[name], after.columns[name]
        if np.may_share_memory(old, column):
            continue
        if rows is None:
            rows = np.searchsorted(before.offsets, after.offsets)
        if column.shape[1:] != old.shape[1:] or not np.array_equal(column, old[rows]):
            out.append(name)
    return out


class Caller:
    """Calls the operators of a pipeline.

    Parameters
    ----------
    pipeline
        Its name.
    seconds
        Operator to time spent in it; counted on.
    on_error
        See `bridge.engines.runner.Runner`.
    units
        Told to operators.
    """

    def __init__(
        self, pipeline: str, seconds: dict[str, float], on_error: OnError, units: Units
    ) -> None:
        self.pipeline = pipeline
        self.seconds = seconds
        self.on_error = on_error
        self.units = units

    def screen(
        self,
        batch: FrameBatch,
        names: Any,
        outcome: Outcome,
        operator: str,
        where: str,
    ) -> FrameBatch:
        """Take out frames that are not finite in the named columns, and tell of them."""
        kept, bad = screen(batch, names)
        if bad:
            outcome.quarantined += len(batch) - len(kept)
            source = f"{self.pipeline}/{operator}" if operator else self.pipeline
            outcome.events.append(quarantine_event(batch, bad, source, where))
        return kept

    def call(
        self,
        name: str,
        operator: Operator,
        batch: FrameBatch,
        context: Context,
        outcome: Outcome,
    ) -> FrameBatch | None:
        """Run one operator over a batch, and take up what it said.

        Raises
        ------
        OperatorFailed
            If it raised, and that is to stop the pipeline.
        """
        began = time.perf_counter()
        try:
            out = operator.process(batch, context)
        except Exception as error:
            failure = self._failure(name, batch, error)
            if self.on_error == "stop" or isinstance(error, PipelineError | SchemaError):
                raise failure from error
            out, context = self._set_aside(name, operator, batch, context, outcome, failure)
        self.seconds[name] += time.perf_counter() - began
        return self._take_up(name, batch, out, context, outcome)

    def call_together(self, name: str, operator: Operator, begun: Sequence[Begun]) -> None:
        """Run a frame operator over what it has not seen yet; failures are noted, not raised."""
        live = [one for one in begun if one.batch is not None and len(one.batch.offsets)]
        batches = [one.batch for one in live if one.batch is not None]
        if len(live) > 1 and takes_many(operator) and isinstance(operator, FrameOperator):
            contexts = [self.context(name, batch.simulation) for batch in batches]
            start = time.perf_counter()
            try:
                outs = operator.process_many(batches, contexts)
            except Exception:
                # Which batch it fails on shows when each goes by itself.
                log.debug("Operator %r failed on %d batches.", name, len(live), exc_info=True)
            else:
                self.seconds[name] += time.perf_counter() - start
                for one, batch, out, context in zip(live, batches, outs, contexts, strict=True):
                    one.batch = self._take_up(name, batch, out, context, one.outcome)
                return
        for one, batch in zip(live, batches, strict=True):
            try:
                one.batch = self.call(
                    name, operator, batch, self.context(name, batch.simulation), one.outcome
                )
            except PipelineError as error:
                one.batch, one.error = None, error

    def context(
        self, name: str, simulation: str, simulations: tuple[str, ...] | None = None
    ) -> Context:
        """Return what an operator is given with a batch; `simulations` are this one by default."""
        known = (simulation,) if simulations is None else simulations
        return Context(self.pipeline, name, simulation, known, self.units.columns, self.units.time)

    def _take_up(
        self,
        name: str,
        batch: FrameBatch,
        out: FrameBatch | None,
        context: Context,
        outcome: Outcome,
    ) -> FrameBatch | None:
        if context.commands:
            outcome.commands += number_commands(context, batch.stop - 1)
        if context.events:
            outcome.events += context.events
        if out is None or out is batch or not len(out.offsets):
            return out
        before = batch.columns
        same_rows = out.offsets is batch.offsets
        added = [
            key
            for key in out.columns
            if key not in before or (same_rows and not out.is_same(batch, key))
        ]
        outcome.added.update(dict.fromkeys(added))
        if not same_rows:
            outcome.added.update(dict.fromkeys(_replaced(batch, out, outcome.added)))
        return self.screen(out, added, outcome, name, f"operator {name!r}")

    # --------------------------------------------------------------- failures

    def _failure(self, name: str, batch: FrameBatch, error: Exception) -> OperatorFailed:
        said = str(error).rstrip(".")
        kind = "" if isinstance(error, HeadraceError) else f"{type(error).__name__}: "
        failure = OperatorFailed(
            f"Operator {name!r} of pipeline {self.pipeline!r} failed on the frames "
            f"{batch.first} to {batch.stop - 1} of {batch.simulation!r}: {kind}{said}."
        )
        failure.__cause__ = error
        return failure

    def _set_aside(
        self,
        name: str,
        operator: Operator,
        batch: FrameBatch,
        context: Context,
        outcome: Outcome,
        failure: OperatorFailed,
    ) -> tuple[FrameBatch | None, Context]:
        """Do what can be done with a batch on which an operator failed."""
        again = self.context(name, context.simulation, context.simulations)
        parts: list[FrameBatch] = []
        lost: list[int] = []
        if operator.scope == "frame":
            for i in range(len(batch)):
                row = batch.take(slice(i, i + 1))
                try:
                    out = operator.process(row, again)
                except Exception as error:
                    failure = self._failure(name, row, error)
                    lost.append(i)
                else:
                    if out is not None and len(out):
                        parts.append(out)
        else:
            lost = list(range(len(batch)))
        outcome.quarantined += len(lost)
        offsets = batch.offsets[lost].tolist()
        outcome.events.append(
            Event(
                "operator_failed",
                f"{failure} {len(lost)} frames were set aside.",
                simulation=batch.simulation,
                source=f"{self.pipeline}/{name}",
                level="error",
                data={
                    "count": len(lost),
                    "offsets": offsets[:32],
                    "steps": batch.steps[lost].tolist()[:32],
                    "error": type(failure.__cause__).__name__,
                },
            )
        )
        return (FrameBatch.concatenate(parts) if parts else None), again
