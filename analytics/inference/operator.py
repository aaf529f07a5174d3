"""Coordinates of frames by a network that is renewed while it serves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from analytics.features.inputs import output_name
from analytics.inference.ledger import SwapLedger
from analytics.inference.rows import Nonfinite, check_nonfinite, finite_rows, rows_of
from analytics.inference.serving import Served, Serving, serving_of
from analytics.inference.ways import Compile, Device, Precision, Way, need_torch
from analytics.statistics.moments import input_columns
from analytics.statistics.schedule import check_count
from bridge.config import parse_duration
from bridge.errors import ConfigError, SchemaError
from bridge.frames import FrameBatch
from bridge.pipeline import Context, FrameOperator

__all__ = ["Infer", "InferStatistics"]

Array = npt.NDArray[Any]


class InferStatistics:
    """Counts of one instance of an operator.

    Attributes
    ----------
    rows
        Rows answered by a model.
    waiting
        Rows that came while there was no model.
    nonfinite
        Rows that were not finite.
    calls
        Times that rows were handed to a network, perhaps of many simulations together.
    """

    __slots__ = ("calls", "nonfinite", "rows", "waiting")

    def __init__(self) -> None:
        self.rows = 0
        self.waiting = 0
        self.nonfinite = 0
        self.calls = 0

    def __repr__(self) -> str:
        return (
            f"<InferStatistics rows={self.rows} waiting={self.waiting} "
            f"nonfinite={self.nonfinite} calls={self.calls}>"
        )


class Infer(FrameOperator):
    """Add the coordinates that the served version of a model gives each frame.

    A version that is promoted, or gone back to, is loaded and warmed up beside the one in service,
    once a process, and is taken between two batches. One that is missing or damaged is told of
    once, and the one before goes on serving. With a `ledger`, frames that are answered again after
    a restart get the version that they had; without, what is served then.

    Adds `output`, float32 of shape (n, n_components), zeros while there is no model;
    ``<output>_version``, int64 of shape (n,), the number in the history of the model, 0 while there
    is none, which never falls for a simulation; and, with `errors`, ``<output>_error``, float32 of
    shape (n,).

    A frame's answer does not depend on the frames that come with it, up to the last digits of
    float32 (relative 1e-5): libraries may add up in another order for another number of rows. See
    `analytics.inference.ways.Way` for when it is the same to the bit.

    Parameters
    ----------
    model
        Name of the model in the registry.
    registry
        Folder of the registry; the same for all workers. Runs fill in their own.
    input
        Column, or list of columns side by side, of as many numbers in all as the model takes.
    output
        Name of the columns.
    n_components
        Number of coordinates; versions that have another are refused.
    errors
        Add the error of reconstruction.
    device, precision, compile, batch_size, least, threads
        See `analytics.inference.ways.Way`.
    nonfinite
        What becomes of a frame whose input is not finite: ``error``, or ``nan``: its answer is not
        a number, and an engine sets it aside. Engines set aside frames of the stream that are not
        finite before operators see them.
    wait
        Time to wait for the first model at the first frame.
    poll
        Time between looks at the registry, at least.
    ledger
        Folder in which it is noted which version answered which frames; empty for none. Runs and
        jobs fill it in.

    Raises
    ------
    ConfigError
        If a parameter is wrong.
    MissingExtra
        If torch is not installed.
    """

    def __init__(
        self,
        *,
        model: str,
        input: str | Sequence[str],
        registry: str = "",
        output: str = "latent",
        n_components: int = 2,
        errors: bool = False,
        device: Device = "auto",
        precision: Precision = "float32",
        compile: Compile = "off",
        batch_size: int = 256,
        least: int = 16,
        threads: int = 1,
        nonfinite: Nonfinite = "error",
        wait: str | float = 0.0,
        poll: str | float = 0.2,
        ledger: str = "",
    ) -> None:
        need_torch("inference by networks")
        self.model = output_name(model, "model")
        if not registry:
            raise ConfigError("The parameter 'registry' must name the folder of the registry.")
        self.registry = str(Path(registry).absolute())
        self.input = input_columns(input)
        self.output = output_name(output)
        self._version, self._error = f"{self.output}_version", f"{self.output}_error"
        self.n_components = check_count(n_components, "n_components")
        self.errors = errors
        self.nonfinite = check_nonfinite(nonfinite)
        self.way = Way(
            device=device,
            precision=precision,
            compile=compile,
            batch_size=batch_size,
            least=least,
            threads=threads,
        )
        self.wait = parse_duration(wait)
        self.poll = parse_duration(poll)
        self.ledger = str(Path(ledger).absolute()) if ledger else ""
        self.statistics = InferStatistics()
        self._serving: Serving | None = None
        self._book: SwapLedger | None = None

    def __getstate__(self) -> dict[str, Any]:
        # A copy, perhaps in another process, finds the models of its own process.
        state = {**self.__dict__, "_serving": None, "_book": None}
        return {**state, "statistics": InferStatistics()}

    @property
    def serving(self) -> Serving:
        """What follows the registry in this process."""
        if self._serving is None:
            self._serving = serving_of(
                self.registry,
                self.model,
                self.way,
                errors=self.errors,
                latent=self.n_components,
                poll=self.poll,
            )
        return self._serving

    @property
    def coordinates(self) -> int:
        """Coordinates that a model must give."""
        return self.n_components

    def reads(self) -> tuple[str, ...]:
        """Return the columns that `process` reads."""
        return self.input

    def process(self, batch: FrameBatch, context: Context) -> FrameBatch:
        """Add the columns."""
        return self._alone(batch, context) or self._process([batch], [context])[0]

    def process_many(
        self, batches: Sequence[FrameBatch], contexts: Sequence[Context]
    ) -> list[FrameBatch | None]:
        """Add the columns to batches of any simulations, whose rows are answered together."""
        return [*self._process(batches, contexts)]

    def _process(
        self, batches: Sequence[FrameBatch], contexts: Sequence[Context]
    ) -> list[FrameBatch]:
        served = self._served(contexts[0])
        present = 0 if served is None else served.number
        inputs = [rows_of(batch, self.input, "Infer") for batch in batches]
        good = [
            finite_rows(rows, batch, self.input, "Infer", self.nonfinite)
            for rows, batch in zip(inputs, batches, strict=True)
        ]
        numbers = [
            self._claim(batch, context, present)
            for batch, context in zip(batches, contexts, strict=True)
        ]
        answers = self._quick(served, inputs, numbers)
        if answers is None:
            answers = self._careful(served, present, inputs, numbers)
        out = []
        for batch, each, answer, fine in zip(batches, numbers, answers, good, strict=True):
            if fine is not None:
                self.statistics.nonfinite += int(np.count_nonzero(~fine))
                for column in answer.values():
                    column[~fine] = np.nan
            version = {self._version: each}
            out.append(batch.with_columns({self.output: answer[self.output], **version, **answer}))
        return out

    # ------------------------------------------------------------------ inside

    def _alone(self, batch: FrameBatch, context: Context) -> FrameBatch | None:
        """Answer one batch that what is in service answers as a whole; None where it is not.

        What `_process` does, with less around it: this is done for each batch of small networks.
        """
        n = len(batch.offsets)
        served = self._served(context)
        if served is None or not n:
            return None
        rows = rows_of(batch, self.input, "Infer")
        if finite_rows(rows, batch, self.input, "Infer", self.nonfinite) is not None:
            return None
        version = self._claim(batch, context, served.number)
        # Numbers never fall within a batch.
        if version[0] != served.number or version[-1] != served.number:
            return None
        coordinates, errors = served.encoder(rows)
        self.statistics.rows += n
        self.statistics.calls += 1
        added = {self.output: coordinates, self._version: version}
        if errors is not None:
            added[self._error] = errors
        return batch.with_columns(added)

    def _quick(
        self, served: Served | None, inputs: Sequence[Array], numbers: Sequence[Array]
    ) -> list[dict[str, Array]] | None:
        """Answer rows that are all for what is in service; None where they are not."""
        if served is None or not all(map(len, inputs)):
            return None
        # Numbers never fall within a batch.
        if any(each[0] != served.number or each[-1] != served.number for each in numbers):
            return None
        coordinates, errors = self._encode(served, inputs)
        out, at = [], 0
        for rows in inputs:
            stop = at + len(rows)
            mine = {self.output: coordinates[at:stop]}
            if errors is not None:
                mine[self._error] = errors[at:stop]
            out.append(mine)
            at = stop
        return out

    def _careful(
        self,
        served: Served | None,
        present: int,
        inputs: Sequence[Array],
        numbers: Sequence[Array],
    ) -> list[dict[str, Array]]:
        """Answer rows of several versions, or of none."""
        answers = [self._blank(len(rows)) for rows in inputs]
        for number in sorted({int(k) for each in numbers for k in np.unique(each)}):
            if not number:
                continue
            model = served if number == present else None
            model = model or self.serving.at(number)
            self._answer(model, inputs, numbers, answers)
        self.statistics.waiting += sum(int(np.count_nonzero(each == 0)) for each in numbers)
        return answers

    def _served(self, context: Context) -> Served | None:
        serving = self.serving
        served = serving.current()
        if served is None and self.wait:
            served = serving.wait(self.wait)
            self.wait = 0.0
        for kind, level, sentence in serving.notices() if serving.has_notices else ():
            context.event(kind, sentence, level=level, model=self.model)
        return served

    def _claim(self, batch: FrameBatch, context: Context, present: int) -> Array:
        if not self.ledger or not len(batch):
            numbers = np.empty(len(batch), np.int64)
            numbers.fill(present)
            return numbers
        if self._book is None:
            self._book = SwapLedger(Path(self.ledger), context.pipeline, context.operator)
        return self._book.claim(batch.simulation, batch.offsets, present)

    def _blank(self, n: int) -> dict[str, Array]:
        out: dict[str, Array] = {self.output: np.zeros((n, self.n_components), np.float32)}
        if self.errors:
            out[self._error] = np.zeros(n, np.float32)
        return out

    def _answer(
        self,
        model: Served,
        inputs: Sequence[Array],
        numbers: Sequence[Array],
        answers: Sequence[Mapping[str, Array]],
    ) -> None:
        """Fill in the rows that one version answers."""
        chosen = [np.flatnonzero(each == model.number) for each in numbers]
        parts = [
            rows if len(which) == len(rows) else rows[which]
            for rows, which in zip(inputs, chosen, strict=True)
            if len(which)
        ]
        coordinates, errors = self._encode(model, parts)
        at = 0
        for which, answer in zip(chosen, answers, strict=True):
            stop = at + len(which)
            answer[self.output][which] = coordinates[at:stop]
            if errors is not None:
                answer[self._error][which] = errors[at:stop]
            at = stop

    def _encode(self, model: Served, parts: Sequence[Array]) -> tuple[Array, Array | None]:
        """Give rows of several batches to the network at once."""
        shapes = {part.shape[1:] for part in parts}
        if len(shapes) > 1:
            raise SchemaError(
                f"Infer got frames of the shapes {', '.join(map(str, sorted(shapes)))} in its "
                "parameter 'input'; all simulations must send the same."
            )
        rows = parts[0] if len(parts) == 1 else np.concatenate(parts)
        self.statistics.rows += len(rows)
        self.statistics.calls += 1
        return model.encoder(rows)
