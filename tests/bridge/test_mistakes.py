"""A value of the wrong kind is told by its key, with what it may be."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import pytest

from bridge.config import to_struct
from bridge.errors import ConfigError


class Part(msgspec.Struct):
    size: int | float = 1
    policy: Literal["block", "latest"] = "block"
    kinds: tuple[Literal["set", "stop"], ...] = ()
    limit: int | None = None


class Whole(msgspec.Struct):
    name: str
    on: bool = True
    place: tuple[float, float] = (0.0, 0.0)
    part: Part = msgspec.field(default_factory=Part)
    parts: dict[str, Part] = {}


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({}, "The key 'name' is missing."),
        ({"name": ["a"]}, "The key 'name' is ['a']; it must be text, in \"quotes\"."),
        ({"on": 1}, "The key 'on' is 1; it must be true or false."),
        ({"on": {"a": 1}}, "The key 'on' is a table; it must be true or false."),
        ({"place": [1.0]}, "The key 'place' is [1.0]; it must be a list of 2."),
        ({"place": [1.0, "x"]}, "The key 'place[1]' is 'x'; it must be a number."),
        ({"part": 3}, "The key 'part' is 3; it must be a table."),
        ({"part": {"limit": True}}, "The key 'part.limit' is true; it must be a whole number."),
        (
            {"part": {"policy": "drop"}},
            "The key 'part.policy' is 'drop'; it must be one of 'block', 'latest'.",
        ),
        (
            {"part": {"kinds": ["set", "sett"]}},
            "The key 'part.kinds[1]' is 'sett'; it must be one of 'set', 'stop'.",
        ),
        ({"name": "x" * 99, "on": "y" * 99}, f"The key 'on' is '{'y' * 56}...; it must be true"),
    ],
)
def test_it_names_the_key_its_value_and_what_it_may_be(table: dict[str, Any], said: str) -> None:
    given = table if not table else {"name": "x", **table}
    with pytest.raises(ConfigError) as caught:
        to_struct(Whole, given, "run.toml")
    assert str(caught.value).startswith(f"run.toml: {said}")


def test_where_the_key_cannot_be_known_the_place_is_told_as_far_as_it_can() -> None:
    with pytest.raises(ConfigError, match=r"run.toml: Expected `object`, got `int`, at parts\["):
        to_struct(Whole, {"name": "x", "parts": {"a": 3}}, "run.toml")
