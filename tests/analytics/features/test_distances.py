"""Distances and minimum images against MDAnalysis, mdtraj and a search of all near images."""

from __future__ import annotations

import mdtraj
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from MDAnalysis.lib.distances import calc_bonds, distance_array
from MDAnalysis.lib.mdamath import triclinic_box, triclinic_vectors

from analytics.features import (
    ContactMap,
    Distances,
    all_pairs,
    minimum_image,
    pair_distances,
    reduce_box,
)
from bridge.errors import ConfigError, SchemaError
from bridge.frames import FrameBatch
from bridge.pipeline import Context

BOXES = {
    "rectangular": [[3.0, 0, 0], [0, 4, 0], [0, 0, 5]],
    "hexagonal": [[3.0, 0, 0], [1.5, 2.6, 0], [0, 0, 4]],
    "dodecahedron": [[4.0, 0, 0], [0, 4, 0], [2, 2, 2.8284271]],
    "truncated octahedron": [[4.0, 0, 0], [1.3333, 3.7712, 0], [-1.3333, 1.8856, 3.266]],
    "strongly tilted": [[3.0, 0, 0], [7.9, 2.5, 0], [-11.3, 9.7, 4]],
    "flat": [[1.0, 0, 0], [0.9, 0.2, 0], [5.3, 3.1, 0.5]],
    "rotated": [[0.0, 3, 0], [0, 0, 4], [5, 0, 0]],
}


