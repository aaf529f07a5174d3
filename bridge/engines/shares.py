"""A worker's share of the rows of large frames, where a pipeline begins with a `BlockOperator`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from bridge.engines.job import Job
from bridge.engines.outcome import Outcome, select_inputs
from bridge.engines.patience import PatientClient
from bridge.engines.runner import Runner
from bridge.engines.screen import quarantine_event, screen
from bridge.errors import PipelineError, SchemaError
from bridge.frames import Block, FrameBatch
from bridge.pipeline import BlockOperator, Context, FrameOperator, Pipeline
from bridge.staging.block_share import share_of
from bridge.staging.client import Fetched
from bridge.staging.decomposed import DecomposedFrame

__all__ = ["Share", "SharedFrames", "rows_of"]


def rows_of(group: int, groups: int, total: int) -> tuple[int, int]:
    """Return the rows of one group, where `total` rows are shared out evenly."""
    return group * total // groups, (group + 1) * total // groups


class _Rows(FrameOperator):
    """A block operator on the rows at hand, in the place of a frame operator."""

    def __init__(self, operator: BlockOperator) -> None:
        self.operator = operator
        self.start = self.stop = 0
        self.blocks: list[Block] | None = None

    def process(self, batch: FrameBatch, context: Context) -> FrameBatch:
        if self.blocks is None:
            parts = self.operator.map_rows(batch, self.start, self.stop, context)
        else:
            parts = self.operator.map_blocks(batch, self.blocks, context)
        return _in_place_of(batch, parts)


def _in_place_of(batch: FrameBatch, columns: Mapping[str, npt.NDArray[Any]]) -> FrameBatch:
    return FrameBatch(
        batch.simulation,
        batch.offsets,
        steps=batch.steps,
        times=batch.times,
        epochs=batch.epochs,
        columns=columns,
    )


class SharedFrames:
    """Frames of which a share is to be analysed; arrays are valid until it is left."""

    def __init__(self, fetched: Fetched, topic: str, position: int) -> None:
        self._fetched = fetched
        self.batches = fetched.batches
        self.stamps = fetched.stamps
        self.decomposed = fetched.decomposed
        self.gaps = [(gap.first, gap.stop) for gap in fetched.gaps]
        self.position = fetched.positions.get(topic, position)
        self.finished = topic in fetched.finished
        self.nbytes = sum(batch.nbytes for batch in fetched.batches)
        self.nbytes += sum(frame.nbytes for frame in fetched.decomposed)

    def __enter__(self) -> SharedFrames:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._fetched.release()


class Share:
    """What one group of blocks of one simulation's frames comes to.

    Parameters
    ----------
    job
        Whose first operator is a `BlockOperator`.
    simulation
        Whose frames.
    group
        Which share.
    """

    def __init__(self, job: Job, simulation: str, group: int) -> None:
        name, operator = job.prototype.operators[0]
        if not isinstance(operator, BlockOperator):
            raise PipelineError(
                f"The operator {name!r} cannot be given parts of frames; set block_groups = 1."
            )
        self._topic = f"frames/{simulation}"
        self._group = group
        self._groups = job.options.block_groups
        # Blocks of all ranks are read, because frames must be put in order first.
        self._whole = False
        self._pipeline = Pipeline(job.name, [(name, _Rows(operator))], inputs=job.prototype.inputs)
        self._runner = Runner(
            Pipeline(job.name, self._pipeline.operators),
            scopes=("frame",),
            final=False,
            on_error=job.options.on_error,
        )
        rows: _Rows = self._runner.operator(name)
        self._rows = rows

    @property
    def seconds(self) -> Mapping[str, float]:
        """Operator to time spent in it, in seconds."""
        return self._runner.seconds

    def fetch(
        self,
        client: PatientClient,
        position: int,
        *,
        max_bytes: int,
        wait: float,
        stop: int = -1,
        group: str = "",
        commit: Mapping[str, int] | None = None,
    ) -> SharedFrames:
        """Fetch frames from a position on, up to `stop` if it is given.

        Of frames that several ranks wrote, only the blocks of this share are read where that is
        enough for the operator.
        """
        operator = self._rows.operator
        most = 4096 if stop < 0 else stop - position
        if operator.halo:
            fetched = client.fetch(
                {self._topic: position}, group=group, commit=commit, max_frames=most,
                max_bytes=max_bytes, wait=wait,
            )  # fmt: skip
            return SharedFrames(fetched, self._topic, position)
        fetched = client.fetch_blocks(
            self._topic, position, share=self._ours(), group=group, commit=commit, max_frames=most,
            max_bytes=max_bytes, wait=wait,
        )  # fmt: skip
        ordered = operator.unordered or all(frame.in_order for frame in fetched.decomposed)
        if ordered and fetched.decomposed:
            self._whole = False
        elif not ordered and not self._whole:
            self._whole = True
            fetched.release()
            fetched = client.fetch_blocks(
                self._topic, position, share=self._ours(), max_frames=most, max_bytes=max_bytes,
                wait=wait,
            )  # fmt: skip
        return SharedFrames(fetched, self._topic, position)

    def _ours(self) -> tuple[int, int]:
        return (0, 1) if self._whole else (self._group, self._groups)

    def analyse(self, frames: SharedFrames) -> Iterator[tuple[Outcome, float]]:
        """Run the operator over its rows, one frame at a time.

        Yields
        ------
        outcome, put
            What came of one frame, and the Unix time at which it was put.
        """
        for batch, put in zip(frames.batches, frames.stamps, strict=True):
            for i in range(len(batch)):
                yield self._one(batch.take(slice(i, i + 1))), put or time.time()
        reads = self._rows.operator.reads()
        for frame in frames.decomposed:
            shared = reads is None or any(
                n in b.values for b in frame.blocks.values() for n in reads
            )
            # Where all that the operator reads is whole, blocks tell nothing of its rows.
            outcome = self._of_blocks(frame) if shared else self._one(frame.head)
            yield outcome, frame.put or time.time()

    def _one(self, frame: FrameBatch) -> Outcome:
        operator = self._rows.operator
        total = operator.count_rows(frame)
        start, stop = self._rows.start, self._rows.stop = rows_of(self._group, self._groups, total)
        mine = frame
        if not operator.halo:
            mine = frame.with_columns(
                {
                    name: column[:, start:stop]
                    for name, column in frame.columns.items()
                    if column.ndim > 1 and column.shape[1] == total
                }
            )
        self._rows.blocks = None
        outcome = self._runner.process(select_inputs(self._pipeline, mine))
        small = {
            name: column
            for name, column in frame.columns.items()
            if column.ndim == 1 or column.shape[1] != total
        }
        self._add_small(outcome, small)
        return outcome

    def _of_blocks(self, frame: DecomposedFrame) -> Outcome:
        """Do the blocks at hand of a frame that several ranks wrote."""
        head = frame.head
        blocks = self._at_hand(frame)
        # Of all blocks alike, so that a variable that is missing is told of, too.
        names = dict.fromkeys(select_inputs(self._pipeline, _with_block(head, blocks[0])).columns)
        blocks = [block.select([n for n in block.values if n in names]) for block in blocks]
        bad: dict[str, npt.NDArray[np.bool_]] = {}
        for block in blocks:
            values = {name: value[None] for name, value in block.values.items()}
            bad |= screen(_in_place_of(head, values), values)[1]
        if bad:
            outcome = Outcome(head.simulation, head.first, head.stop)
            outcome.quarantined = 1
            outcome.events = [quarantine_event(head, bad, self._pipeline.name, "the input")]
            return outcome
        self._rows.blocks = blocks
        outcome = self._runner.process(head.select([n for n in head.columns if n in names]))
        outcome.variables = tuple(names)
        self._add_small(outcome, head.columns)
        return outcome

    def _at_hand(self, frame: DecomposedFrame) -> list[Block]:
        if self._rows.operator.unordered or frame.in_order:
            return frame.at_hand(share_of(self._group, self._groups, frame.ranks))
        whole = frame.assembled()
        values = {name: whole[name][0] for name in frame.blocks[0].values}
        total = len(next(iter(values.values())))
        start, stop = rows_of(self._group, self._groups, total)
        step, moment = int(whole.steps[0]), float(whole.times[0])
        block = Block(-1, 0, count=total, step=step, time=moment, values=values)
        return [block.take(start, stop)]

    def _add_small(self, outcome: Outcome, small: Mapping[str, npt.NDArray[Any]]) -> None:
        """Hand on, once, what is not cut into rows: boxes, scalars."""
        if outcome.batch is None or self._group:
            return
        clash = sorted(set(small) & set(outcome.batch.columns))
        if clash:
            raise SchemaError(
                f"The first operator makes a column {clash[0]!r}, which the stream has already; "
                "give its output another name."
            )
        outcome.batch = outcome.batch.with_columns(small)
        outcome.added.update(dict.fromkeys(small))


def _with_block(head: FrameBatch, block: Block) -> FrameBatch:
    return head.with_columns({name: value[None] for name, value in block.values.items()})
