"""ADIOS2 variables of every kind become the arrays of frames."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bridge.errors import ConfigError, ProtocolError, SchemaError
from bridge.transports.adios import Reader, Source, StreamMapping, read_mapping
from bridge.transports.adios.library import JOINED
from tests.bridge.transports.adios.common import put, read, write

X = np.arange(12, dtype=np.float32).reshape(4, 3)
REAL = [np.dtype(f"{k}{n}") for k in "iu" for n in (1, 2, 4, 8)]
REAL += [np.dtype(t) for t in ("f4", "f8", "c8", "c16")]


def test_what_is_found_without_a_word(tmp_path: Path) -> None:
    def fill(io: Any, engine: Any, step: int) -> None:
        put(io, engine, "atoms/x", X + step)
        put(io, engine, "energy", np.float64(step) / 4)
        put(io, engine, "step", np.int64(step * 10))
        put(io, engine, "time", np.float64(step * 0.02))

    write(tmp_path / "wordless.bp", 3, fill, atoms__x__units="nm", time__units="ps")
    schema, frames = read(tmp_path / "wordless.bp")
    assert [(v.name, v.dtype, v.shape, v.unit) for v in schema.variables] == [
        ("atoms.x", "<f4", (4, 3), "nm"),
        ("energy", "<f8", (), ""),
    ]
    assert schema.time_unit == "ps"
    assert [(s, t) for s, t, _ in frames] == [(0, 0.0), (10, 0.02), (20, 0.04)]
    for n, (_, _, row) in enumerate(frames):
        assert np.array_equal(row["atoms.x"], X + n)
        assert row["energy"] == n / 4
    # Nothing is left of the reading, wherever.
    assert not list(Path("/tmp").glob(f"wordless.bp_{os.getpid():x}_*"))


@pytest.mark.parametrize("dtype", REAL, ids=str)
def test_every_type(tmp_path: Path, dtype: np.dtype[Any]) -> None:
    values = np.array([0, 1, 7], dtype)
    write(tmp_path / "a.bp", 1, lambda io, engine, step: put(io, engine, "v", values))
    schema, frames = read(tmp_path / "a.bp")
    assert schema.variable("v").numpy_dtype == dtype
    assert frames[0][2]["v"].tobytes() == values.tobytes()


@pytest.mark.parametrize("shape", [[], [JOINED, 3]], ids=["local", "joined"])
def test_blocks_of_several_writers(tmp_path: Path, shape: list[int]) -> None:
    def fill(io: Any, engine: Any, step: int) -> None:
        put(io, engine, "x", X + step, shape)
        put(io, engine, "x", X[:2] - step, shape)

    write(tmp_path / "a.bp", 2, fill)
    schema, frames = read(tmp_path / "a.bp")
    assert schema.variable("x").shape == (6, 3)
    for n, (_, _, row) in enumerate(frames):
        assert np.array_equal(row["x"], np.concatenate([X + n, X[:2] - n]))


def test_a_mapping(tmp_path: Path) -> None:
    def fill(io: Any, engine: Any, step: int) -> None:
        put(io, engine, "table", np.column_stack([np.arange(4.0), X * 10, X]))
        for name in ("lx", "ly", "lz"):
            put(io, engine, name, np.float64(ord(name[1]) - 119))
        put(io, engine, "pe", np.float32(step))
        put(io, engine, "n", np.int32(step))

    write(tmp_path / "a.bp", 2, fill, elements="C H O N", bonds=np.array([0, 1, 1, 2]))
    mapping = {
        "step": "n",
        "dt": 0.5,
        "time_unit": "ps",
        "attributes": {"code": "mine"},
        "topology": {"elements": "elements", "bonds": "bonds"},
        "variables": {
            "positions": {"from": "table", "columns": [1, 2, 3], "unit": "angstrom", "to": "nm"},
            "charge": {"from": "table", "columns": [0], "unit": "e"},
            "box": {"from": ["lx", "ly", "lz"], "unit": "nm", "diagonal": True},
            "energy": {"from": "pe", "unit": "eV", "to": "kJ/mol"},
        },
    }
    with pytest.raises(SchemaError, match="another quantity"):
        read(tmp_path / "a.bp", mapping=mapping)
    mapping["variables"]["energy"] = "pe"  # type: ignore[index]
    schema, frames = read(tmp_path / "a.bp", mapping=mapping)
    step, time, row = frames[1]
    assert (step, time) == (1, 0.5)
    assert row["positions"] == pytest.approx(X)
    assert row["charge"].tolist() == [0, 1, 2, 3]
    assert row["box"].tolist() == np.diag([1.0, 2.0, 3.0]).tolist()
    assert row["energy"] == 1
    assert schema.variable("positions").unit == "nm"
    assert schema.topology.elements == ("C", "H", "O", "N")
    assert schema.topology.bonds == ((0, 1), (1, 2))
    assert schema.attributes["code"] == "mine"


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        ({"variables": {"x": "positoins"}}, "'positoins', which .* did you mean 'positions'"),
        ({"step": "stap", "variables": {"x": "positions"}}, "'stap', .* did you mean 'step'"),
        ({"topology": {"names": "nmaes"}}, "attribute 'nmaes'; did you mean 'names'"),
        ({"variables": {"x": {"from": "positions", "columns": [3]}}}, r"Columns \[3\]"),
        ({"variables": {"x": {"from": "positions", "shape": [5, 2]}}}, "no other form"),
        ({"variables": {"x": "label"}}, "only numbers can be read"),
        ({"time": "positions", "variables": {"x": "step"}}, "must be one number"),
        ({"capacity": 2}, "'capacity' is 2"),
    ],
)
def test_a_wrong_mapping_is_told(tmp_path: Path, mapping: dict[str, Any], said: str) -> None:
    def fill(io: Any, engine: Any, step: int) -> None:
        put(io, engine, "positions", X)
        put(io, engine, "step", np.int64(step))
        engine.Put(io.InquireVariable("label") or io.DefineVariable("label"), "text")

    write(tmp_path / "a.bp", 1, fill, names="A B")
    with pytest.raises((ConfigError, SchemaError), match=said):
        read(tmp_path / "a.bp", mapping=mapping)


def migrating(path: Path, counts: list[int]) -> None:
    """Write particles in another order, and another number of them, in each step."""
    rng = np.random.default_rng(1)

    def fill(io: Any, engine: Any, step: int) -> None:
        ids = rng.permutation(max(counts))[: counts[step]] + 1
        put(io, engine, "id", ids)
        put(io, engine, "x", np.column_stack([ids, ids * 2, ids * 3]).astype(np.float64))

    write(path, len(counts), fill)


def test_frames_come_in_the_order_of_ids(tmp_path: Path) -> None:
    migrating(tmp_path / "a.bp", [5, 5, 5])
    _, frames = read(tmp_path / "a.bp", mapping={"ids": "id", "first_id": 1})
    for _, _, row in frames:
        assert row["x"][:, 0].tolist() == [1, 2, 3, 4, 5]
    with pytest.raises(SchemaError, match="'first_id'"):
        read(tmp_path / "a.bp", mapping={"ids": "id"})


def test_the_number_of_particles_changes(tmp_path: Path) -> None:
    migrating(tmp_path / "a.bp", [5, 3])
    with pytest.raises(SchemaError, match=r"changed from 5 to 3.*'capacity'"):
        read(tmp_path / "a.bp", mapping={"ids": "id", "first_id": 1})
    with pytest.raises(SchemaError, match="changed from 5 to 3"):
        read(tmp_path / "a.bp", mapping={"variables": {"x": "x"}})
    _, frames = read(tmp_path / "a.bp", mapping={"variables": {"x": "x"}, "capacity": 6})
    assert [int(row["n_particles"]) for _, _, row in frames] == [5, 3]
    assert np.isnan(frames[1][2]["x"]).any(axis=1).tolist() == [False] * 3 + [True] * 3
    wanted = {"ids": "id", "first_id": 1, "capacity": 6, "variables": {"x": "x"}}
    _, frames = read(tmp_path / "a.bp", mapping=wanted)
    first = frames[1][2]["x"][:, 0]
    there = ~np.isnan(first)
    assert there.sum() == 3
    assert (first[there] == np.flatnonzero(there) + 1).all()


def halves(path: Path, rank: int, placed: bool) -> None:
    """Write one of two ranks' files, with global or with local shape."""
    rows = slice(0, 1) if rank == 0 else slice(1, 4)

    def fill(io: Any, engine: Any, step: int) -> None:
        mine = np.ascontiguousarray(X[rows] + step)
        name = "positions"
        if placed:
            variable = io.InquireVariable(name) or io.DefineVariable(
                name, mine, [4, 3], [rows.start, 0], list(mine.shape)
            )
            engine.Put(variable, mine)
            engine.PerformPuts()
        else:
            put(io, engine, name, mine)
        put(io, engine, "box", np.eye(3))
        put(io, engine, "step", np.int64(step))

    write(path, 2, fill)


