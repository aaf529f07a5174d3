"""Several models at once: what they say together, and how far they are apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from analytics.features.inputs import output_name
from analytics.inference.members import Members
from analytics.inference.rows import Nonfinite, check_nonfinite, finite_rows, rows_of
from analytics.inference.ways import Compile, Device, Precision, Way, need_torch
from analytics.statistics.moments import input_columns
from analytics.statistics.schedule import check_count
from bridge.config import parse_duration
from bridge.errors import ConfigError
from bridge.frames import FrameBatch
from bridge.pipeline import Context, FrameOperator

__all__ = ["Committee", "Compare"]

Array = npt.NDArray[Any]
Compare = Literal["latent", "error"]


class Committee(FrameOperator):
    """Add the mean of several models' coordinates, and their disagreement as its uncertainty.

    The members are the served versions of several names, or the last versions that were served
    under one name; each is renewed as `analytics.inference.operator.Infer` renews its own. An
    ensemble of networks from different beginnings tells how sure each answer is
    (Lakshminarayanan, Pritzel, Blundell 2017, arXiv:1612.01474).

    Adds `output`, float32, the mean over the members that are there: their coordinates, of shape
    (n, n_components), or errors of reconstruction, of shape (n,); ``<output>_disagreement``,
    float32 of shape (n,), the root of the mean squared distance of the members' coordinates to
    their mean, or the standard deviation of their errors, 0 while there are fewer than two;
    ``<output>_version``, int64 of shape (n,), which grows whenever a member is renewed, 0 while
    there are fewer than two; and ``<output>_members``, int64 of shape (n, members), the number of
    each member in the history of its name, 0 for one that is not there yet.

    Parameters
    ----------
    models
        Names in the registry; one name with `last`.
    registry
        Folder of the registry. Runs fill in their own.
    input
        As for `Infer`.
    last
        Take so many of the last different versions of the one name instead.
    compare
        ``latent``: coordinates. Those of several versions of one name are aligned to each other;
        those of different names must be, or be laid on each other by `anchors`. ``error``: errors
        of reconstruction, whatever the spaces are.
    anchors
        A ``.npy`` file with frames, of shape (m, ...): members are laid on the first one by a
        rotation, a shift and one scale that fit these frames best. Empty for none.
    output
        Name of the columns.
    n_components, device, precision, compile, batch_size, least, threads, nonfinite, poll, ledger
        As for `Infer`.

    Raises
    ------
    ConfigError
        If a parameter is wrong, or a first version does not fit it.
    MissingExtra
        If torch is not installed.
    """

    def __init__(
        self,
        *,
        models: str | Sequence[str],
        input: str | Sequence[str],
        registry: str = "",
        last: int = 0,
        compare: Compare = "latent",
        anchors: str = "",
        output: str = "committee",
        n_components: int = 2,
        device: Device = "auto",
        precision: Precision = "float32",
        compile: Compile = "off",
        batch_size: int = 256,
        least: int = 16,
        threads: int = 1,
        nonfinite: Nonfinite = "error",
        poll: str | float = 0.2,
        ledger: str = "",
    ) -> None:
        need_torch("committees of networks")
        names = (models,) if isinstance(models, str) else tuple(models)
        for name in names:
            output_name(name, "models")
        if last:
            check_count(last, "last", least=2)
        if (len(names) < 2 and not last) or (last and len(names) != 1):
            raise ConfigError(
                "A committee has at least two members: name several 'models', or one and in "
                f"'last' how many of its versions; it has {len(names)} and last = {last}."
            )
        if len(set(names)) < len(names):
            raise ConfigError(
                f"The parameter 'models' names {', '.join(map(repr, names))}: a member that sits "
                "in a committee twice always agrees with itself; name each once."
            )
        if compare not in ("latent", "error"):
            raise ConfigError(
                f"The parameter 'compare' must be 'latent' or 'error'; it is {compare!r}."
            )
        if not registry:
            raise ConfigError("The parameter 'registry' must name the folder of the registry.")
        self.input = input_columns(input)
        self.output = output_name(output)
        self.compare = compare
        self.n_components = check_count(n_components, "n_components")
        self.nonfinite = check_nonfinite(nonfinite)
        self._members = Members(
            names,
            str(Path(registry).absolute()),
            Way(
                device=device,
                precision=precision,
                compile=compile,
                batch_size=batch_size,
                least=least,
                threads=threads,
            ),
            last=last,
            errors=compare == "error",
            latent=self.n_components if compare == "latent" else 0,
            poll=parse_duration(poll),
            ledger=str(Path(ledger).absolute()) if ledger else "",
            anchors=str(Path(anchors).absolute()) if anchors else "",
        )

    @property
    def members(self) -> Members:
        """Who answers."""
        return self._members

    @property
    def coordinates(self) -> int | None:
        """Coordinates that each model must give; None if it does not matter."""
        return self.n_components if self.compare == "latent" else None

    def reads(self) -> tuple[str, ...]:
        """Return the columns that `process` reads."""
        return self.input

    def process(self, batch: FrameBatch, context: Context) -> FrameBatch:
        """Add the columns."""
        return self._process([batch], [context])[0]

    def process_many(
        self, batches: Sequence[FrameBatch], contexts: Sequence[Context]
    ) -> list[FrameBatch | None]:
        """Add the columns to batches of any simulations, whose rows are answered together."""
        return [*self._process(batches, contexts)]

    def _process(
        self, batches: Sequence[FrameBatch], contexts: Sequence[Context]
    ) -> list[FrameBatch]:
        inputs = [rows_of(batch, self.input, "Committee") for batch in batches]
        good = [
            finite_rows(rows, batch, self.input, "Committee", self.nonfinite)
            for rows, batch in zip(inputs, batches, strict=True)
        ]
        numbers = self._members.claim(batches, contexts)
        rows = inputs[0] if len(inputs) == 1 else np.concatenate(inputs)
        columns = self._judge(rows, np.concatenate(numbers))
        out, at = [], 0
        for batch, fine in zip(batches, good, strict=True):
            stop = at + len(batch)
            mine = {name: column[at:stop] for name, column in columns.items()}
            if fine is not None:
                for column in mine.values():
                    if column.dtype.kind == "f":
                        column[~fine] = np.nan
            out.append(batch.with_columns(mine))
            at = stop
        return out

    def _judge(self, rows: Array, numbers: Array) -> dict[str, Array]:
        shape = (len(rows), self.n_components if self.compare == "latent" else 1)
        there = numbers > 0
        answers = np.zeros((numbers.shape[1], *shape))
        for j in range(numbers.shape[1]):
            pairs = numbers[:, [0, j]]
            for first, number in np.unique(pairs, axis=0).tolist():
                if number:
                    which = np.flatnonzero((pairs == (first, number)).all(axis=1))
                    part = rows if len(which) == len(rows) else rows[which]
                    answers[j, which] = self._members.answer(j, number, part, first=first)
        weights = there.T[:, :, None] / np.maximum(there.sum(axis=1), 1)[None, :, None]
        mean = (weights * answers).sum(axis=0)
        apart = (weights * (answers - mean) ** 2).sum(axis=(0, 2))
        ready = there.sum(axis=1) > 1
        versions = numbers[:, 0] if self._members.last else numbers.sum(axis=1)
        shown = mean if self.compare == "latent" else mean[:, 0]
        return {
            self.output: shown.astype(np.float32),
            f"{self.output}_disagreement": np.where(ready, np.sqrt(apart), 0.0).astype(np.float32),
            f"{self.output}_version": np.where(ready, versions, 0),
            f"{self.output}_members": numbers,
        }
