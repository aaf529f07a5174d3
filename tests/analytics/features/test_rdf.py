"""Radial distribution functions against MDAnalysis and pairs counted one by one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from analytics.features import RadialDistribution
from bridge.errors import ConfigError, SchemaError
from bridge.frames import FrameBatch
from bridge.pipeline import Context

BOX = np.array([6.0, 7.0, 8.0])


def frames(n: int = 2, particles: int = 400) -> FrameBatch:
    x = np.random.default_rng(3).uniform(-9, 20, (n, particles, 3)).astype(np.float32)
    return FrameBatch.from_arrays("a", {"positions": x, "box": np.repeat(BOX[None], n, axis=0)})


def distances(x: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    between = x[:, None].astype(np.float64) - x[None]
    between -= BOX * np.rint(between / BOX)
    return np.asarray(np.sqrt((between**2).sum(axis=2)))


def test_pairs_are_counted_exactly() -> None:
    batch = frames()
    operator = RadialDistribution(cutoff=3.0, bins=30)
    out = operator.process(batch, Context())
    for i, x in enumerate(batch["positions"]):
        upper = distances(x)[np.triu_indices(len(x), 1)]
        wanted, _ = np.histogram(upper, operator.edges)
        assert out["rdf_counts"][i].tolist() == wanted.tolist()
        shells = 4 / 3 * np.pi * np.diff(operator.edges**3)
        ideal = 400 * 399 / 2 / BOX.prod() * shells
        np.testing.assert_allclose(out["rdf"][i], wanted / ideal)


def test_two_groups() -> None:
    batch = frames()
    first, second = list(range(100)), list(range(80, 400, 2))
    operator = RadialDistribution(cutoff=2.5, start=0.5, bins=10, atoms=first, others=second)
    out = operator.process(batch, Context())
    between = distances(batch["positions"][0])[np.ix_(first, second)]
    wanted, _ = np.histogram(between, operator.edges)
    assert out["rdf_counts"][0].tolist() == wanted.tolist()
    shells = 4 / 3 * np.pi * np.diff(operator.edges**3)
    pairs = 100 * 160 - 10
    np.testing.assert_allclose(out["rdf"][0], wanted * BOX.prod() / (pairs * shells))


def test_it_is_the_rdf_of_mdanalysis() -> None:
    mda = pytest.importorskip("MDAnalysis")
    from MDAnalysis.analysis.rdf import InterRDF

    batch = frames()
    universe = mda.Universe.empty(400, trajectory=True)
    sides = np.tile([*BOX, 90.0, 90.0, 90.0], (2, 1))
    universe.load_new(batch["positions"], order="fac", dimensions=sides)
    theirs = InterRDF(universe.atoms, universe.atoms, nbins=20, range=(0.2, 3.0), norm="rdf").run()
    ours = RadialDistribution(cutoff=3.0, start=0.2, bins=20).process(batch, Context())
    # Ours leaves a particle's pair with itself out of the number of pairs.
    assert (2 * ours["rdf_counts"].sum(axis=0)).tolist() == theirs.results.count.tolist()
    np.testing.assert_allclose(ours["rdf"].mean(axis=0), theirs.results.rdf * 400 / 399, rtol=1e-6)


def test_parts_add_up_in_any_order() -> None:
    batch = frames()
    for operator in (
        RadialDistribution(cutoff=2.0),
        RadialDistribution(cutoff=2.0, atoms=[3, 1, 399, 7], others=list(range(50, 390))),
    ):
        whole = operator.process(batch, Context())
        shares = ((300, 400), (0, 3), (3, 300))
        parts = [operator.map_rows(batch, start, stop, Context()) for start, stop in shares]
        joined = operator.combine(parts, batch.select(["box"]))
        for name in ("rdf", "rdf_counts"):
            assert joined[name].tobytes() == whole[name].tobytes()


def test_what_is_refused() -> None:
    for says, arguments in {
        "'bins' is 0": {"cutoff": 1.0, "bins": 0},
        "'cutoff'": {"cutoff": 1.0, "start": 2.0},
        "'box' must name": {"cutoff": 1.0, "box": ""},
        "'atoms'": {"cutoff": 1.0, "atoms": [1, 1]},
    }.items():
        with pytest.raises(ConfigError, match=says):
            RadialDistribution(**arguments)  # type: ignore[arg-type]
    batch = frames()
    tilted = np.repeat((np.diag(BOX) + np.eye(3, k=-1))[None], 2, axis=0)
    for says, cutoff, changed in (
        ("is tilted", 1.0, {"box": tilted}),
        ("more than half the shortest edge", 3.1, {}),
        ("not finite", 1.0, {"positions": np.full((2, 400, 3), np.nan)}),
    ):
        with pytest.raises(SchemaError, match=says):
            RadialDistribution(cutoff=cutoff).process(batch.with_columns(changed), Context())
