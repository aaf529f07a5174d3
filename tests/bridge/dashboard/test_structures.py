"""Frames as files, read back by somebody else's readers."""

from __future__ import annotations

import csv
import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bridge import StreamSchema
from bridge.dashboard import molecule
from bridge.dashboard.structures import Placed, cell, to_csv, to_pdb, to_xtc
from bridge.errors import ConfigError
from bridge.schema import Topology
from tests.bridge.dashboard.feeding import ATOMS, SCHEMA

TRICLINIC = np.array([[3.0, 0.0, 0.0], [1.0, 2.9, 0.0], [0.5, 0.8, 2.5]], np.float32)


def make_frames(count: int = 3, n: int = ATOMS) -> list[Placed]:
    """Frames of a molecule, in nm."""
    rng = np.random.default_rng(0)
    return [
        (
            rng.uniform(-3, 3, (n, 3)).astype(np.float32),
            TRICLINIC,
            {"simulation": "w", "offset": i, "step": i * 10, "time": i * 0.5},
        )
        for i in range(count)
    ]


def read(path: Path, *more: Any) -> Any:
    """Read with MDAnalysis."""
    reader = pytest.importorskip("MDAnalysis")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return reader.Universe(str(path), *map(str, more))


def test_a_pdb_file_is_read_by_mdanalysis(tmp_path: Path) -> None:
    frames = make_frames()
    path = tmp_path / "frames.pdb"
    path.write_bytes(to_pdb(molecule.describe(SCHEMA, "all"), frames))
    universe = read(path)
    assert len(universe.trajectory) == 3
    top = SCHEMA.topology
    assert top is not None
    assert tuple(universe.atoms.names) == top.names
    assert tuple(e.upper() for e in universe.atoms.elements) == top.elements
    assert tuple(universe.atoms.resnames) == top.residues
    assert tuple(universe.atoms.resids) == top.residue_ids
    assert {tuple(sorted(b.indices)) for b in universe.bonds} == set(top.bonds)
    assert len(universe.select_atoms("name CA and protein")) == 2
    for step, (positions, box, _) in zip(universe.trajectory, frames, strict=True):
        assert step.positions == pytest.approx(positions * 10, abs=6e-4)
        assert box is not None
        assert step.dimensions == pytest.approx(np.array(cell(box * 10)), abs=6e-3)
    assert all(len(line) <= 80 for line in path.read_text().splitlines())


def test_an_xtc_file_is_read_by_mdanalysis(tmp_path: Path) -> None:
    pytest.importorskip("MDAnalysis")
    frames = make_frames()
    top, path = tmp_path / "top.pdb", tmp_path / "frames.xtc"
    top.write_bytes(to_pdb(molecule.describe(SCHEMA, "all"), frames[:1]))
    path.write_bytes(to_xtc(frames))
    universe = read(top, path)
    assert len(universe.trajectory) == 3
    for step, (positions, box, about) in zip(universe.trajectory, frames, strict=True):
        # XTC keeps a thousandth of a nanometre.
        assert step.positions == pytest.approx(positions * 10, abs=6e-3)
        assert step.time == pytest.approx(about["time"])
        assert box is not None
        assert step.dimensions == pytest.approx(np.array(cell(box * 10)), abs=1e-2)


def test_hostile_names_cannot_leave_their_columns() -> None:
    evil = Topology(
        names=("C\nATOM", "=X(1)", "é"),
        elements=("C\r\n", "", "Zr"),
        residues=("<b>", "LONGNAME", ""),
        residue_ids=(123456, -5, 7),
    )
    schema = StreamSchema.from_arrays(
        {"positions": np.zeros((3, 3))}, units={"positions": "nm"}, topology=evil
    )
    about = {"simulation": "w\nEND", "offset": 0, "step": 1}
    text = to_pdb(molecule.describe(schema, "all"), [(np.ones((3, 3), np.float32), None, about)])
    lines = text.decode("ascii").splitlines()
    assert [line[:6].strip() for line in lines] == [
        "REMARK", "MODEL", "ATOM", "ATOM", "ATOM", "ENDMDL", "END",
    ]  # fmt: skip
    assert all(line[30:54] == "  10.000  10.000  10.000" for line in lines[2:5])


@pytest.mark.parametrize(
    ("value", "word"),
    [(2000.0, "too large"), (-100.0, "too large"), (np.nan, "not finite"), (-99.9, "")],
)
def test_coordinates_that_do_not_fit_the_columns_are_refused(value: float, word: str) -> None:
    positions, about = np.full((ATOMS, 3), value, np.float32), {"simulation": "w", "offset": 0}
    top = molecule.describe(SCHEMA, "all")
    if word:
        with pytest.raises(ConfigError, match=word):
            to_pdb(top, [(positions, None, about)])
    else:
        lines = to_pdb(top, [(positions, None, about)]).decode().splitlines()
        assert {line[30:54] for line in lines if line.startswith("ATOM")} == {"-999.000" * 3}


