"""openPMD's particles, as openPMD-api writes them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bridge.errors import ConfigError
from tests.bridge.transports.adios.common import read

pytest.importorskip("openpmd_api", reason="It writes the files.")

PROGRAM = Path(__file__).with_name("openpmd_files.py")
STEPS = (100, 200, 300)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("openpmd")
    subprocess.run([sys.executable, PROGRAM, folder], check=True, capture_output=True, timeout=60)
    return folder


@pytest.mark.parametrize("name", ["groups", "variables"])
def test_particles(folder: Path, name: str) -> None:
    schema, frames = read(folder / f"{name}.bp")
    units = {v.name: (v.shape, v.dtype, v.unit) for v in schema.variables}
    assert units == {
        "positions": ((5, 3), "<f4", "nm"),
        "velocities": ((5, 3), "<f4", "angstrom/ps"),
        "charges": ((5,), "<f8", "e"),
    }
    assert schema.time_unit == "ps"
    assert schema.topology.masses == (pytest.approx(12.0),) * 5
    assert [s for s, _, _ in frames] == list(STEPS)
    assert [t for _, t, _ in frames] == pytest.approx([0.2, 0.4, 0.6])
    for step, _, row in frames:
        # Rows come in the order of the ids, which move on by one in each step.
        back = np.roll(np.arange(5, dtype=np.float32), -(step // 100)) + step
        wanted = np.column_stack([back, back + 0.25, back + 0.5])
        assert np.array_equal(row["positions"], wanted)
        assert np.array_equal(row["velocities"][:, :2], wanted[:, :2] * 2)
        assert (row["velocities"][:, 2] == 0.5).all()


def test_positions_have_an_offset(folder: Path) -> None:
    _, frames = read(folder / "offset.bp")
    _, plain = read(folder / "variables.bp")
    # 20 ångström are 2 nm.
    assert frames[0][2]["positions"] == pytest.approx(plain[0][2]["positions"] + 2.0)


def test_a_species_by_name(folder: Path) -> None:
    schema, frames = read(folder / "two.bp", mapping={"species": "atoms"})
    alone, others = read(folder / "variables.bp")
    # Its ids and its masses are taken, as where it is the only one.
    assert (schema.variables, schema.topology) == (alone.variables, alone.topology)
    for (_, _, one), (_, _, other) in zip(frames, others, strict=True):
        assert all(np.array_equal(one[name], other[name]) for name in other)
    assert "electrons.positions" in {v.name for v in read(folder / "two.bp")[0].variables}
    with pytest.raises(ConfigError, match=r"no particle species 'atmos' .* it has: atoms"):
        read(folder / "groups.bp", mapping={"species": "atmos"})
