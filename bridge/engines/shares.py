"""A worker's share of the rows of large frames, where a pipeline begins with a `BlockOperator`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from types import TracebackType

from bridge.engines.job import Job
from bridge.engines.outcome import Outcome
from bridge.engines.patience import PatientClient
from bridge.engines.runner import Runner
from bridge.errors import PipelineError, SchemaError
from bridge.frames import FrameBatch
from bridge.pipeline import BlockOperator, Context, FrameOperator, Pipeline
from bridge.staging.client import Fetched

__all__ = ["Share", "SharedFrames", "rows_of"]


def rows_of(group: int, groups: int, total: int) -> tuple[int, int]:
    """Return the rows of one group, where `total` rows are shared out evenly."""
    return group * total // groups, (group + 1) * total // groups


class _Rows(FrameOperator):
    """A block operator on the rows at hand, in the place of a frame operator."""

    def __init__(self, operator: BlockOperator) -> None:
        self.operator = operator
        self.start = self.stop = 0

    def process(self, batch: FrameBatch, context: Context) -> FrameBatch:
        parts = self.operator.map_rows(batch, self.start, self.stop, context)
        return FrameBatch(
            batch.simulation,
            batch.offsets,
            steps=batch.steps,
            times=batch.times,
            epochs=batch.epochs,
            columns=parts,
        )


class SharedFrames:
    """Frames of which a share is to be analysed; arrays are valid until it is left."""

    def __init__(self, fetched: Fetched, topic: str, position: int) -> None:
        self._fetched = fetched
        self.batches = fetched.batches
        self.stamps = fetched.stamps
        self.gaps = [(gap.first, gap.stop) for gap in fetched.gaps]
        self.position = fetched.positions.get(topic, position)
        self.finished = topic in fetched.finished
        self.nbytes = sum(batch.nbytes for batch in fetched.batches)

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
        self._rows = _Rows(operator)
        pipeline = Pipeline(job.name, [(name, self._rows)], inputs=job.prototype.inputs)
        self._runner = Runner(
            pipeline, scopes=("frame",), final=False, on_error=job.options.on_error
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
        """Fetch frames from a position on, up to `stop` if it is given."""
        fetched = client.fetch(
            {self._topic: position},
            group=group,
            commit=commit,
            max_frames=4096 if stop < 0 else stop - position,
            max_bytes=max_bytes,
            wait=wait,
        )
        return SharedFrames(fetched, self._topic, position)

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
        outcome = self._runner.process(mine)
        if outcome.batch is not None and self._group == 0:
            self._add_small(outcome, frame, total)
        return outcome

    def _add_small(self, outcome: Outcome, frame: FrameBatch, total: int) -> None:
        """Hand on, once, what is not cut into rows: boxes, scalars."""
        assert outcome.batch is not None
        small = {
            name: column
            for name, column in frame.columns.items()
            if column.ndim == 1 or column.shape[1] != total
        }
        clash = sorted(set(small) & set(outcome.batch.columns))
        if clash:
            raise SchemaError(
                f"The first operator makes a column {clash[0]!r}, which the stream has already; "
                "give its output another name."
            )
        outcome.batch = outcome.batch.with_columns(small)
        outcome.added.update(dict.fromkeys(small))
