"""Pipelines from tables, and what is said of wrong ones."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest

from bridge.engines.configure import pipeline_from_table
from bridge.errors import ConfigError

HERE = "tests.bridge.engines.pipelines"


def read(text: str) -> dict[str, Any]:
    table: dict[str, Any] = tomllib.loads(text.replace("HERE", HERE))["pipeline"]
    return table


GOOD = """
[pipeline]
name = "adaptive"
inputs = ["y"]
outputs = ["energy", "running"]

[[pipeline.operators]]
name = "norm"
use = "HERE:Norm"
input = "y"
output = "energy"

[[pipeline.operators]]
use = "HERE:Running"
input = "energy"
"""


def test_operators_take_their_parameters_from_the_table() -> None:
    pipeline = pipeline_from_table(read(GOOD))
    assert repr(pipeline) == "<Pipeline adaptive: norm (frame) → Running (keyed)>"
    assert pipeline.inputs == ("y",)
    assert pipeline.outputs == ("energy", "running")
    norm: Any = pipeline.operators[0][1]
    assert (norm.input, norm.output) == ("y", "energy")


def test_registered_operators_are_found_by_their_short_names() -> None:
    table = {"operators": [{"use": "stop_at_target", "column": "phi", "lower": 0, "upper": 1}]}
    pipeline = pipeline_from_table(table)
    assert pipeline.name == "pipeline"
    assert [name for name, _ in pipeline.operators] == ["stop_at_target"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("outputs", "output"), "run.toml has the unknown key 'output'; did you mean 'outputs'?"),
        (('input = "y"', 'inptu = "y"'), "operator 1 (norm) has the unknown key 'inptu'; did you"),
        (('use = "HERE:Norm"\n', ""), "run.toml, operator 1 lacks 'use'"),
        (("HERE:Norm", "HERE:Nrom"), "operator 1 (norm): cannot load"),
        (
            ("HERE:Norm", "stop_at_targt"),
            "no 'stop_at_targt' among headrace.operators; did you mean 'stop_at",
        ),
        (("HERE:Norm", "pathlib:Path"), "'pathlib:Path' is not an operator"),
        (('name = "norm"', 'name = "Running"'), "more than one operator called Running"),
        (('name = "adaptive"', 'name = "a b"'), "'a b' is not a valid name"),
        (('name = "adaptive"', "name = 7"), "'name' must be text, not 7"),
        (('["y"]', '"y"'), "'inputs' must be a list of names"),
        (("[[pipeline.operators]]", "[pipeline.operators]"), "each as [[pipeline.operators]]"),
    ],
)
def test_a_wrong_table_is_told_of(change: tuple[str, str], says: str) -> None:
    text = GOOD.replace(*change)
    if change[1].startswith("[pipeline."):
        text = text[: text.rindex("[pipeline.operators]")]
    with pytest.raises(ConfigError, match=re.escape(says)):
        pipeline_from_table(read(text), "run.toml")


def test_a_pipeline_has_operators() -> None:
    with pytest.raises(ConfigError, match="has no operators"):
        pipeline_from_table({"name": "p"})


def test_parameters_are_filled_in_where_they_are_taken() -> None:
    use = "visits"
    table = {"operators": [{"name": "norm", "use": f"{HERE}:Norm"},
                           {"use": use, "input": "y"},
                           {"name": "own", "use": use, "input": "y", "memory": 5}]}  # fmt: skip
    pipeline = pipeline_from_table(table, defaults={"memory": 3, "ledger": "/folder"})
    memories = [operator._visited.memory.capacity for _, operator in pipeline.operators[1:]]
    assert memories == [3, 5]
