"""Superposition, RMSD and radius of gyration against MDAnalysis and mdtraj; reflections; lines."""

from __future__ import annotations

from pathlib import Path

import MDAnalysis
import mdtraj
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from MDAnalysis.analysis import align, rms
from MDAnalysisTests.datafiles import DCD, PSF

from analytics.features import (
    RMSD,
    RadiusOfGyration,
    Superpose,
    radius_of_gyration,
    rmsd,
    superposition,
)
from bridge.errors import ConfigError, SchemaError
from bridge.frames import FrameBatch
from bridge.pipeline import Context


@pytest.fixture(scope="module")
def trajectory() -> tuple[np.ndarray, np.ndarray]:
    """Every 7th frame of the Cα atoms of adenylate kinase, and their masses."""
    universe = MDAnalysis.Universe(PSF, DCD)
    atoms = universe.select_atoms("name CA")
    return np.stack([atoms.positions.copy() for _ in universe.trajectory[::7]]), atoms.masses


def rotation(rng: np.random.Generator) -> np.ndarray:
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q if np.linalg.det(q) > 0 else q[:, [1, 0, 2]]


@pytest.mark.parametrize("weighted", [False, True])
def test_rmsd_is_that_of_mdanalysis(
    trajectory: tuple[np.ndarray, np.ndarray], weighted: bool
) -> None:
    points, _ = trajectory
    weights = np.linspace(0.5, 3, points.shape[1]) if weighted else None
    ours = rmsd(points, points[0], weights)
    kwargs = {"weights": weights, "center": True, "superposition": True}
    theirs = [rms.rmsd(p.astype(float), points[0].astype(float), **kwargs) for p in points]
    np.testing.assert_allclose(ours[1:], theirs[1:], rtol=1e-9)
    # Nothing is lost to cancellation where structures are the same.
    assert ours[0] < 1e-12


def test_rmsd_is_that_of_mdtraj(trajectory: tuple[np.ndarray, np.ndarray]) -> None:
    points, _ = trajectory
    theirs = mdtraj.rmsd(mdtraj.Trajectory(points.copy(), None), mdtraj.Trajectory(points, None))
    np.testing.assert_allclose(rmsd(points, points[0])[1:], theirs[1:], rtol=1e-3)


def test_rotations_are_those_of_mdanalysis(trajectory: tuple[np.ndarray, np.ndarray]) -> None:
    points, masses = trajectory
    fit = superposition(points, points[3], masses)
    goal = points[3] - np.average(points[3], axis=0, weights=masses)
    for i, frame in enumerate(points):
        mobile = frame - np.average(frame, axis=0, weights=masses)
        theirs, _ = align.rotation_matrix(mobile, goal, weights=masses)
        np.testing.assert_allclose(fit.rotations[i], theirs.T, atol=1e-5)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(3, 12))
