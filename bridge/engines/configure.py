"""A pipeline from a configuration table."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from bridge.config import build, find_entry_point, refuse_unknown
from bridge.errors import ConfigError, PipelineError
from bridge.pipeline import Operator, Pipeline

__all__ = ["OPERATORS", "pipeline_from_table"]

OPERATORS = "headrace.operators"
"""Entry-point group in which distributions register operators under short names."""


def pipeline_from_table(
    table: Mapping[str, Any],
    where: str = "[pipeline]",
    *,
    defaults: Mapping[str, Any] | None = None,
) -> Pipeline:
    """Make a pipeline from a configuration table.

    ::

        [pipeline]
        name = "adaptive"
        inputs = ["positions"]        # variables of the stream; all, if left out
        outputs = ["tica", "novelty"] # columns to publish; all that operators add, if left out

        [[pipeline.operators]]
        name = "phi_psi"              # chosen by you; the short name in `use`, if left out
        use = "dihedrals"             # registered short name, or "module:Class"
        atoms = [[4, 6, 8, 14], [6, 8, 14, 16]]   # everything else: the operator's parameters

    Parameters
    ----------
    table
        The table ``[pipeline]``.
    where
        What the table is, for messages, such as ``"run.toml, [pipeline]"``.
    defaults
        Parameters for operators that take them and are not given them, such as ``seed``.

    Raises
    ------
    ConfigError
        For an unknown key (the nearest is named), one that is missing, a value that an operator
        refuses, an operator that is not registered, or a name that comes twice.
    """
    refuse_unknown(table, ("name", "inputs", "outputs", "operators"), where)
    entries = table.get("operators", [])
    if not isinstance(entries, list) or not all(isinstance(e, Mapping) for e in entries):
        raise ConfigError(
            f"{where}: 'operators' must be a list of tables; write each as [[pipeline.operators]]."
        )
    if not entries:
        raise ConfigError(f"{where} has no operators; add a [[pipeline.operators]] table.")
    operators = [
        _operator(entry, f"{where}, operator {number}", defaults or {})
        for number, entry in enumerate(entries, 1)
    ]
    try:
        return Pipeline(
            _text(table, "name", where, "pipeline"),
            operators,
            inputs=_names(table, "inputs", where),
            outputs=_names(table, "outputs", where),
        )
    except PipelineError as error:
        raise ConfigError(f"{where}: {error}") from error


def _operator(
    entry: Mapping[str, Any], where: str, defaults: Mapping[str, Any]
) -> tuple[str, Operator]:
    use = _text(entry, "use", where, "")
    if not use:
        raise ConfigError(
            f"{where} lacks 'use': a registered operator's short name, or \"module:Class\"."
        )
    name = _text(entry, "name", where, use.rpartition(":")[2])
    where = f"{where} ({name})"
    found = find_entry_point(OPERATORS, use, where)
    if not (isinstance(found, type) and issubclass(found, Operator)):
        raise ConfigError(
            f"{where}: {use!r} is not an operator; derive the class from FrameOperator, "
            "KeyedOperator or GlobalOperator of bridge.pipeline."
        )
    takes = inspect.signature(found).parameters if defaults else ()
    parameters = {k: v for k, v in defaults.items() if k in takes}
    parameters |= {k: v for k, v in entry.items() if k not in ("name", "use")}
    operator: Operator = build(found, parameters, where)
    return name, operator


def _text(table: Mapping[str, Any], key: str, where: str, default: str) -> str:
    value = table.get(key, default)
    if not isinstance(value, str):
        raise ConfigError(f"{where}: {key!r} must be text, not {value!r}.")
    return value


def _names(table: Mapping[str, Any], key: str, where: str) -> list[str]:
    value = table.get(key, [])
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise ConfigError(f"{where}: {key!r} must be a list of names, not {value!r}.")
    return value