@pytest.mark.parametrize("placed", [True, False], ids=["global shape", "local shape"])
def test_ranks_are_joined(tmp_path: Path, placed: bool) -> None:
    paths = [tmp_path / "0.bp", tmp_path / "1.bp"]
    for rank, path in enumerate(paths):
        halves(path, rank, placed)
    if placed:
        # Global places count, not the order in which the streams are named.
        paths.reverse()
    schema, frames = read(*paths)
    assert schema.variable("positions").shape == (4, 3)
    assert schema.variable("box").shape == (3, 3)
    for n, (_, _, row) in enumerate(frames):
        assert np.array_equal(row["positions"], X + n)
        assert np.array_equal(row["box"], np.eye(3))


def test_nothing_to_read(tmp_path: Path) -> None:
    def fill(io: Any, engine: Any, step: int) -> None:
        engine.Put(io.DefineVariable("label"), "text")

    write(tmp_path / "a.bp", 1, fill)
    with pytest.raises(ProtocolError, match=r"There are no numbers to read in .*; it has label"):
        read(tmp_path / "a.bp")


def test_what_is_no_part_of_frames_is_named(tmp_path: Path) -> None:
    def fill(io: Any, engine: Any, step: int) -> None:
        put(io, engine, "x", X)
        engine.Put(io.DefineVariable("label"), "text")

    write(tmp_path / "a.bp", 1, fill)
    source = Source(str(tmp_path / "a.bp"))
    source.open(5.0)
    assert source.begin() == "step"
    assert Reader([source], StreamMapping()).plan.left_out == ("label",)
    chosen = read_mapping({"variables": {"x": "x"}})
    assert Reader([source], chosen).plan.left_out == ()
    source.close()


