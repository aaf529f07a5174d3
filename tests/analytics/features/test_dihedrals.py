"""Dihedral angles against MDAnalysis and mdtraj, at the cut, and where they are not defined."""

from __future__ import annotations

import MDAnalysis
import mdtraj
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from MDAnalysis.lib.distances import calc_dihedrals
from MDAnalysisTests.datafiles import DCD, PSF

from analytics.features import Dihedrals, backbone, dihedral_angles, dihedral_sincos
from bridge.errors import ConfigError, SchemaError
from bridge.frames import FrameBatch
from bridge.pipeline import Context
from bridge.schema import Topology

# Alanine dipeptide as in SIMULATIONS: ACE 0-5, ALA 6-15, NME 16-21.
ALANINE = Topology(
    names=(
        *("HH31", "CH3", "HH32", "HH33", "C", "O"),
        *("N", "H", "CA", "HA", "CB", "HB1", "HB2", "HB3", "C", "O"),
        *("N", "H", "C", "H1", "H2", "H3"),
    ),
    residues=("ACE",) * 6 + ("ALA",) * 10 + ("NME",) * 6,
    residue_ids=(1,) * 6 + (2,) * 10 + (3,) * 6,
)


@pytest.fixture(scope="module")
def adenylate_kinase() -> MDAnalysis.Universe:
    return MDAnalysis.Universe(PSF, DCD)


@pytest.fixture
def positions() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(50, 12, 3)).astype(np.float32)


def topology_of(universe: MDAnalysis.Universe, *, bonds: bool) -> Topology:
    atoms = universe.atoms
    return Topology(
        names=tuple(atoms.names),
        residues=tuple(atoms.resnames),
        residue_ids=tuple(int(i) for i in atoms.resids),
        bonds=tuple((int(i), int(j)) for i, j in atoms.bonds.indices) if bonds else (),
    )


def test_angles_are_those_of_mdanalysis_and_mdtraj(positions: np.ndarray) -> None:
    groups = np.random.default_rng(1).permuted(np.tile(np.arange(12), (9, 1)), axis=1)[:, :4]
    ours = dihedral_angles(positions, groups)
    p = positions.astype(np.float64)
    theirs = np.stack([calc_dihedrals(*(p[:, i] for i in g)) for g in groups], axis=1)
    # MDAnalysis computes some of it in single precision.
    np.testing.assert_allclose(ours, theirs, atol=5e-6)
    trajectory = mdtraj.Trajectory(positions, None)
    mdtrajs = mdtraj.compute_dihedrals(trajectory, groups, periodic=False)
    np.testing.assert_allclose(ours, mdtrajs, atol=2e-5)
    assert ours.dtype == np.float64


@pytest.mark.parametrize("bonds", [True, False])
def test_the_backbone_of_a_protein(adenylate_kinase: MDAnalysis.Universe, bonds: bool) -> None:
    phi, psi = backbone(topology_of(adenylate_kinase, bonds=bonds))
    residues = adenylate_kinase.residues
    assert len(phi) == len(psi) == len(residues) - 1
    for found, wanted in (
        (phi, [r.phi_selection() for r in residues[1:]]),
        (psi, [r.psi_selection() for r in residues[:-1]]),
    ):
        np.testing.assert_array_equal(found, [group.ix for group in wanted])


def test_the_backbone_of_alanine_dipeptide_and_its_caps() -> None:
    phi, psi = backbone(ALANINE)
    assert phi.tolist() == [[4, 6, 8, 14]]
    assert psi.tolist() == [[6, 8, 14, 16]]


def test_a_chain_break_has_no_backbone_angle() -> None:
    names = ("N", "CA", "C") * 3
    apart = Topology(names=names, residue_ids=(1, 1, 1, 2, 2, 2, 5, 5, 5))
    assert backbone(apart).phi.tolist() == [[2, 3, 4, 5]]
    bonded = Topology(names=names, residue_ids=(1, 1, 1, 2, 2, 2, 5, 5, 5), bonds=((5, 6),))
    assert backbone(bonded).phi.tolist() == [[5, 6, 7, 8]]
    assert backbone(bonded).psi.tolist() == [[3, 4, 5, 6]]


def test_a_topology_without_names_is_refused() -> None:
    with pytest.raises(SchemaError, match="name and residue number"):
        backbone(Topology(elements=("C",)))


