"""Histograms of results, and free energies from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bridge.dashboard.stores.columns import Columns, version_column
from bridge.dashboard.stores.points import extent
from bridge.dashboard.stores.results import ResultStore
from bridge.dashboard.stores.table import Table
from bridge.errors import ConfigError

__all__ = ["BOLTZMANN", "free_energy", "histogram"]

Array = npt.NDArray[Any]

BOLTZMANN = 8.31446261815324e-3
"""Molar gas constant in kJ/mol/K (CODATA 2018, exact)."""

MOST_BINS = 1000

Bounds = tuple[float, float] | None


def free_energy(counts: Array, temperature: float | None) -> Array:
    """Return ``-kT ln p`` of bins of the same size, its minimum at 0; NaN where nothing was seen.

    Parameters
    ----------
    counts
        How often each bin was visited.
    temperature
        In kelvin; the result is in kJ/mol. None for a result in units of kT.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        p = counts / counts.sum()
        values = np.where(counts > 0, -np.log(p), np.nan)
    if temperature is not None:
        values = values * BOLTZMANN * temperature
    return values - np.nanmin(values) if (counts > 0).any() else values


def histogram(
    store: ResultStore,
    columns: Columns,
    x: str,
    y: str | None = None,
    *,
    bins: int | Sequence[int] = 60,
    bounds: Sequence[Bounds] = (None, None),
    kind: Literal["counts", "free_energy"] = "counts",
    temperature: float | None = None,
    at: float | None = None,
    simulations: Sequence[str] | None = None,
    frames: Table | None = None,
) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return a histogram, see `bridge.dashboard.feed.Feed.histogram`."""
    if kind not in ("counts", "free_energy"):
        raise ConfigError(f"A histogram shows counts or free_energy; it was asked for {kind!r}.")
    texts = [columns.meant(t) for t in ([x] if not y else [x, y])]
    for text in texts:
        columns.check(text)
    sizes = [bins] * len(texts) if isinstance(bins, int) else list(bins)
    if len(sizes) != len(texts) or not all(1 <= b <= MOST_BINS for b in sizes):
        raise ConfigError(f"A histogram has 1 to {MOST_BINS} bins along each axis, not {bins}.")
    of_frames = frames is not None and all(columns.of_frames(text) for text in texts)
    table = frames if of_frames and frames is not None else store.sample
    rows = np.ones(table.n, np.bool_)
    chosen = store.numbers(simulations)
    if chosen is not None:
        rows &= chosen[table.key("simulation")]
    if at is not None:
        rows &= table.key("stamp") <= at
    values = [columns.pick(table, rows, text) for text in texts]
    good = np.all([np.isfinite(v) for v in values], axis=0)
    for text in texts:
        version = version_column(text, store.columns)
        if version:
            good &= columns.pick(table, rows, version) > 0
    values = [v[good] for v in values]
    limits = [_limits(v, b) for v, b in zip(values, bounds, strict=False)]
    counts, edges = np.histogramdd(np.stack(values, axis=1), bins=sizes, range=limits)
    shown = counts if kind == "counts" else free_energy(counts, temperature)
    unit = "" if kind == "counts" else ("kT" if temperature is None else "kJ/mol")
    arrays = {"values": shown.astype(np.float32), "x_edges": edges[0]}
    if y:
        arrays["y_edges"] = edges[1]
    n = len(values[0])
    meta = {
        "kind": kind,
        "unit": unit,
        "temperature": temperature,
        "columns": {"x": texts[0], "y": texts[1] if y else None},
        "total": n,
        "outside": n - int(counts.sum()),
        "range": extent(arrays["values"]),
        "stride": store.stride,
        "sampled": store.stride > 1,
        "seq": store.seq,
    }
    return meta, arrays


def _limits(values: Array, bounds: Bounds) -> tuple[float, float]:
    if bounds is not None:
        low, high = float(bounds[0]), float(bounds[1])
        if not (np.isfinite(low) and np.isfinite(high) and low < high):
            raise ConfigError(
                f"The range of a histogram goes from a smaller to a greater number, not from {low} "
                f"to {high}."
            )
        return low, high
    if not len(values):
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    return (low, high) if low < high else (low - 0.5, high + 0.5)
