"""The pipeline of a run: seeds where none is given, and what a control run changes."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from bridge.config import refuse_unknown
from bridge.engines.configure import pipeline_from_table
from bridge.errors import ConfigError
from bridge.pipeline import Operator, Pipeline
from bridge.runs.configuration import PipelineTable, RunConfiguration

__all__ = ["apply_control", "build_pipeline", "check_coordinates", "check_models", "name_of"]


def name_of(table: dict[str, Any]) -> str:
    """Return the name of the operator that a table describes."""
    return str(table.get("name") or str(table["use"]).rpartition(":")[2])


def build_pipeline(
    table: PipelineTable, *, seed: int, where: str, ledger: str = "", registry: str = "models"
) -> Pipeline:
    """Make the operators of a pipeline.

    Parameters
    ----------
    table
        What the configuration says.
    seed
        For operators that take a ``seed`` and are given none.
    where
        The file, for messages.
    ledger
        Folder for operators that take a ``ledger``, in which they write ahead what a replay must
        repeat; empty for none.
    registry
        Folder for operators that take a ``registry`` and are given none.

    Raises
    ------
    ConfigError
        If there is no such operator, its parameters are refused, or two have the same name.
    """
    return pipeline_from_table(
        {
            "name": table.name,
            "inputs": list(table.inputs),
            "outputs": list(table.outputs),
            "operators": list(table.operators),
        },
        f"{where}, [pipeline]",
        defaults={"seed": seed, "ledger": ledger, "registry": registry},
    )


def apply_control(configuration: RunConfiguration, name: str, where: str) -> RunConfiguration:
    """Return the configuration of a control run.

    Parameters
    ----------
    configuration
        The steered run.
    name
        Which of its ``[control.NAME]`` tables; empty for the steered run itself.
    where
        The file, for messages.

    Raises
    ------
    ConfigError
        If there is no such control, or it names an operator that is not in the pipeline.
    """
    if not name:
        return configuration
    refuse_unknown([name], configuration.control, f"{where}, [control],")
    control = configuration.control[name]
    names = [name_of(table) for table in configuration.pipeline.operators]
    place = f"{where}, [control.{name}],"
    refuse_unknown(control.remove, names, place)
    refuse_unknown(control.set, names, place)
    operators = tuple(
        {**table, **control.set.get(name_of(table), {})}
        for table in configuration.pipeline.operators
        if name_of(table) not in control.remove
    )
    pipeline = msgspec.structs.replace(configuration.pipeline, operators=operators)
    steering = {**configuration.steering, **control.steering}
    return msgspec.structs.replace(configuration, pipeline=pipeline, steering=steering)


def check_models(configuration: RunConfiguration, pipeline: Pipeline, where: str) -> None:
    """See that somebody makes each model that the run's own registry is asked for.

    Parameters
    ----------
    configuration
        With the control applied.
    pipeline
        That it describes.
    where
        The file, for messages.

    Raises
    ------
    ConfigError
        If an operator or a service would wait for a model until the end of the run.
    """
    learners = [t for training in configuration.training.values() for t in training.operators[-1:]]
    if any(table["use"] != "train" for table in learners):
        return  # Somebody else's: what it makes is not known here.
    made = [str(t.get("model", "model")) for t in learners if "registry" not in t]
    asked: dict[str, str] = {}
    for model, name, _ in _askers(configuration, pipeline):
        asked.setdefault(model, f"the operator {name!r}")
    for name, service in configuration.service.items():
        if service.use == "registry" and "registry" not in service.options:
            asked.setdefault(service.model or name, f"the service {name!r}")
    for model, who in asked.items():
        if model not in made:
            near = difflib.get_close_matches(model, made, 1, cutoff=0.5)
            guess = f"did you mean {near[0]!r}? Else" if near else "so"
            raise ConfigError(
                f"{where}: {who} asks for the model {model!r}, which no [training] makes; {guess} "
                "give it the 'registry' where there is one."
            )


def check_coordinates(
    configuration: RunConfiguration,
    pipeline: Pipeline,
    trainings: Mapping[str, Pipeline],
    where: str,
) -> None:
    """See that models give as many coordinates as the operators that ask for them expect.

    Only what operators say of themselves is held against each other: those that train or use
    models may have an attribute ``coordinates``, None where it is not known yet.

    Parameters
    ----------
    configuration
        With the control applied.
    pipeline
        That it describes.
    trainings
        Name to pipeline of each training.
    where
        The file, for messages.

    Raises
    ------
    ConfigError
        If the first version of a model could not be used.
    """
    made: dict[str, tuple[str, int]] = {}
    for training, table in configuration.training.items():
        learner = table.operators[-1]
        found = getattr(trainings[training].operators[-1][1], "coordinates", None)
        if "registry" not in learner and isinstance(found, int):
            made[str(learner.get("model", "model"))] = training, found
    for model, name, operator in _askers(configuration, pipeline):
        wanted = getattr(operator, "coordinates", None)
        if model in made and isinstance(wanted, int) and wanted != made[model][1]:
            training, given = made[model]
            raise ConfigError(
                f"{where}: the operator {name!r} expects {wanted} coordinates of the model "
                f"{model!r}, and [training.{training}] gives it {given}; set n_components = "
                f"{given}, or the training's hyper.latent = {wanted}."
            )


def _askers(
    configuration: RunConfiguration, pipeline: Pipeline
) -> Iterator[tuple[str, str, Operator]]:
    """Yield each model of the run's own registry that an operator asks for, and who does."""
    tables = configuration.pipeline.operators
    for table, (name, operator) in zip(tables, pipeline.operators, strict=True):
        # Of operators that take no registry, `model` is something else.
        if "registry" in inspect.signature(type(operator)).parameters and "registry" not in table:
            for model in (table.get("model"), *table.get("models", ())):
                if isinstance(model, str):
                    yield model, name, operator