def turned(angle: float) -> np.ndarray:
    """Four atoms with a dihedral of that angle."""
    last = [np.cos(angle), np.sin(angle), 1.0]
    return np.array([[[1.0, 0, 0], [0, 0, 0], [0, 0, 1], last]])


@given(st.floats(-np.pi, np.pi))
def test_the_angle_that_was_built_comes_back(angle: float) -> None:
    found = dihedral_angles(turned(angle), [[0, 1, 2, 3]])[0, 0]
    assert np.cos(found - angle) == pytest.approx(1.0, abs=1e-12)
    # Rounding of the coordinates alone may take an angle near the cut to its other side.
    assert found == pytest.approx(angle, abs=1e-9) or abs(angle) > np.pi - 1e-9
    assert -np.pi < found <= np.pi


def test_the_cut_belongs_to_plus_pi() -> None:
    trans = np.array([[[1.0, 0, 0], [0, 0, 0], [0, 0, 1], [-1, 0.0, 1]]])
    for zero in (0.0, -0.0, 1e-300, -1e-300):
        trans[0, 3, 1] = zero
        assert dihedral_angles(trans, [[0, 1, 2, 3]])[0, 0] == np.pi


@pytest.mark.parametrize("line", [[[0, 0, 0], [0, 0, 1], [0, 0, 2], [0, 1, 3]], [[0, 0, 0]] * 4])
def test_atoms_on_a_line_give_zero(line: list[list[float]]) -> None:
    points = np.array([line], np.float64)
    assert dihedral_angles(points, [[0, 1, 2, 3]]).tolist() == [[0.0]]
    assert dihedral_sincos(points, [[0, 1, 2, 3]]).tolist() == [[1.0, 0.0]]


def test_sines_and_cosines_are_those_of_the_angles(positions: np.ndarray) -> None:
    groups = [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    angles = dihedral_angles(positions, groups)
    wanted = np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
    np.testing.assert_allclose(dihedral_sincos(positions, groups), wanted, atol=1e-12)


@pytest.mark.parametrize("tilt", [0.0, 2.7])
def test_a_molecule_broken_over_the_box_has_the_same_angles(
    positions: np.ndarray, tilt: float
) -> None:
    box = np.array([[30.0, 0, 0], [30 * tilt, 30, 0], [-30 * tilt, 11, 30]])
    boxes = np.repeat(box[None], len(positions), axis=0)
    shifts = np.random.default_rng(2).integers(-2, 3, (len(positions), 12, 3)) @ box
    batch = FrameBatch.from_arrays("s", {"positions": positions + shifts, "box": boxes})
    operator = Dihedrals(atoms=[[0, 3, 5, 9]], box="box")
    found = operator.process(batch, Context())["dihedrals"]
    np.testing.assert_allclose(found, dihedral_angles(positions, [[0, 3, 5, 9]]), atol=1e-9)


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"atoms": [0, 1, 2, 3]}, "'atoms' must be a list of groups of 4 atom indices each"),
        ({"atoms": []}, "at least one entry"),
        ({"atoms": [[0, 1, 2]]}, "groups of 4"),
        ({"atoms": [[0, 1, 2, 3], [1, 2]]}, "groups of 4"),
        ({"atoms": [[0, 1, 2, -3]]}, "negative index -3"),
        ({"atoms": [[0, 1, 2, 1]]}, "more than once"),
        ({"atoms": [[0, 1, 2, 3.5]]}, "groups of 4"),
        ({"atoms": [[0, 1, 2, 3]], "encoding": "degrees"}, "'encoding' is 'degrees'"),
        ({"atoms": [[0, 1, 2, 3]], "output": "my angles"}, "'output' is wrong"),
    ],
)
def test_wrong_parameters_are_named(parameters: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Dihedrals(**parameters)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"velocities": np.zeros((2, 9, 3))}, "no column 'positions'.*'variable'.*velocities"),
        ({"positions": np.zeros((2, 27))}, "needs coordinates of shape.*'positions'.*'s'.*27"),
        ({"positions": np.zeros((2, 7, 3))}, "index 8 in its parameter 'atoms'.*7 particles"),
        ({"positions": np.zeros((2, 9, 3), complex)}, "real numbers"),
        ({"positions": np.full((2, 9, 3), np.nan)}, "not finite.*offset 0"),
    ],
)
def test_wrong_frames_are_refused(columns: dict[str, np.ndarray], says: str) -> None:
    with pytest.raises(SchemaError, match=says):
        Dihedrals(atoms=[[0, 1, 2, 8]]).process(FrameBatch.from_arrays("s", columns), Context())
