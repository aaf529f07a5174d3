"""Schemas, batches, configuration and errors: what is wrong is said in a sentence."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from bridge import FrameBatch, StreamSchema, Variable, errors
from bridge.config import (
    build,
    find_entry_point,
    parse_bytes,
    parse_duration,
    read_toml,
    to_struct,
)
from bridge.errors import ConfigError, HeadraceError, SchemaError


class Inner(msgspec.Struct):
    capacity: int = 1


class Outer(msgspec.Struct):
    name: str
    staging: Inner = msgspec.field(default_factory=Inner)


def test_an_unknown_key_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'nmae'; did you mean 'name'\?"):
        to_struct(Outer, {"nmae": "x"}, "run.toml")
    with pytest.raises(ConfigError, match=r"run.toml, staging has the unknown key 'capacty'; did"):
        to_struct(Outer, {"name": "x", "staging": {"capacty": 1}}, "run.toml")
    with pytest.raises(ConfigError, match=r"known are: name, staging\."):
        to_struct(Outer, {"zzzzz": 1}, "run.toml")


def test_a_wrong_type_is_placed() -> None:
    with pytest.raises(ConfigError, match=r"run.toml: The key 'name' is 3; it must be text"):
        to_struct(Outer, {"name": 3}, "run.toml")
    with pytest.raises(ConfigError, match="The key 'name' is missing"):
        to_struct(Outer, {}, "run.toml")


def test_arguments_from_a_table() -> None:
    def make(*, width: float, bins: int = 3) -> float:
        if width <= 0:
            raise ValueError("The width must be positive.")
        return width * bins

    assert build(make, {"width": 2.0}, "operator") == 6.0
    with pytest.raises(ConfigError, match=r"operator has the unknown key 'with'; did you mean"):
        build(make, {"with": 2.0}, "operator")
    with pytest.raises(ConfigError, match=r"operator lacks 'width'\."):
        build(make, {}, "operator")
    with pytest.raises(ConfigError, match=r"operator: The width must be positive\."):
        build(make, {"width": -1.0}, "operator")


def test_entry_points_are_found_by_name() -> None:
    from analytics.reduction import OnlineTICA

    assert find_entry_point("headrace.operators", "tica", "x") is OnlineTICA
    assert find_entry_point("headrace.operators", "analytics.reduction:OnlineTICA", "x")
    with pytest.raises(
        ConfigError,
        match=r"no 'tika' among headrace.operators; did you mean 'tica'\? Known are: .*pca",
    ):
        find_entry_point("headrace.operators", "tika", "x")
    with pytest.raises(ConfigError, match="cannot load 'nowhere:Thing'"):
        find_entry_point("headrace.operators", "nowhere:Thing", "x")


def test_files_that_are_no_toml(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    with pytest.raises(ConfigError, match=r"Cannot read .*run.toml: No such file"):
        read_toml(path)
    path.write_text("a = \n")
    with pytest.raises(ConfigError, match=r"run.toml is not valid TOML: .*line 1"):
        read_toml(path)


def test_sizes_and_durations() -> None:
    assert parse_bytes("64 MiB") == 64 << 20
    assert parse_bytes(12) == 12
    assert parse_duration("250 ms") == 0.25
    assert parse_duration("2 min") == 120.0
    with pytest.raises(ConfigError, match=r"'3 parsecs' is not a size"):
        parse_bytes("3 parsecs")


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ([("x", "<f4"), ("x", "<f4")], "declares x more than once"),
        ([("step", "<f4")], "which every frame carries already"),
        ([("a b", "<f4")], "not a valid name"),
        ([("x", "|O")], "cannot be sent"),
        ([("x", "spam")], "unknown dtype 'spam'"),
        ([("x", ">f4")], "little-endian"),
    ],
)
def test_schemas_that_cannot_be(variables: list[tuple[str, str]], message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        StreamSchema(tuple(Variable(n, d) for n, d in variables))


def test_a_schema_from_arrays() -> None:
    schema = StreamSchema.from_arrays(
        {"x": np.zeros((2, 3), ">f4"), "e": 1.5}, units={"x": "nm"}, time_unit="ps"
    )
    assert [(v.name, v.dtype, v.shape, v.unit) for v in schema.variables] == [
        ("x", "<f4", (2, 3), "nm"),
        ("e", "<f8", (), ""),
    ]
    assert schema.frame_nbytes == 32
    with pytest.raises(SchemaError, match="unknown variables: y"):
        StreamSchema.from_arrays({"x": np.zeros(2)}, units={"y": "nm"})
    with pytest.raises(SchemaError, match=r"no variable 'xx'. Did you mean 'x'\?"):
        schema.variable("xx")


def test_batches_are_views_and_copies() -> None:
    x = np.arange(12.0).reshape(6, 2)
    batch = FrameBatch.from_arrays("w", {"x": x}, first_offset=10, epochs=[0, 0, 1, 1, 2, 2])
    part = batch.take(slice(2, 4))
    assert np.shares_memory(part["x"], x)
    assert not np.shares_memory(part.copy()["x"], x)
    assert (part.first, part.stop, part.nbytes) == (12, 14, 32)
    assert [f.epoch for f in batch] == [0, 0, 1, 1, 2, 2]
    whole = FrameBatch.concatenate([batch.take(slice(0, 2)), batch.take(slice(2, 6))])
    np.testing.assert_array_equal(whole["x"], x)
    assert "y" not in batch.with_columns({"y": x}).select(["x"])
    with pytest.raises(SchemaError, match="no column 'z'; it has: x"):
        batch["z"]
    with pytest.raises(SchemaError, match="6 frames"):
        batch.with_columns({"y": np.zeros(5)})
    with pytest.raises(SchemaError, match="disagree about the number of frames"):
        FrameBatch.from_arrays("w", {"x": np.zeros(2), "y": np.zeros(3)})


def test_every_error_has_two_parents_and_a_place_in_the_tree() -> None:
    tree = errors.__doc__ or ""
    for name in errors.__all__:
        value = getattr(errors, name)
        if isinstance(value, type):
            assert issubclass(value, HeadraceError)
            assert name in tree
            assert value is HeadraceError or any(
                b.__module__ == "builtins" and b not in (object, Exception, BaseException)
                for b in value.__mro__
            )
    assert isinstance(errors.error_from_code("StreamFull", "x"), errors.StreamFull)
    assert isinstance(errors.error_from_code("Nonsense", "x"), errors.StagingError)
