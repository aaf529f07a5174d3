"""A projection onto components that are known beforehand, fast for large frames."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from analytics.features.inputs import check_finite, output_name
from bridge.errors import ConfigError, SchemaError
from bridge.frames import FrameBatch
from bridge.pipeline import Context, FrameOperator

__all__ = ["Projection"]

Array = npt.NDArray[np.float64]
Source = Sequence[Any] | npt.NDArray[Any] | str | PathLike[str]

# Numbers that are centred at a time: 1 MB of float32, which stays in the cache.
_AT_ONCE = 1 << 18
# A product of this many numbers is done by one thread of a BLAS, always in the same order.
_PRODUCT = 8192


def _load(path: Path, name: str) -> npt.NDArray[Any]:
    try:
        loaded = np.load(path, allow_pickle=False)
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise ConfigError(
            f"The parameter {name!r} names {str(path)!r}, which cannot be read as a .npy or .npz "
            f"file: {error}."
        ) from error
    if not isinstance(loaded, np.lib.npyio.NpzFile):
        return np.asarray(loaded)
    with loaded:
        if name not in loaded:
            raise ConfigError(
                f"The file {str(path)!r} has no array {name!r}; it has: {', '.join(loaded)}."
            )
        return np.asarray(loaded[name])


def _numbers(value: Source, name: str) -> Array:
    try:
        raw = _load(Path(value), name) if isinstance(value, str | PathLike) else value
        array = np.asarray(raw, np.float64)
    except (TypeError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"The parameter {name!r} is no array of numbers: {error}.") from error
    if not array.size or not np.isfinite(array).all():
        raise ConfigError(
            f"The parameter {name!r} must have finite numbers, and at least one of them."
        )
    return array


class Projection(FrameOperator):
    """Add ``(x - mean) @ components.T`` of a column, for example a PCA that was fitted before.

    A frame's answer has the same bits whichever frames come with it. float32 columns are
    multiplied as float32, in blocks that are added up as float64; other columns as float64. The
    input is never copied as a whole: a megabyte or two at a time is.

    Parameters
    ----------
    components
        Shape (d, ...): one component a row, of as many numbers in all as the column has in each
        frame. A list, or the name of a ``.npy`` file, or of a ``.npz`` file with the array
        ``components`` (and, unless given, ``mean``).
    mean
        As many numbers as a component, in the same ways; None for zero, or what the ``.npz``
        file of the components has.
    n_components
        Take the first ones alone; None for all.
    input
        Column, shape (n, ...), flattened in each frame.
    output
        Column to add, float64 of shape (n, d).

    Raises
    ------
    ConfigError
        If a parameter is wrong, or a file cannot be read.
    SchemaError
        On a batch without a fitting column, or with a value that is not finite.
    """

    def __init__(
        self,
        *,
        components: Source,
        mean: Source | None = None,
        n_components: int | None = None,
        input: str = "positions",
        output: str = "projection",
    ) -> None:
        rows = _numbers(components, "components")
        if mean is None and isinstance(components, str | PathLike):
            path = Path(components)
            if path.suffix == ".npz":
                with np.load(path, allow_pickle=False) as file:
                    mean = file.get("mean")
        rows = rows.reshape(len(rows), -1) if rows.ndim > 1 else rows[None]
        if n_components is not None and not 1 <= n_components <= len(rows):
            raise ConfigError(
                f"The parameter 'n_components' is {n_components}; there are {len(rows)}."
            )
        rows = rows[:n_components]
        centre = np.zeros(rows.shape[1]) if mean is None else _numbers(mean, "mean").reshape(-1)
        if len(centre) != rows.shape[1]:
            raise ConfigError(
                f"The parameter 'mean' has {len(centre)} numbers, and each component "
                f"{rows.shape[1]}; they must be as many."
            )
        self.input = input
        self.output = output_name(output)
        self.n_features = rows.shape[1]
        d = len(rows)
        self._width = min(self.n_features, max(1, _PRODUCT // d))
        blocks = math.ceil(self.n_features / self._width)
        padded = np.zeros((d, blocks * self._width))
        padded[:, : self.n_features] = rows
        # One small matrix a block: (blocks, features of the block, d), the features side by side.
        weights = np.ascontiguousarray(padded.reshape(d, blocks, self._width).swapaxes(0, 1))
        self._weights = {np.dtype(t): weights.astype(t) for t in (np.float32, np.float64)}
        self._mean = {np.dtype(t): centre.astype(t) for t in (np.float32, np.float64)}

    def reads(self) -> tuple[str, ...]:
        """Return the columns that `process` reads."""
        return (self.input,)

    def process(self, batch: FrameBatch, context: Context) -> FrameBatch:
        """Add the column."""
        column = batch[self.input]
        count = math.prod(column.shape[1:])
        if count != self.n_features or column.dtype.kind not in "fiub":
            raise SchemaError(
                f"Projection was given components of {self.n_features} numbers, but the column "
                f"{self.input!r} of {batch.simulation!r} has {count} of dtype {column.dtype} in "
                "each frame; it must have as many, and real ones."
            )
        out = self._project(column.reshape(len(batch), count))
        check_finite(out, batch, "Projection", f"the column {self.input!r}")
        return batch.with_columns({self.output: out})

    def _project(self, rows: npt.NDArray[Any]) -> Array:
        dtype = np.dtype(np.float32 if rows.dtype == np.float32 else np.float64)
        weights, mean, width = self._weights[dtype], self._mean[dtype], self._width
        n, k = rows.shape
        blocks, d = weights.shape[:2]
        group = min(blocks, max(1, _AT_ONCE // width))
        height = max(1, _AT_ONCE // (group * width))
        scratch = np.zeros((min(n, height), group * width), dtype)
        out = np.zeros((n, d))
        for top in range(0, n, height):
            part = rows[top : top + height]
            for begin in range(0, blocks, group):
                stop = min(begin + group, blocks)
                first, last = begin * width, min(stop * width, k)
                centred = scratch[: len(part), : (stop - begin) * width]
                np.subtract(part[:, first:last], mean[first:last], out=centred[:, : last - first])
                centred[:, last - first :] = 0
                # One product of a row and a matrix each: its bits depend on no other frame.
                shaped = centred.reshape(len(part), stop - begin, 1, width)
                products = np.matmul(shaped, weights[begin:stop].swapaxes(1, 2))
                out[top : top + height] += products[:, :, 0].sum(axis=1, dtype=np.float64)
        return out