@pytest.mark.parametrize(("unit", "factor"), [("fs", 1e-3), ("ns", 1e3), ("tau", 1.0)])
def test_times_of_an_xtc_file_are_picoseconds(tmp_path: Path, unit: str, factor: float) -> None:
    pytest.importorskip("MDAnalysis")
    positions, box, about = make_frames(2)[1]
    top, path = tmp_path / "top.pdb", tmp_path / "frames.xtc"
    top.write_bytes(to_pdb(molecule.describe(SCHEMA, "all"), [(positions, box, about)]))
    path.write_bytes(to_xtc([(positions, box, {**about, "time_unit": unit})]))
    assert read(top, path).trajectory[0].time == pytest.approx(0.5 * factor)
    with pytest.raises(ConfigError, match="not finite"):
        to_xtc([(positions * np.nan, box, about)])


@pytest.mark.parametrize("atoms", [[-1], [ATOMS], [10**30], [0, 1, ATOMS + 5]])
def test_atoms_that_there_are_not_are_named(atoms: list[int]) -> None:
    with pytest.raises(ConfigError, match=f"from 0 to {ATOMS - 1}; {atoms[-1]} was asked"):
        molecule.select(SCHEMA.topology, ATOMS, atoms)


def test_csv_holds_what_it_was_given_and_no_formulas() -> None:
    hostile = ['a,b"c', "line\r\nbreak", "=cmd|' /C calc'!A0", "@x", "-1+1", "<script>"]
    data = to_csv(["name", "=x"], [[h, float("nan")] for h in hostile])
    rows = list(csv.reader(io.StringIO(data.decode(), newline="")))
    assert rows[0] == ["name", "'=x"]
    assert [r[0] for r in rows[1:]] == [
        hostile[0], hostile[1], "'" + hostile[2], "'@x", "'-1+1", "<script>",
    ]  # fmt: skip
    assert {r[1] for r in rows[1:]} == {""}


def test_a_large_system_is_shown_in_part() -> None:
    n = 30_000
    residues = ("ALA",) * 9000 + ("HOH",) * (n - 9000)
    names = tuple("CA" if i % 9 == 1 else "C" for i in range(9000)) + ("OW",) * (n - 9000)
    top = Topology(names=names, residues=residues)
    assert molecule.select(top, n, None)[1:] == ("solute", 2)
    assert len(molecule.select(top, n, None)[0]) == 4500
    chosen, word, every = molecule.select(top, n, "ca")
    assert (len(chosen), word, every) == (1000, "ca", 1)
    assert len(molecule.select(None, n, "ca", 5000)[0]) == 5000
    calcium = Topology(names=("CA", "CA"), elements=("C", "Ca"), residues=("ALA", "CA"))
    assert molecule.backbone(calcium).tolist() == [0]
    water = Topology(names=("OW",) * 3, residues=("HOH",) * 3)
    assert molecule.select(water, 3, "solute")[0].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("unit", "factor"),
    [("nm", 1.0), ("angstrom", 0.1), ("Å", 0.1), ("bohr", 0.0529177210903), ("sigma", 1.0)],
)
def test_positions_are_in_nanometres(unit: str, factor: float) -> None:
    values = np.arange(6.0).reshape(2, 3)
    placed = molecule.place_atoms(values, np.arange(2), unit)
    assert placed == pytest.approx(values * factor)
    plane = molecule.place_atoms(values[:, :2], np.array([1]), unit)
    assert plane.tolist() == pytest.approx([3.0 * factor, 4.0 * factor, 0.0]) or plane[0, 2] == 0


def test_cells_of_several_shapes() -> None:
    schema = StreamSchema.from_arrays({"box": np.zeros(3)}, units={"box": "angstrom"})
    box = molecule.box_of(schema, {"box": np.array([10.0, 20.0, 30.0])}, "nm")
    assert box is not None
    assert box.tolist() == [[1, 0, 0], [0, 2, 0], [0, 0, 3]]
    assert molecule.box_of(schema, {}, "nm") is None
    assert cell(TRICLINIC)[3:] == pytest.approx(
        (
            np.degrees(np.arccos((1.0 * 0.5 + 2.9 * 0.8) / np.hypot(1, 2.9)
                                 / np.sqrt(0.25 + 0.64 + 6.25))),
            np.degrees(np.arccos(0.5 / np.sqrt(0.25 + 0.64 + 6.25))),
            np.degrees(np.arccos(1.0 / np.hypot(1, 2.9))),
        ),
        abs=1e-3,
    )  # fmt: skip
