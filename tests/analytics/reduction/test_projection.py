"""The projection against scikit-learn, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.decomposition import PCA

from analytics.reduction.projection import Projection
from bridge.errors import ConfigError, SchemaError
from bridge.frames import FrameBatch
from bridge.pipeline import Context


def project(operator: Projection, x: Any) -> np.ndarray[Any, Any]:
    out = operator.process(FrameBatch.from_arrays("a", {"positions": x}), Context())
    return out["projection"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("atoms", [1, 22, 3001])
def test_it_is_the_transform_of_scikit_learn(dtype: type, atoms: int) -> None:
    rng = np.random.default_rng(atoms)
    x = (5 + rng.normal(size=(40, atoms, 3)) * 0.1).astype(dtype)
    flat = x.reshape(40, -1).astype(np.float64)
    pca = PCA(n_components=3, svd_solver="full").fit(flat)
    operator = Projection(components=pca.components_, mean=pca.mean_)
    out = project(operator, x)
    assert out.dtype == np.float64
    tolerance = 1e-10 if dtype == np.float64 else 2e-5
    np.testing.assert_allclose(out, pca.transform(flat), rtol=0, atol=tolerance)


@pytest.mark.parametrize("d", [1, 2, 7])
def test_a_frame_alone_has_the_same_bits(d: int) -> None:
    rng = np.random.default_rng(d)
    x = rng.normal(size=(9, 100_003, 3)).astype(np.float32)
    operator = Projection(components=rng.normal(size=(d, 300_009)))
    together = project(operator, x)
    alone = np.concatenate([project(operator, x[i : i + 1]) for i in range(len(x))])
    assert together.tobytes() == alone.tobytes()


def test_components_from_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    components, mean = rng.normal(size=(3, 4, 3)), rng.normal(size=(4, 3))
    x = rng.normal(size=(5, 4, 3))
    np.savez(tmp_path / "pca.npz", components=components, mean=mean)
    np.save(tmp_path / "c.npy", components)
    np.save(tmp_path / "m.npy", mean)
    wanted = (x - mean).reshape(5, -1) @ components.reshape(3, -1).T
    for arguments in (
        {"components": tmp_path / "pca.npz"},
        {"components": str(tmp_path / "c.npy"), "mean": str(tmp_path / "m.npy")},
        {"components": components.tolist(), "mean": mean.tolist()},
    ):
        np.testing.assert_allclose(project(Projection(**arguments), x), wanted, rtol=1e-12)
        few = project(Projection(**arguments, n_components=2), x)
        np.testing.assert_allclose(few, wanted[:, :2], rtol=1e-12)


def test_what_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.npy").write_text("not an array")
    np.savez(tmp_path / "other.npz", weights=np.ones(3))
    for says, arguments in {
        "cannot be read": {"components": tmp_path / "text.npy"},
        "cannot be read as": {"components": tmp_path / "none.npy"},
        "no array 'components'": {"components": tmp_path / "other.npz"},
        "finite numbers": {"components": [[np.nan, 1.0]]},
        "'mean' has 2 numbers": {"components": [[1.0, 2.0, 3.0]], "mean": [1.0, 2.0]},
        "'n_components' is 2": {"components": [[1.0, 2.0, 3.0]], "n_components": 2},
        "no array of numbers": {"components": [["a"]]},
    }.items():
        with pytest.raises(ConfigError, match=says):
            Projection(**arguments)
    operator = Projection(components=np.ones((1, 6)))
    with pytest.raises(SchemaError, match="components of 6 numbers"):
        project(operator, np.ones((2, 3, 3)))
    with pytest.raises(SchemaError, match="not finite"):
        project(operator, np.full((2, 2, 3), np.nan))