def test_a_moved_structure_comes_back(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    reference = rng.normal(size=(count, 3))
    weights = rng.uniform(0.1, 2, count)
    turns = np.stack([rotation(rng) for _ in range(4)])
    moved = reference @ turns + rng.normal(scale=10, size=(4, 1, 3))
    fit = superposition(moved, reference, weights)
    np.testing.assert_allclose(fit.apply(moved), np.broadcast_to(reference, moved.shape), atol=1e-7)
    np.testing.assert_allclose(np.linalg.det(fit.rotations), 1.0)
    np.testing.assert_allclose(rmsd(moved, reference, weights), 0.0, atol=1e-7)


def test_a_mirror_image_is_not_reflected_back() -> None:
    rng = np.random.default_rng(0)
    reference = rng.normal(size=(8, 3))
    mirrored = reference * [1, 1, -1]
    fit = superposition(mirrored[None], reference)
    assert np.linalg.det(fit.rotations[0]) == pytest.approx(1.0)
    theirs = rms.rmsd(mirrored, reference, center=True, superposition=True)
    assert rmsd(mirrored[None], reference)[0] == pytest.approx(theirs, rel=1e-9)
    assert theirs > 0.1


@pytest.mark.parametrize(
    "reference",
    [
        [[0.0, 0, 0], [1, 0, 0], [2, 0, 0]],
        [[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]],
        [[1.0, 1, 1]],
    ],
)
def test_lines_planes_and_single_points_are_fitted_too(reference: list[list[float]]) -> None:
    rng = np.random.default_rng(1)
    goal = np.array(reference)
    moved = goal @ rotation(rng) + rng.normal(size=3)
    fit = superposition(moved[None], goal)
    np.testing.assert_allclose(fit.apply(moved[None])[0], goal, atol=1e-12)
    assert np.linalg.det(fit.rotations[0]) == pytest.approx(1.0)


def test_all_particles_move_with_the_fitted_ones(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    everything = rng.normal(size=(10, 3))
    atoms = [7, 2, 4, 9]
    turned = np.stack([everything @ rotation(rng) + rng.normal(size=3) for _ in range(5)])
    np.save(tmp_path / "reference.npy", everything[atoms])
    np.savetxt(tmp_path / "reference.txt", everything[atoms])
    for name in ("reference.npy", "reference.txt"):
        operator = Superpose(reference=str(tmp_path / name), atoms=atoms)
        for dtype in (np.float32, np.float64):
            batch = FrameBatch.from_arrays("s", {"positions": turned.astype(dtype)})
            found = operator.process(batch, Context())["superposed"]
            assert found.dtype == dtype
            np.testing.assert_allclose(found, np.broadcast_to(everything, found.shape), atol=1e-5)
    far = RMSD(reference=everything[atoms].tolist(), atoms=atoms, superpose=False)
    batch = FrameBatch.from_arrays("s", {"positions": turned})
    wanted = np.sqrt(((turned[:, atoms] - everything[atoms]) ** 2).sum(-1).mean(-1))
    np.testing.assert_allclose(far.process(batch, Context())["rmsd"], wanted)


def test_radius_of_gyration_is_that_of_mdanalysis_and_mdtraj(
    trajectory: tuple[np.ndarray, np.ndarray],
) -> None:
    universe = MDAnalysis.Universe(PSF, DCD)
    atoms = universe.select_atoms("protein")
    points, theirs = [], []
    for _ in universe.trajectory[::20]:
        points.append(universe.atoms.positions.copy())
        theirs.append(atoms.radius_of_gyration())
    batch = FrameBatch.from_arrays("s", {"positions": np.stack(points)})
    operator = RadiusOfGyration(masses=atoms.masses.tolist(), atoms=atoms.ix.tolist())
    ours = operator.process(batch, Context())["radius_of_gyration"]
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    plain = mdtraj.compute_rg(mdtraj.Trajectory(trajectory[0], None), np.ones(214))
    np.testing.assert_allclose(radius_of_gyration(trajectory[0]), plain, rtol=1e-5)


POINTS = [[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: RMSD(reference=[[0.0, 0], [1, 1]]), "'reference' must be a list of coordinates"),
        (lambda: RMSD(reference=[[0.0, 0, 0], [1, 1]]), "'reference' must be"),
        (lambda: RMSD(reference="nowhere.npy"), "'nowhere.npy', which cannot be read"),
        (lambda: RMSD(reference=[[0.0, 0, np.nan]]), "'reference' has a value"),
        (lambda: RMSD(reference=POINTS, atoms=[0, 1]), "'reference' has 3 points.*'atoms' 2"),
        (lambda: RMSD(reference=POINTS, weights=[1, 1]), "'weights' must have 3 numbers"),
        (lambda: RMSD(reference=POINTS, weights=[1, 1, -1]), "not negative"),
        (lambda: RMSD(reference=POINTS, weights=[0, 0, 0]), "not all zero"),
        (lambda: RadiusOfGyration(masses=[1.0, 2], atoms=[0, 1, 2]), "'masses' must have 3"),
    ],
)
def test_wrong_parameters_are_named(make: object, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        make()  # type: ignore[operator]


def test_wrong_frames_are_refused() -> None:
    batch = FrameBatch.from_arrays("s", {"positions": np.ones((2, 5, 3))})
    with pytest.raises(SchemaError, match=r"3 points in its parameter 'reference'.*5 particles"):
        RMSD(reference=POINTS).process(batch, Context())
    with pytest.raises(SchemaError, match=r"2 masses in its parameter 'masses'.*5 particles"):
        RadiusOfGyration(masses=[1.0, 2.0]).process(batch, Context())
    undefined = FrameBatch.from_arrays("s", {"positions": np.full((2, 3, 3), np.nan)})
    for operator in (RMSD(reference=POINTS), Superpose(reference=POINTS), RadiusOfGyration()):
        with pytest.raises(SchemaError, match="not finite"):
            operator.process(undefined, Context())
