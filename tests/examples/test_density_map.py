"""The example with few particles, as a user starts it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


def test_windows_are_stored(tmp_path: Path) -> None:
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    script = ROOT / "examples" / "density_map" / "density_map.py"
    arguments = ["--atoms", "4096", "--frames", "14", "--folder", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, str(script), *arguments], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    assert "14 frames of 4,096 particles from 4 ranks" in done.stdout
    table = pd.read_parquet(tmp_path / "out").sort_values("offset")
    # The window that the end of the stream left open is told of in an event, not stored.
    assert table["window_start"].tolist() == [0.0, 4.0, 8.0]
    assert table["window_count"].tolist() == [4, 4, 4]
    for density in table["mean_density"]:
        assert len(density) == 32**3
        assert np.isclose(np.mean(density), 1 / 0.3**3)
    for rdf in table["mean_rdf"]:
        # Nobody is nearer than the lattice allows; neighbours are 0.3 nm apart.
        assert max(rdf[:10]) == 0
        assert max(rdf[24:36]) > 1.5
