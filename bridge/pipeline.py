"""Pipelines: named operators over batches of frames, and what operators must be.

An operator adds columns to a batch. Its *scope* tells an engine where it may run:

* a `FrameOperator` has no state; it runs where the frames are pulled, in any number of copies;
* a `KeyedOperator` has one instance per simulation, which sees that simulation's frames in order;
* a `GlobalOperator` has one instance, which sees the batches of all simulations, each
  simulation's in order.

An operator's answer must depend on the frames and their order alone, never on how the stream was
cut into batches. `bridge.testing.operators` holds operators to all this.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from bridge.block_batch import BlockBatch
from bridge.commands import Command, CommandKind, Event, FrameReference
from bridge.errors import PipelineError, SchemaError
from bridge.frames import Block, FrameBatch
from bridge.schema import check_name

__all__ = [
    "BlockOperator",
    "Context",
    "FrameOperator",
    "GlobalOperator",
    "KeyedOperator",
    "Operator",
    "Pipeline",
    "Scope",
]

Scope = Literal["frame", "keyed", "global"]

_NO_UNITS: Mapping[str, str] = MappingProxyType({})


class Context:
    """What an operator may do besides returning columns: decide, and tell.

    One context serves one call of one operator; the engine collects what was said.

    Attributes
    ----------
    pipeline, operator
        Names of both.
    simulation
        Whose batch is being processed.
    simulations
        For a global operator: names of all simulations known to this engine at present, sorted. For
        others, which may run where nothing is known of the rest: the one at hand.
    units, time_unit
        Column to unit, and the unit of time, for what is told to people; as the first simulation
        declared them, and operators from there on. Empty where they are not known.
    commands, events
        What was emitted so far.
    offsets
        For each command, the offset of the frame that caused it; -1 where it was not told.
    """

    __slots__ = (
        "commands",
        "events",
        "offsets",
        "operator",
        "pipeline",
        "simulation",
        "simulations",
        "time_unit",
        "units",
    )

    def __init__(
        self,
        pipeline: str = "",
        operator: str = "",
        simulation: str = "",
        simulations: tuple[str, ...] = (),
        units: Mapping[str, str] = _NO_UNITS,
        time_unit: str = "",
    ) -> None:
        self.pipeline = pipeline
        self.operator = operator
        self.simulation = simulation
        self.simulations = simulations
        self.units = units
        self.time_unit = time_unit
        self.commands: list[Command] = []
        self.events: list[Event] = []
        self.offsets: list[int] = []

    def command(
        self,
        kind: CommandKind,
        simulation: str,
        *,
        reason: str,
        frame: FrameReference | None = None,
        at: int = -1,
        **fields: Any,
    ) -> None:
        """Decide on a command; the engine numbers it, guards it and sends it.

        Parameters
        ----------
        kind, simulation, reason, frame
            See `bridge.commands.Command`.
        at
            Offset of the frame, of this batch's simulation, that caused the decision. The command's
            number is made from it, so that the same frames give the same numbers however the stream
            was cut; without it, the last frame of the batch counts as the cause.
        **fields
            Further fields of the command.
        """
        author = fields.pop("author", f"{self.pipeline}/{self.operator}")
        self.commands.append(
            Command(kind, simulation, reason=reason, frame=frame, author=author, **fields)
        )
        self.offsets.append(at)

    def event(
        self,
        kind: str,
        message: str,
        *,
        level: Literal["info", "warning", "error"] = "info",
        **data: Any,
    ) -> None:
        """Tell people something; `data` holds the numbers."""
        self.events.append(
            Event(
                kind,
                message,
                simulation=self.simulation,
                source=f"{self.pipeline}/{self.operator}",
                level=level,
                data=data,
            )
        )


class Operator(ABC):
    """What every operator has; derive from one of the three scopes below, not from this.

    A class is made from a configuration table: the parameters of its constructor are the keys.
    An instance as constructed is a prototype; the engine deep-copies it for each simulation.
    """

    scope: ClassVar[Scope]

    @abstractmethod
    def process(self, batch: FrameBatch, context: Context) -> FrameBatch | None:
        """Return the batch with columns added, or None to let nothing pass.

        Rows may be taken out (`FrameBatch.take`), never reordered. Input arrays are read-only
        views that die after the call: copy what the operator keeps.
        """

    def reads(self) -> tuple[str, ...] | None:
        """Return the columns that `process` reads; None where it may be any.

        Engines that spread a pipeline over processes bring a global operator only those variables
        of the stream that it, or one behind it, reads.
        """
        return None

    def column_units(self, inputs: Mapping[str, str]) -> Mapping[str, str]:
        """Return the units of the columns that `process` adds, where they have one.

        Parameters
        ----------
        inputs
            Units of the columns that are there before: those of the stream, as its simulation
            declared them, and what operators before this one made of them.
        """
        return {}

    def save(self) -> dict[str, Any]:
        """Return the state as arrays and plain data (numbers, text, lists, maps)."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up a state that `save` returned, in an instance with the same parameters."""
        if state:
            raise PipelineError(
                f"A state was saved for {type(self).__name__}, which keeps none; the checkpoint "
                "belongs to another pipeline."
            )

    def finish(self, context: Context) -> None:
        """Hear that no more frames will come, from any simulation that this instance sees."""


