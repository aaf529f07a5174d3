"""The pipeline of a run: seeds where none is given, and what a control run changes."""

from __future__ import annotations

from typing import Any

import msgspec

from bridge.config import refuse_unknown
from bridge.engines.configure import pipeline_from_table
from bridge.pipeline import Pipeline
from bridge.runs.configuration import PipelineTable, RunConfiguration

__all__ = ["apply_control", "build_pipeline", "name_of"]


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
