"""What an operator answered to a stream, and whether two answers are the same."""

from __future__ import annotations

from typing import Any

import numpy as np

from bridge.commands import Command, Event
from bridge.frames import FrameBatch
from bridge.pipeline import Context

__all__ = ["Answer", "assert_same"]


class Answer:
    """Batches that came out, and the commands and events emitted, in their order.

    Attributes
    ----------
    batches
        What was returned, without the batches for which nothing was.
    commands, events
        What was emitted.
    """

    def __init__(self) -> None:
        self.batches: list[FrameBatch] = []
        self.commands: list[Command] = []
        self.events: list[Event] = []

    def __copy__(self) -> Answer:
        other = Answer()
        other.batches = list(self.batches)
        other.commands = list(self.commands)
        other.events = list(self.events)
        return other

    def add(self, batch: FrameBatch | None, context: Context) -> None:
        """Take up what one call gave."""
        if batch is not None and len(batch):
            self.batches.append(batch)
        self.commands += context.commands
        self.events += context.events

    def only(self, frames: set[tuple[str, int]]) -> Answer:
        """Return the answer for some frames, named by simulation and offset."""
        other = Answer()
        for batch in self.batches:
            rows = [i for i, o in enumerate(batch.offsets) if (batch.simulation, int(o)) in frames]
            if rows:
                other.batches.append(batch.take(np.array(rows)))
        return other

    def by_simulation(self) -> dict[str, FrameBatch]:
        """Return one batch a simulation, with all its rows."""
        parts: dict[str, list[FrameBatch]] = {}
        for batch in self.batches:
            parts.setdefault(batch.simulation, []).append(batch)
        return {name: FrameBatch.concatenate(batches) for name, batches in parts.items()}


def _decided(command: Command) -> tuple[Any, ...]:
    # Evidence and reasons hold rounded numbers; what is done must be the same.
    value = None if command.value is None else round(command.value, 6)
    return (
        command.kind,
        command.simulation,
        command.parameter,
        value,
        command.frame,
        command.velocities,
        command.at_step,
    )


def assert_same(
    wanted: Answer, found: Answer, what: str, *, rtol: float, atol: float, said: bool = True
) -> None:
    """Assert that two answers are the same.

    Parameters
    ----------
    wanted, found
        Both answers.
    what
        How the second one came about, for messages.
    rtol, atol
        How far floating-point columns may be apart; all else must be equal.
    said
        Compare commands and events too.
    """
    ours, theirs = wanted.by_simulation(), found.by_simulation()
    assert sorted(ours) == sorted(theirs), (
        f"Results came for {sorted(ours)}; {what}, for {sorted(theirs)}."
    )
    for name, batch in ours.items():
        other = theirs[name]
        assert np.array_equal(batch.offsets, other.offsets), (
            f"Other rows of {name!r} came out when {what}."
        )
        assert set(batch.columns) == set(other.columns), (
            f"The columns of {name!r} are {sorted(batch.columns)}; {what}, they are "
            f"{sorted(other.columns)}."
        )
        for key, column in batch.columns.items():
            _assert_column(batch, key, column, other[key], what, rtol=rtol, atol=atol)
    if said:
        decided = [_decided(c) for c in wanted.commands]
        again = [_decided(c) for c in found.commands]
        assert decided == again, (
            f"Other commands were given when {what}: {len(decided)} before, {len(again)} then; "
            f"the first that differs: "
            f"{next(((a, b) for a, b in zip(decided, again, strict=False) if a != b), None)}."
        )
        told = [(e.kind, e.simulation, e.level) for e in wanted.events]
        retold = [(e.kind, e.simulation, e.level) for e in found.events]
        assert told == retold, f"Other events were told when {what}: {told} before, {retold} then."


def _assert_column(
    batch: FrameBatch, key: str, ours: Any, theirs: Any, what: str, *, rtol: float, atol: float
) -> None:
    where = f"Column {key!r} of {batch.simulation!r}"
    assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype), (
        f"{where} has shape {ours.shape} and dtype {ours.dtype}; {what}, {theirs.shape} and "
        f"{theirs.dtype}."
    )
    if ours.dtype.kind in "fc":
        same = np.isclose(ours, theirs, rtol=rtol, atol=atol, equal_nan=True)
    else:
        same = np.asarray(ours == theirs)
    bad = ~same.reshape(len(batch), -1).all(axis=1)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise AssertionError(
            f"{where} differs when {what}, first at offset {batch.offsets[row]}: "
            f"{ours[row]!r} became {theirs[row]!r}."
        )
