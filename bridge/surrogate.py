"""Models that answer a running simulation: what one must be, and what its answer holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["SURROGATES", "Inferred", "ServiceStatistics", "Surrogate"]

SURROGATES = "headrace.surrogates"
"""Group of entry points: short name to a callable that returns a `Surrogate`."""

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Inferred:
    """What a model answered for n rows.

    Attributes
    ----------
    values
        Name of an output to its values; the first axis has n rows. Empty where there is no answer
        at all. What rows that are not valid hold means nothing.
    valid
        Shape (n,), bool. False where the model must not be trusted: the simulation computes those
        rows for itself.
    version
        Of the model, as its registry counts them; 0 where there is no answer.
    reason
        Why rows are not valid, in words; empty if all are.
    """

    values: Mapping[str, Array]
    valid: npt.NDArray[np.bool_]
    version: int = 0
    reason: str = ""

    def __getitem__(self, name: str) -> Array:
        """Return the values of one output."""
        return self.values[name]

    @property
    def all_valid(self) -> bool:
        """Whether every row may be used."""
        return bool(self.valid.all())

    @classmethod
    def nothing(cls, rows: int, reason: str) -> Inferred:
        """Return that there is no answer, and why."""
        return cls({}, np.zeros(rows, np.bool_), 0, reason)


class Surrogate(Protocol):
    """A model that answers, row by row: a row's answer does not depend on those beside it."""

    def answer(self, inputs: Mapping[str, Array]) -> Inferred:
        """Answer n rows, of any number of ranks and simulations.

        Parameters
        ----------
        inputs
            Arrays whose first axis has n rows.

        Raises
        ------
        HeadraceError
            If names, shapes or dtypes are not what the model takes; the sentence reaches whoever
            asked.
        """
        ...


@dataclass(slots=True)
class ServiceStatistics:
    """What a service has done.

    Attributes
    ----------
    requests, rows
        Answered.
    batches
        Calls of the model.
    invalid
        Rows that were outside the model's domain.
    expired
        Requests that came too late to be of use to who asked.
    refused
        Requests that the model, or the service, refused.
    """

    requests: int = 0
    rows: int = 0
    batches: int = 0
    invalid: int = 0
    expired: int = 0
    refused: int = 0
    versions: set[int] = field(default_factory=set)
