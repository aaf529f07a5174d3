"""What a pipeline answered to one batch: results, numbered commands, events."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import msgspec

from bridge.commands import Command, Event
from bridge.errors import PipelineError
from bridge.frames import FrameBatch
from bridge.pipeline import Context, Pipeline

__all__ = ["Numbered", "Outcome", "number_commands", "select_inputs", "select_results"]


class Numbered(msgspec.Struct, frozen=True):
    """A command with its id, and the offset of the frame that caused it.

    Attributes
    ----------
    offset
        In the stream of the simulation whose batch was processed.
    command
        With its id.
    """

    offset: int
    command: Command


class Outcome:
    """What became of the frames ``first`` to ``stop`` of one simulation.

    Attributes
    ----------
    simulation
        Whose frames; empty for what global operators said at the end.
    first, stop
        Range of source offsets, frames that were taken out included.
    batch
        What came out of the last operator, with all columns; None if nothing did.
    variables
        Columns of `batch` that the stream itself has.
    added
        Columns that operators added or replaced, as the keys.
    results
        The columns to publish; None if there are no rows, or later stages run elsewhere.
    commands
        What was decided, in order.
    events
        What was told, in order.
    quarantined
        Frames set aside.
    """

    __slots__ = (
        "added",
        "batch",
        "commands",
        "events",
        "first",
        "quarantined",
        "results",
        "simulation",
        "stop",
        "variables",
    )

    def __init__(self, simulation: str, first: int, stop: int) -> None:
        self.simulation = simulation
        self.first = first
        self.stop = stop
        self.batch: FrameBatch | None = None
        self.variables: tuple[str, ...] = ()
        self.added: dict[str, None] = {}
        self.results: FrameBatch | None = None
        self.commands: list[Numbered] = []
        self.events: list[Event] = []
        self.quarantined = 0

    def __repr__(self) -> str:
        rows = 0 if self.results is None else len(self.results)
        return (
            f"<Outcome {self.simulation}@{self.first}..{self.stop - 1} rows={rows} "
            f"commands={len(self.commands)} events={len(self.events)}>"
        )


def number_commands(context: Context, last: int) -> list[Numbered]:
    """Give the commands of one call their ids, ``pipeline/operator/simulation@offset#n``.

    The ids depend on the frames that caused the commands, not on the batch that brought them: sent
    a second time after a restart, a command has the same id and is applied once.

    Parameters
    ----------
    context
        Of the call.
    last
        Offset that counts as the cause where the operator named none.
    """
    out: list[Numbered] = []
    seen: dict[int, int] = {}
    head = f"{context.pipeline}/{context.operator}/{context.simulation}@"
    for command, told in zip(context.commands, context.offsets, strict=True):
        offset = last if told < 0 else told
        n = seen.get(offset, 0)
        seen[offset] = n + 1
        out.append(Numbered(offset, msgspec.structs.replace(command, id=f"{head}{offset}#{n}")))
    return out


def select_inputs(pipeline: Pipeline, batch: FrameBatch) -> FrameBatch:
    """Return the columns that a pipeline reads.

    Parameters
    ----------
    pipeline
        Its `inputs`; all columns where it names none.
    batch
        As it came from the stream.

    Raises
    ------
    PipelineError
        If the stream lacks one; the message names the nearest column.
    """
    if not pipeline.inputs:
        return batch
    for name in pipeline.inputs:
        if name not in batch.columns:
            near = difflib.get_close_matches(name, list(batch.columns), 1)
            hint = (
                f"Did you mean {near[0]!r}?"
                if near
                else f"It has: {', '.join(batch.columns) or 'none'}."
            )
            raise PipelineError(
                f"Pipeline {pipeline.name!r} needs the input {name!r}, which the stream of "
                f"{batch.simulation!r} does not have. {hint}"
            )
    return batch.select(pipeline.inputs)


def select_results(pipeline: Pipeline, batch: FrameBatch, variables: Sequence[str]) -> FrameBatch:
    """Return the columns that a pipeline publishes.

    Parameters
    ----------
    pipeline
        Its `outputs`; where it names none, every column that operators added.
    batch
        What came out of the last operator.
    variables
        Columns of the stream itself.

    Raises
    ------
    PipelineError
        If an output does not exist; the message names the nearest column.
    """
    if not pipeline.outputs:
        return batch.select([name for name in batch.columns if name not in variables])
    for name in pipeline.outputs:
        if name not in batch.columns:
            near = difflib.get_close_matches(name, list(batch.columns), 1)
            hint = (
                f"Did you mean {near[0]!r}?" if near else f"There are: {', '.join(batch.columns)}."
            )
            raise PipelineError(
                f"Pipeline {pipeline.name!r} lists the output {name!r}, which neither the stream "
                f"of {batch.simulation!r} nor an operator brings. {hint}"
            )
    return batch.select(pipeline.outputs)
