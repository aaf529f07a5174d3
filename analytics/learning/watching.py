"""Drift of the frames, and of what the model in service makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from analytics.learning.alignment import Alignment
from analytics.learning.drift import Drift, DriftMonitor
from analytics.learning.intake import part_of
from analytics.learning.model import StreamModel
from analytics.learning.registry import Loaded
from bridge.config import build

__all__ = ["DriftWatch", "encode"]

Array = npt.NDArray[Any]

_CHUNK = 1024  # frames that a model takes at once


class DriftWatch:
    """Two monitors: of the inputs, for good, and of the model in service, until another one is.

    Parameters
    ----------
    table
        Parameters of `analytics.learning.drift.DriftMonitor`.
    seed
        Where the table has none.
    """

    def __init__(self, table: Mapping[str, Any], *, seed: int) -> None:
        self._table = {"seed": seed, **table}
        self._inputs = self._make()
        self._model = self._make()
        self._number = 0

    def _make(self) -> DriftMonitor:
        return build(DriftMonitor, self._table, "The parameter 'drift' of train")

    def update(self, x: Array, served: Loaded | None, number: int) -> list[Drift]:
        """Take frames, and return what changed with them.

        Parameters
        ----------
        x
            Shape (n, *input_shape).
        served, number
            The model in service and its number in the history; None for none.
        """
        found = self._inputs.update(None, None, x)
        if number != self._number:
            self._model, self._number = self._make(), number
        if served is not None:
            found += self._model.update(
                _errors(served, x), encode(served.model, x, served.alignment)
            )
        return found

    def save(self) -> dict[str, Any]:
        """Return the state as arrays and plain data."""
        state: dict[str, Any] = {"number": self._number}
        state |= {f"inputs {k}": v for k, v in self._inputs.save().items()}
        return state | {f"model {k}": v for k, v in self._model.save().items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what `save` returned, with the same parameters."""
        self._number = int(state["number"])
        self._inputs.restore(part_of(state, "inputs"))
        self._model.restore(part_of(state, "model"))


def encode(model: StreamModel, x: Array, alignment: Alignment | None = None) -> Array:
    """Return the coordinates of frames, shape (n, latent), laid where others are."""
    with torch.no_grad():
        z = torch.cat([model.encode(torch.from_numpy(part)) for part in _parts(x)])
        return np.asarray((z if alignment is None else alignment.apply(z)).numpy())


def _parts(x: Array) -> list[Array]:
    return [x[i : i + _CHUNK] for i in range(0, max(1, len(x)), _CHUNK)]


def _errors(served: Loaded, x: Array) -> Array | None:
    with torch.no_grad():
        parts = [served.model.errors(torch.from_numpy(part)) for part in _parts(x)]
    known = [part.numpy() for part in parts if part is not None]
    return np.concatenate(known) if len(known) == len(parts) else None
