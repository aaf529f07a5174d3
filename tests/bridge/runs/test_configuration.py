"""run.toml: what is read, and what is said of a mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.errors import ConfigError
from bridge.runs.configuration import load_run
from bridge.runs.pipelines import apply_control, build_pipeline, check_models
from bridge.runs.plan import Plan

GOOD = """
[run]
name = "test"
seed = 7

[simulation]
adapter = "muller_brown"
members = 2

[pipeline]
outputs = ["positions"]

[[pipeline.operators]]
name = "restarts"
use = "restart_rare"
input = "positions"

[[pipeline.operators]]
use = "stop_at_target"
column = "positions"
lower = 0.5

[control.random]
set = { restarts = { mode = "random" } }

[control.none]
remove = ["restarts"]

[[report.maps]]
name = "visited"
x = "positions[0]"
y = "positions[1]"
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "run.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_good_file_is_read(tmp_path: Path) -> None:
    configuration = load_run(write(tmp_path, GOOD))
    assert configuration.run.seed == 7
    assert configuration.staging.when_full == "block"
    assert configuration.report.maps[0].x == "positions[0]"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("seed = 7", "sead = 7", "[run, ]*run has the unknown key 'sead'; did you mean 'seed'"),
        ("seed = 7", "seed = -7", "The seed must not be negative; it is -7."),
        ("seed = 7", 'seed = "x"', "The key 'run.seed' is 'x'; it must be a whole number."),
        ("seed = 7", 'max_time = "10 parsecs"', "'10 parsecs' is not a simulated time"),
        ("seed = 7", 'max_wall_time = "1 y"', "'1 y' is not a duration"),
        ("seed = 7", "nice = 40", "The key 'nice' must be from 0 to 19; it is 40."),
        ("[run]", "[runn]", "has the unknown key 'runn'; did you mean 'run'"),
        ("[control.none]", "[controls.none]", "unknown key 'controls'; did you mean 'control'"),
        ('remove = ["restarts"]', 'remov = ["restarts"]', "did you mean 'remove'"),
        ('x = "positions[0]"', 'z = "positions[0]"', "number 1 has the unknown key 'z'"),
        ('adapter = "muller_brown"', 'adaptor = "x"', "lacks the key 'adapter'"),
        ('use = "stop_at_target"', 'uses = "stop_at_target"', "Operator 2 lacks the key 'use'"),
        ("seed = 7", "seed = ", "is not valid TOML"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, old: str, new: str, said: str) -> None:
    path = write(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(ConfigError) as caught:
        load_run(path)
    assert said.replace("[run, ]*", "") in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Cannot read .*nothing\.toml: No such file"):
        load_run(tmp_path / "nothing.toml")


def test_a_control_sets_parameters_or_leaves_operators_out(tmp_path: Path) -> None:
    configuration = load_run(write(tmp_path, GOOD))
    assert apply_control(configuration, "", "run.toml") is configuration
    random = apply_control(configuration, "random", "run.toml")
    assert random.pipeline.operators[0]["mode"] == "random"
    assert "mode" not in configuration.pipeline.operators[0]
    none = apply_control(configuration, "none", "run.toml")
    assert [t["use"] for t in none.pipeline.operators] == ["stop_at_target"]


def test_an_unknown_control_names_the_nearest(tmp_path: Path) -> None:
    configuration = load_run(write(tmp_path, GOOD))
    with pytest.raises(ConfigError, match="unknown key 'randon'; did you mean 'random'"):
        apply_control(configuration, "randon", "run.toml")


def test_a_control_of_an_operator_that_is_not_there_is_a_mistake(tmp_path: Path) -> None:
    text = GOOD.replace('remove = ["restarts"]', 'remove = ["restart"]')
    configuration = load_run(write(tmp_path, text))
    with pytest.raises(ConfigError, match="unknown key 'restart'; did you mean 'restarts'"):
        apply_control(configuration, "none", "run.toml")


def test_the_seed_of_the_run_reaches_operators_that_take_one(tmp_path: Path) -> None:
    configuration = load_run(write(tmp_path, GOOD))
    one, other, again = (
        dict(build_pipeline(configuration.pipeline, seed=seed, where="run.toml").operators)[
            "restarts"
        ].save()["random"]
        for seed in (1, 2, 1)
    )
    assert one == again
    assert one != other


@pytest.mark.parametrize(
    ("training", "said"),
    [
        ("", r"asks for the model 'space', which no \[training\] makes; so give it the 'registry'"),
        ('model = "spaces"', "did you mean 'spaces'"),
        ('model = "space"\nregistry = "elsewhere"', "which no"),
        ('model = "space"', None),
    ],
)
def test_a_model_that_nobody_makes_is_named(
    tmp_path: Path, training: str, said: str | None
) -> None:
    asks = 'input = "positions"\nfeatures = "positions"\nmodel = "space"'
    text = GOOD.replace('input = "positions"', asks, 1)
    if training:
        text += f"""
[[training.learn.operators]]
use = "train"
kind = "vae"
input = "positions"
{training}
"""
    configuration = load_run(write(tmp_path, text))
    registry = str(tmp_path / "models")
    pipeline = build_pipeline(configuration.pipeline, seed=7, where="run.toml", registry=registry)
    if said is None:
        check_models(configuration, pipeline, "run.toml")
    else:
        with pytest.raises(ConfigError, match=f"run.toml: the operator 'restarts'.*{said}"):
            check_models(configuration, pipeline, "run.toml")


@pytest.mark.parametrize(
    ("hyper", "components", "said"),
    [
        ("{ latent = 3 }", "n_components = 3", None),
        (
            "{ latent = 3 }",
            "",
            r"expects 2 coordinates of the model 'space', and \[training.learn\]",
        ),
        ("{}", "n_components = 5", r"gives it 2; set n_components = 2, or .*hyper.latent = 5\."),
        ("{}", 'registry = "elsewhere"\nn_components = 5', None),
    ],
)
def test_models_give_as_many_coordinates_as_are_expected(
    tmp_path: Path, hyper: str, components: str, said: str | None
) -> None:
    pytest.importorskip("torch")
    text = (
        GOOD
        + f"""
[[pipeline.operators]]
use = "infer"
model = "space"
input = "positions"
{components}

[[training.learn.operators]]
use = "train"
kind = "vae"
model = "space"
input = "positions"
hyper = {hyper}
"""
    )
    plan = Plan(
        configuration=load_run(write(tmp_path, text)), source="run.toml", base=str(tmp_path)
    )
    if said is None:
        plan.check()
    else:
        with pytest.raises(ConfigError, match=f"run.toml: the operator 'infer' .*{said}"):
            plan.check()
