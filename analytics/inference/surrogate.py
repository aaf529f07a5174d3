"""A model of the registry that answers simulations."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from analytics.learning.registry import Registry
from analytics.learning.regressor import Regressor
from bridge.errors import ConfigError, HeadraceError, SchemaError
from bridge.surrogate import Inferred

__all__ = ["RegistrySurrogate"]

log = logging.getLogger(__name__)

Array = npt.NDArray[Any]


class RegistrySurrogate:
    """Answers with the version of a `Regressor` that its registry serves at the time.

    Rows with numbers that are not finite are not valid, nor are those outside the model's domain.
    Where a version that is to be served cannot be had, the one before it goes on answering.

    Parameters
    ----------
    name
        Of the model.
    registry
        Folder of the registry.
    device
        ``cpu``, ``cuda``, or ``auto``: CUDA where there is one.
    threads
        Of torch, for one answer; 0 leaves the choice to torch.
    poll
        Seconds between two looks for another version.
    """

    def __init__(
        self,
        name: str,
        *,
        registry: str | Path,
        device: str = "auto",
        threads: int = 1,
        poll: float = 0.2,
    ) -> None:
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if device == "cuda" and not torch.cuda.is_available():
            raise ConfigError("The device 'cuda' was asked for, and torch finds no CUDA here.")
        if threads:
            torch.set_num_threads(threads)
        self.name = name
        self._registry = Registry(registry)
        self._device = torch.device(device)
        self._poll = poll
        self._looked = -np.inf
        self._token: Any = None
        self._number = 0
        self._model: Regressor | None = None
        self._refused = ""

    def answer(self, inputs: Mapping[str, Array]) -> Inferred:
        """Answer n rows; see `bridge.surrogate.Surrogate`."""
        self._look()
        rows = len(next(iter(inputs.values())))
        model = self._model
        if model is None:
            why = self._refused or f"No version of {self.name!r} is served yet."
            return Inferred.nothing(rows, why)
        x = torch.from_numpy(_join(inputs, model.hyper["inputs"], self.name)).to(self._device)
        with torch.inference_mode():
            valid = torch.isfinite(x).all(1) & model.inside(x)
            y = model.encode(x)
            valid &= torch.isfinite(y).all(1)
        told, columns, values = y.cpu().numpy(), 0, {}
        for output, width in model.hyper["outputs"].items():
            part = told[:, columns : columns + width]
            values[output] = np.ascontiguousarray(part[:, 0] if width == 1 else part)
            columns += width
        good = valid.cpu().numpy()
        out = int(rows - np.count_nonzero(good))
        why = f"{out} of {rows} rows lie outside of what {self.name!r} has learned." if out else ""
        return Inferred(values, good, self._number, why)

    def _look(self) -> None:
        """Take up another version if one is served."""
        now = time.monotonic()
        if now - self._looked < self._poll:
            return
        self._looked = now
        try:
            self._renew()
        except HeadraceError as error:
            # One that answers goes on: a version that is damaged must not take the answers away.
            known, self._refused = self._refused, str(error)
            if self._model is None:
                raise
            if self._refused != known:
                log.warning("%s Number %d of %r goes on answering.", error, self._number, self.name)
        else:
            self._refused = ""

    def _renew(self) -> None:
        token = self._registry.token(self.name)
        if token == self._token:
            return
        served = self._registry.served(self.name)
        if served is not None and served.number != self._number:
            model = self._registry.load(served.version).model
            if not isinstance(model, Regressor):
                raise ConfigError(
                    f"The model {self.name!r} is a {model.kind!r}; simulations are answered by a "
                    "'regressor', which knows where it may be trusted."
                )
            self._model = model.to(self._device).eval()
            self._number = served.number
        self._token = token


def _join(inputs: Mapping[str, Array], widths: Mapping[str, int], name: str) -> Array:
    """Return the inputs as columns, float32 of shape (n, k)."""
    if set(inputs) != set(widths):
        raise SchemaError(
            f"The model {name!r} takes {', '.join(widths)}; it was sent {', '.join(inputs)}."
        )
    columns = []
    for key, width in widths.items():
        value = inputs[key]
        flat = value.reshape(len(value), -1)
        if flat.shape[1] != width or value.dtype.kind == "c":
            raise SchemaError(
                f"The input {key!r} of the model {name!r} has {width} real numbers a row; it was "
                f"sent {flat.shape[1]} of dtype {value.dtype}."
            )
        columns.append(flat.astype(np.float32))
    return np.concatenate(columns, axis=1)