class FrameOperator(Operator):
    """No state: each frame by itself."""

    scope = "frame"

    def process_many(
        self, batches: Sequence[FrameBatch], contexts: Sequence[Context]
    ) -> list[FrameBatch | None]:
        """Return what `process` would of each batch; they may be of several simulations.

        For operators to which many rows at once cost less, such as networks: engines call one that
        overrides this with the batches that are at hand, and any other batch by batch.
        """
        return [self.process(b, c) for b, c in zip(batches, contexts, strict=True)]


class BlockOperator(FrameOperator):
    """No state, and the rows of a frame can be shared out: for frames too large for one worker.

    Engines may give the blocks that ranks wrote, or ranges of rows, to several workers, and join
    what they return; where one worker does all, it is given large frames block by block, too, if
    the operator gains by it (it is `unordered`, or has a `map_blocks` of its own). To give the same
    answer however the rows are shared out, `combine` must not depend on the order of the parts:
    counts do not, sums of floating-point numbers do to the last digits.

    Attributes
    ----------
    halo
        Rows depend on rows of others: every worker is given the whole frames. Which rows of other
        ranks those are only the operator knows (of a cutoff, those within it; of a distribution
        over all pairs, all), so no engine brings less.
    unordered
        It does not matter in which order rows come, nor where in the frame they belong, or
        `map_blocks` looks at that itself. Blocks whose particles migrate between ranks then come
        as they were written, and nobody looks whether each row is in one of them. Otherwise, and
        with `halo`, such frames are put in the order of their ids first, for which every worker
        reads the blocks of all ranks.
    """

    halo: ClassVar[bool] = False
    unordered: ClassVar[bool] = False

    @abstractmethod
    def map_rows(
        self, batch: FrameBatch, start: int, stop: int, context: Context
    ) -> Mapping[str, npt.NDArray[Any]]:
        """Return what some rows of each frame contribute.

        Parameters
        ----------
        batch
            Frames. With `halo`, they are whole. Without, variables that ranks write in blocks hold
            the rows at hand alone, of which there may be none; the others are whole.
        start, stop
            The rows at hand, as positions on the first axis of the decomposed variables in the
            whole frame. For an operator that is `unordered`, only their number ``stop - start``
            means something.
        context
            As for `process`.

        Returns
        -------
        parts
            Name to array whose first axis counts frames.
        """

    def map_blocks(
        self, frame: FrameBatch, blocks: Sequence[Block], context: Context
    ) -> Mapping[str, npt.NDArray[Any]]:
        """Return what some ranks' blocks of one frame contribute; by default, by `map_rows`.

        Override it to spare the copy that joins several blocks, or to learn which rows they hold.

        Parameters
        ----------
        frame
            A batch of one frame, with the variables that ranks do not write in blocks.
        blocks
            Blocks, or parts of them, in the order of their ranks; their values are the decomposed
            variables alone. `start` is the first row in the whole frame, unless there are `ids`
            (only if the operator is `unordered`), which tell the rows one by one.
        context
            As for `process`.

        Returns
        -------
        parts
            As `map_rows` does, for one frame.
        """
        values = [block.values for block in blocks]
        columns = {
            name: values[0][name][None]
            if len(values) == 1
            else np.concatenate([v[name] for v in values])[None]
            for name in values[0]
        }
        # Blocks without ids follow each other, but one without rows may claim to be anywhere.
        start = min((block.start for block in blocks if block.count), default=0)
        rows = sum(block.count for block in blocks)
        return self.map_rows(frame.with_columns(columns), start, start + rows, context)

    @abstractmethod
    def combine(
        self, parts: Sequence[Mapping[str, npt.NDArray[Any]]], batch: FrameBatch
    ) -> FrameBatch:
        """Return the batch with columns made from the contributions of all rows.

        Parameters
        ----------
        parts
            What `map_rows` returned for ranges of rows that make up the frames.
        batch
            The frames; their decomposed variables may be missing.
        """

    @abstractmethod
    def count_rows(self, batch: FrameBatch) -> int:
        """Return the number of rows of whole frames."""

    def process(self, batch: FrameBatch, context: Context) -> FrameBatch:
        """Do all rows in one place, as blocks where they came as such and that is enough."""
        if isinstance(batch, BlockBatch) and self._takes_blocks(batch):
            return self.combine([self._map_frames(batch, context)], batch)
        return self.combine([self.map_rows(batch, 0, self.count_rows(batch), context)], batch)

    @classmethod
    def wants_blocks(cls) -> bool:
        """Return whether it gains anything by frames that are not joined."""
        own = cls.map_blocks is not BlockOperator.map_blocks
        return not cls.halo and (cls.unordered or own)

    def _takes_blocks(self, batch: BlockBatch) -> bool:
        reads = self.reads()
        names = batch.in_blocks if reads is None else set(reads).intersection(batch.in_blocks)
        stale = batch.replaced if reads is None else set(reads).intersection(batch.replaced)
        return (
            self.wants_blocks() and bool(names) and not stale and (self.unordered or batch.in_order)
        )

    def _map_frames(self, batch: BlockBatch, context: Context) -> Mapping[str, npt.NDArray[Any]]:
        found = [
            self.map_blocks(batch.rest(i), batch.blocks(i), context) for i in range(len(batch))
        ]
        if len(found) == 1:
            return found[0]
        return {name: np.concatenate([part[name] for part in found]) for name in found[0]}


