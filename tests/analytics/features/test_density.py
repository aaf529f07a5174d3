"""Density maps against MDAnalysis and NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from analytics.features import DensityMap
from analytics.features.density import count_positions
from bridge.errors import ConfigError, SchemaError
from bridge.frames import FrameBatch
from bridge.pipeline import Context

BOX = np.array([4.0, 5.0, 6.0])
TILTED = np.array([[4.0, 0.0, 0.0], [1.5, 5.0, 0.0], [-0.5, 1.0, 6.0]])


def frames(n: int = 3, particles: int = 500, box: Any = BOX) -> FrameBatch:
    x = np.random.default_rng(7).uniform(-10, 15, (n, particles, 3)).astype(np.float32)
    boxes = np.repeat(np.asarray(box)[None], n, axis=0)
    return FrameBatch.from_arrays("a", {"positions": x, "box": boxes})


def test_it_is_the_density_of_mdanalysis() -> None:
    mda = pytest.importorskip("MDAnalysis")
    from MDAnalysis.analysis.density import DensityAnalysis

    batch = frames()
    wrapped = np.mod(batch["positions"].astype(np.float64), BOX).astype(np.float32)
    universe = mda.Universe.empty(500, trajectory=True)
    universe.load_new(wrapped, order="fac")
    analysis = DensityAnalysis(
        universe.atoms, delta=1.0, padding=0, gridcenter=BOX / 2, xdim=4.0, ydim=5.0, zdim=6.0
    ).run()
    operator = DensityMap(bins=[4, 5, 6], quantity="density")
    out = operator.process(batch.with_columns({"positions": wrapped}), Context())
    np.testing.assert_allclose(out["density"].mean(axis=0), analysis.results.density.grid)


def test_a_tilted_box_is_divided_along_its_vectors() -> None:
    batch = frames(box=TILTED)
    out = DensityMap(bins=[3, 4, 5]).process(batch, Context())["density"]
    for x, counts in zip(batch["positions"], out, strict=True):
        places = np.mod(x.astype(np.float64) @ np.linalg.inv(TILTED), 1.0)
        wanted, _ = np.histogramdd(places, bins=(3, 4, 5), range=[(0, 1)] * 3)
        assert counts.tolist() == wanted.tolist()
    assert out.dtype == np.int64
    density = DensityMap(bins=[3, 4, 5], quantity="density").process(batch, Context())["density"]
    np.testing.assert_allclose(density, out / (np.linalg.det(TILTED) / 60))


def test_parts_add_up_in_any_order() -> None:
    batch = frames(particles=100_001)
    operator = DensityMap(bins=16)
    whole = operator.process(batch, Context())["density"]
    assert (whole.sum(axis=(1, 2, 3)) == 100_001).all()
    parts = []
    for start, stop in ((70_000, 100_001), (0, 1), (1, 70_000)):
        mine = batch.with_columns({"positions": batch["positions"][:, start:stop]})
        parts.append(operator.map_rows(mine, start, stop, Context()))
    assert operator.combine(parts, batch.select(["box"]))["density"].tobytes() == whole.tobytes()


def test_borders_are_periodic() -> None:
    x = np.array([[0.0, 0.0, 0.0], [-1e-18, 0.0, 0.0], [1.0, 1.0, 1.0], [0.5, -0.5, 1.5]])
    counts = count_positions(x, np.eye(3), (2, 2, 2))
    assert counts.sum() == 4
    assert counts[0, 0, 0] == 2
    assert counts[1, 0, 0] == 1
    assert counts[1, 1, 1] == 1


def test_what_is_refused() -> None:
    for says, arguments in {
        "'bins' is 0": {"bins": 0},
        "'bins' is": {"bins": [4, 4]},
        "at most 134": {"bins": 1000},
        "'quantity'": {"bins": 4, "quantity": "mass"},
        "'box' must name": {"bins": 4, "box": ""},
    }.items():
        with pytest.raises(ConfigError, match=says):
            DensityMap(**arguments)  # type: ignore[arg-type]
    batch = frames()
    bad = batch["positions"].copy()
    bad[1, 3] = np.inf
    with pytest.raises(SchemaError, match="at offset 1 of 'a': A coordinate is not finite"):
        DensityMap(bins=4).process(batch.with_columns({"positions": bad}), Context())
    with pytest.raises(SchemaError, match="no column 'box'"):
        DensityMap(bins=4).process(batch.select(["positions"]), Context())