def nearest_by_search(vectors: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Lengths of the shortest images, by trying every cell that may hold one."""
    inverse = np.linalg.inv(box)
    near = vectors - np.rint(vectors @ inverse) @ box
    # An image within this radius has fractional coordinates up to radius × reciprocal length.
    radius = np.linalg.norm(near, axis=1).max()
    reach = np.ceil(radius * np.linalg.norm(inverse, axis=0) + 0.5).astype(int)
    ranges = [np.arange(-r, r + 1) for r in reach]
    cells = np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, 3) @ box
    cells = cells[np.linalg.norm(cells, axis=1) <= 2 * radius]
    shortest = [np.linalg.norm(vector + cells, axis=1).min() for vector in near]
    return np.array(shortest)


@pytest.mark.parametrize("name", BOXES)
def test_minimum_images_are_the_shortest_of_all(name: str) -> None:
    box = np.array(BOXES[name])
    vectors = np.random.default_rng(0).normal(scale=9.0, size=(200, 3))
    found = minimum_image(vectors[None], box[None])[0]
    wanted = nearest_by_search(vectors, box)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), wanted, atol=1e-12)
    # They are images: they differ by whole cells.
    cells = (found - vectors) @ np.linalg.inv(box)
    np.testing.assert_allclose(cells, np.rint(cells), atol=1e-9)


def test_a_box_for_each_frame_is_used_for_that_frame() -> None:
    boxes = np.array(list(BOXES.values()))
    vectors = np.random.default_rng(1).normal(scale=5.0, size=(len(boxes), 60, 3))
    together = minimum_image(vectors, boxes)
    for i in range(len(boxes)):
        alone = minimum_image(vectors[i : i + 1], boxes[i : i + 1])[0]
        np.testing.assert_allclose(
            np.linalg.norm(together[i], axis=1), np.linalg.norm(alone, axis=1), atol=1e-12
        )


@settings(deadline=None)
@given(
    st.lists(st.integers(-6, 6), min_size=6, max_size=6),
    st.integers(0, 2**32 - 1),
)
def test_tilting_a_box_by_whole_vectors_changes_nothing(tilts: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    box = np.eye(3) * 3 + rng.uniform(-1.2, 1.2, (3, 3))
    shear = np.eye(3)
    shear[1, 0], shear[2, 0], shear[2, 1] = tilts[:3]
    other = np.eye(3)
    other[0, 1], other[0, 2], other[1, 2] = tilts[3:]
    same_lattice = other @ shear @ box
    vectors = rng.normal(scale=6.0, size=(1, 40, 3))
    lengths = np.linalg.norm(minimum_image(vectors, box[None]), axis=-1)
    again = np.linalg.norm(minimum_image(vectors, same_lattice[None]), axis=-1)
    np.testing.assert_allclose(again, lengths, atol=1e-8)
    np.testing.assert_allclose(lengths[0], nearest_by_search(vectors[0], box), atol=1e-9)


def test_reduced_boxes_span_the_same_lattice() -> None:
    boxes = np.array(list(BOXES.values()))
    reduced = reduce_box(boxes)
    change = reduced @ np.linalg.inv(boxes)
    np.testing.assert_allclose(change, np.rint(change), atol=1e-9)
    np.testing.assert_allclose(np.abs(np.linalg.det(change)), 1.0)
    assert (np.diff(np.linalg.norm(reduced, axis=2), axis=1) >= -1e-12).all()


def test_distances_are_those_of_mdanalysis_and_mdtraj() -> None:
    rng = np.random.default_rng(3)
    # A compact molecule in a box of MDAnalysis's convention, then scattered over the cells.
    dimensions = np.array([31.0, 35, 40, 75, 82, 66], np.float32)
    box = triclinic_vectors(dimensions).astype(np.float64)
    points = (rng.uniform(0, 1, (20, 9, 3)) @ box).astype(np.float32)
    pairs = all_pairs(range(9))
    boxes = np.repeat(box[None], 20, axis=0)
    ours = pair_distances(points, pairs, boxes)
    for frame in range(20):
        left, right = points[frame, pairs[:, 0]], points[frame, pairs[:, 1]]
        theirs = calc_bonds(left.astype(float), right.astype(float), box=triclinic_box(*box))
        np.testing.assert_allclose(ours[frame], theirs, rtol=1e-5)
    trajectory = mdtraj.Trajectory(points / 10, None)
    trajectory.unitcell_vectors = boxes / 10
    # Without a topology mdtraj cannot be asked through compute_distances' checks of bonds.
    theirs = mdtraj.compute_distances(trajectory, pairs, periodic=True, opt=False)
    np.testing.assert_allclose(ours / 10, theirs, rtol=1e-4)
    plain = np.linalg.norm(points[:, pairs[:, 0]].astype(float) - points[:, pairs[:, 1]], axis=2)
    np.testing.assert_allclose(pair_distances(points, pairs), plain, rtol=1e-12)


def test_edge_lengths_are_a_rectangular_box() -> None:
    rng = np.random.default_rng(4)
    points = rng.uniform(-9, 9, (6, 5, 3)).astype(np.float32)
    lengths = rng.uniform(3, 5, (6, 3))
    full = lengths[:, :, None] * np.eye(3)
    batch = FrameBatch.from_arrays("s", {"positions": points, "box": full, "edges": lengths})
    with_box = Distances(atoms=[0, 1, 4], box="box").process(batch, Context())["distances"]
    with_edges = Distances(atoms=[0, 1, 4], box="edges").process(batch, Context())["distances"]
    np.testing.assert_array_equal(with_box, with_edges)
    np.testing.assert_allclose(with_box, pair_distances(points, [[0, 1], [0, 4], [1, 4]], full))


def test_contacts_are_those_of_mdanalysis() -> None:
    rng = np.random.default_rng(5)
    dimensions = np.array([20.0, 20, 25, 90, 90, 60], np.float32)
    box = triclinic_vectors(dimensions)
    points = (rng.uniform(0, 1, (5, 30, 3)) @ box).astype(np.float32)
    atoms = rng.permutation(30)[:12]
    batch = FrameBatch.from_arrays("s", {"positions": points, "box": np.repeat(box[None], 5, 0)})
    operator = ContactMap(atoms=atoms.tolist(), cutoff=7.0, min_separation=3, box="box")
    found = operator.process(batch, Context())["contacts"]
    assert found.dtype == bool
    upper = np.triu_indices(12, 3)
    for frame in range(5):
        chosen = points[frame, atoms]
        wanted = distance_array(chosen, chosen, box=dimensions) < 7.0
        np.testing.assert_array_equal(found[frame], wanted[upper])
    np.testing.assert_array_equal(operator.pairs, np.stack([atoms[upper[0]], atoms[upper[1]]], 1))
    gradual = ContactMap(atoms=atoms.tolist(), cutoff=7.0, width=0.5, min_separation=3, box="box")
    degrees = gradual.process(batch, Context())["contacts"]
    assert degrees.dtype == np.float32
    distances = pair_distances(points, operator.pairs, batch["box"])
    np.testing.assert_allclose(degrees, 1.0 / (1.0 + np.exp((distances - 7.0) / 0.5)), atol=1e-6)
    np.testing.assert_array_equal(degrees > 0.5, found)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Distances(), "either the parameter 'pairs' or the parameter 'atoms'"),
        (lambda: Distances(pairs=[[0, 1]], atoms=[0, 1]), "either"),
        (lambda: Distances(atoms=[3]), "at least two"),
        (lambda: Distances(pairs=[[0, 0]]), "more than once"),
        (lambda: ContactMap(atoms=[0, 1], cutoff=0.0), "'cutoff' is 0.0"),
        (lambda: ContactMap(atoms=[0, 1], cutoff=np.inf), "'cutoff' is inf"),
        (lambda: ContactMap(atoms=[0, 1], cutoff=1.0, width=-1.0), "'width' is -1.0"),
        (lambda: ContactMap(atoms=[0, 1], cutoff=1.0, min_separation=2), "'min_separation' is 2"),
    ],
)
def test_wrong_parameters_are_named(make: object, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        make()  # type: ignore[operator]


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({}, "no column 'box' \\(its parameter 'box'\\)"),
        ({"box": np.ones((2, 6))}, "box vectors of shape"),
        ({"box": np.zeros((2, 3, 3))}, "without volume.*offset 0.*'box' empty"),
        ({"box": np.ones((2, 3, 3))}, "without volume"),
        ({"box": np.full((2, 3), np.nan)}, "not finite in the column 'box'"),
    ],
)
def test_wrong_boxes_are_refused(columns: dict[str, np.ndarray], says: str) -> None:
    batch = FrameBatch.from_arrays("s", {"positions": np.ones((2, 3, 3)), **columns})
    with pytest.raises(SchemaError, match=says):
        Distances(atoms=[0, 1], box="box").process(batch, Context())


def test_an_index_out_of_range_names_the_parameter() -> None:
    batch = FrameBatch.from_arrays("s", {"positions": np.ones((2, 3, 3))})
    with pytest.raises(SchemaError, match="index 3 in its parameter 'pairs'"):
        Distances(pairs=[[0, 3]]).process(batch, Context())
    with pytest.raises(SchemaError, match="index 5 in its parameter 'atoms'"):
        Distances(atoms=[0, 5]).process(batch, Context())