class KeyedOperator(Operator):
    """State for one simulation, whose frames come in order."""

    scope = "keyed"


class GlobalOperator(Operator):
    """One state for all simulations."""

    scope = "global"


class Pipeline:
    """Operators in the order in which they are applied, each under a name chosen by the user.

    Parameters
    ----------
    name
        Name of the pipeline, in topics and checkpoints.
    operators
        Pairs of name and prototype.
    inputs
        Variables to read from the streams; empty for all.
    outputs
        Columns to publish as results; empty for every column that operators added.

    Raises
    ------
    PipelineError
        If a name comes twice, or is not a valid name.
    """

    def __init__(
        self,
        name: str,
        operators: Iterable[tuple[str, Operator]],
        *,
        inputs: Iterable[str] = (),
        outputs: Iterable[str] = (),
    ) -> None:
        self.operators = tuple(operators)
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        names = [n for n, _ in self.operators]
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise PipelineError(
                f"Pipeline {name!r} has more than one operator called {', '.join(twice)}; "
                "give each a name of its own."
            )
        try:
            self.name = check_name(name, "pipeline")
            for n in names:
                check_name(n, "operator")
        except SchemaError as error:
            raise PipelineError(str(error)) from error

    def __repr__(self) -> str:
        chain = " → ".join(f"{n} ({o.scope})" for n, o in self.operators)
        return f"<Pipeline {self.name}: {chain}>"

    def stages(self) -> dict[Scope, tuple[tuple[str, Operator], ...]]:
        """Split into what may run where frames are pulled, per simulation, and in one place.

        The first keyed operator begins the keyed stage, the first global one the global stage;
        whatever follows stays in that stage.
        """
        out: dict[Scope, list[tuple[str, Operator]]] = {"frame": [], "keyed": [], "global": []}
        order: tuple[Scope, ...] = ("frame", "keyed", "global")
        at = 0
        for name, operator in self.operators:
            at = max(at, order.index(operator.scope))
            out[order[at]].append((name, operator))
        return {scope: tuple(v) for scope, v in out.items()}

    def fresh(self, scope: Scope) -> list[tuple[str, Operator]]:
        """Return new instances of one stage's operators."""
        return [(name, copy.deepcopy(operator)) for name, operator in self.stages()[scope]]