def test_a_variable_that_is_gone(tmp_path: Path) -> None:
    def fill(io: Any, engine: Any, step: int) -> None:
        put(io, engine, "x", X)
        if step == 0:
            put(io, engine, "y", X)

    write(tmp_path / "a.bp", 2, fill)
    with pytest.raises(ProtocolError, match=r"lacks the variable 'y', .* in a mapping"):
        read(tmp_path / "a.bp")


def test_ranks_of_different_types(tmp_path: Path) -> None:
    for rank, dtype in enumerate(["f4", "f8"]):
        values = X.astype(dtype)
        write(
            tmp_path / f"{rank}.bp", 1, lambda io, engine, step, v=values: put(io, engine, "x", v)
        )
    with pytest.raises(SchemaError, match=r"'x' of .*1\.bp' has now type double"):
        read(tmp_path / "0.bp", tmp_path / "1.bp")


def test_variables_of_a_particle_that_disagree(tmp_path: Path) -> None:
    def fill(io: Any, engine: Any, step: int) -> None:
        put(io, engine, "positions", X)
        put(io, engine, "velocities", X if step == 0 else X[:3])

    write(tmp_path / "a.bp", 2, fill)
    with pytest.raises(SchemaError, match=r"'velocities' of .* shape \(3, 3\); .*\(4, 3\)"):
        read(tmp_path / "a.bp")
