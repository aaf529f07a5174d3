"""Coordinates that stay where they were."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import procrustes

torch = pytest.importorskip("torch", reason="The extra 'learning' brings it.")

from analytics.learning.alignment import Alignment, align  # noqa: E402
from bridge.errors import ConfigError, CorruptData, SchemaError  # noqa: E402

RNG = np.random.default_rng


def orthogonal(d: int, seed: int = 0, *, reflection: bool = False) -> np.ndarray:
    q, _ = np.linalg.qr(RNG(seed).normal(size=(d, d)))
    q[:, 0] *= np.linalg.det(q)
    if reflection:
        q[:, 0] *= -1
    return q


def moved(alignment: Alignment, z: np.ndarray) -> np.ndarray:
    return np.asarray(alignment.apply(torch.from_numpy(z)))


@pytest.mark.parametrize("reflection", [False, True])
@pytest.mark.parametrize("d", [1, 2, 3, 5])
def test_a_known_similarity_is_found(d: int, reflection: bool) -> None:
    old = RNG(1).normal(size=(60, d)) * np.arange(1, d + 1)
    turn = orthogonal(d, reflection=reflection)
    new = (old - 7.0) @ turn.T / 2.5
    found = align(new, old)
    np.testing.assert_allclose(found.rotation, turn, atol=1e-9)
    assert found.scale == pytest.approx(2.5)
    np.testing.assert_allclose(moved(found, new), old, atol=1e-9)


def test_with_noise_it_is_procrustes() -> None:
    rng = RNG(2)
    old = rng.normal(size=(100, 3))
    new = 0.3 * old @ orthogonal(3, 4).T + 0.1 * rng.normal(size=(100, 3)) + 2.0
    found = moved(align(new, old), new)
    _, theirs, _ = procrustes(old, new)
    found = found - found.mean(0)
    np.testing.assert_allclose(
        found / np.linalg.norm(found), theirs / np.linalg.norm(theirs), atol=1e-9
    )
    # The spread and the centre of the anchors stay, however noisy the new version is.
    assert np.linalg.norm(found) == pytest.approx(np.linalg.norm(old - old.mean(0)))


def test_many_refreshes_do_not_shrink_the_space() -> None:
    rng = RNG(3)
    first = shown = rng.normal(size=(200, 2))
    for k in range(30):
        new = (shown + 0.5 * rng.normal(size=shown.shape)) @ orthogonal(2, k)
        shown = moved(align(new, shown), new)
    assert np.linalg.norm(shown - shown.mean(0)) == pytest.approx(
        np.linalg.norm(first - first.mean(0))
    )


def test_directions_without_anchors_are_turned_as_little_as_possible() -> None:
    rng = RNG(4)
    old = rng.normal(size=(50, 4))
    old[:, 2:] = 0.0
    quarter = np.eye(4)
    quarter[:2, :2] = [[0.0, 1.0], [-1.0, 0.0]]
    found = align(old @ quarter, old)
    np.testing.assert_allclose(found.rotation, quarter.T, atol=1e-9)
    # Two anchors in five dimensions leave four directions free.
    few = align(rng.normal(size=(2, 5)), rng.normal(size=(2, 5)))
    np.testing.assert_allclose(few.rotation @ few.rotation.T, np.eye(5), atol=1e-9)
    same = rng.normal(size=(2, 5))
    np.testing.assert_allclose(align(same, same).rotation, np.eye(5), atol=1e-9)


def test_anchors_in_one_point_leave_the_shift() -> None:
    for new, old in (
        (np.full((9, 2), 3.0), RNG(5).normal(size=(9, 2))),
        (RNG(5).normal(size=(9, 2)), np.full((9, 2), 3.0)),
        (np.ones((1, 2)), np.zeros((1, 2))),
    ):
        found = align(new, old)
        assert torch.equal(found.rotation, torch.eye(2, dtype=torch.float64))
        assert found.scale == 1.0
        np.testing.assert_allclose(moved(found, new).mean(0), old.mean(0), atol=1e-12)


def test_signs_keep_the_meaning_of_axes() -> None:
    rng = RNG(6)
    old = rng.normal(size=(300, 3))
    # The first and the third mode crossed, two changed their sign, and all are a little noisy.
    new = old[:, [2, 1, 0]] * [1.0, -1.0, -1.0] + 0.2 * rng.normal(size=(300, 3)) + 5.0
    found = align(new, old, kind="signs")
    np.testing.assert_array_equal(found.rotation, [[0, 0, 1], [0, -1, 0], [-1, 0, 0]])
    np.testing.assert_allclose(moved(found, new).mean(0), old.mean(0), atol=1e-9)
    turned = align(old @ orthogonal(3, 8), old, kind="signs").rotation.numpy()
    assert set(np.abs(turned).ravel()) == {0.0, 1.0}
    np.testing.assert_array_equal(turned @ turned.T, np.eye(3))


def test_signs_of_an_axis_without_spread_stay() -> None:
    old = RNG(7).normal(size=(50, 3))
    old[:, 1] = 4.0
    found = align(-old, old, kind="signs")
    np.testing.assert_array_equal(found.rotation, np.diag([-1.0, 1.0, -1.0]))


def test_it_keeps_types_and_survives_storage() -> None:
    z = RNG(8).normal(size=(20, 3))
    found = align(z @ orthogonal(3, 1), z)
    again = Alignment.from_tensors(found.to_tensors())
    single = torch.from_numpy(z).float()
    assert found.apply(single).dtype == torch.float32
    assert torch.equal(again.apply(single), found.apply(single))
    assert torch.equal(found.to("cpu").apply(single), found.apply(single))
    assert torch.equal(Alignment.identity(3).apply(single), single)
    rows = torch.cat([found.apply(row) for row in single.split(1)])
    assert torch.equal(rows, found.apply(single))


def test_what_does_not_fit_is_refused() -> None:
    z = RNG(9).normal(size=(20, 3))
    with pytest.raises(SchemaError, match="cannot be laid on old ones"):
        align(z, z[:, :2])
    with pytest.raises(SchemaError, match=r"it must be \(n, d\)"):
        align(z[:0], z[:0])
    with pytest.raises(SchemaError, match="not finite"):
        align(np.where(z > 1, np.nan, z), z)
    with pytest.raises(ConfigError, match="'rotation' or 'signs'"):
        align(z, z, kind="affine")  # type: ignore[arg-type]
    tensors = Alignment.identity(3).to_tensors()
    with pytest.raises(CorruptData, match="do not fit"):
        Alignment.from_tensors(tensors | {"shift": torch.zeros(2)})
    with pytest.raises(CorruptData, match="missing"):
        Alignment.from_tensors({"shift": torch.zeros(2)})
