"""Engines: what runs a pipeline over streams."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from bridge.engines.configure import pipeline_from_table
from bridge.engines.local import LocalEngine
from bridge.engines.options import LocalOptions
from bridge.engines.protocol import Engine, EngineStatistics, Guard, SimulationProgress
from bridge.engines.runner import Runner
from bridge.errors import ConfigError, MissingExtra

__all__ = [
    "Engine",
    "EngineStatistics",
    "Guard",
    "LocalEngine",
    "LocalOptions",
    "Runner",
    "SimulationProgress",
    "load_engine",
    "pipeline_from_table",
]

CLUSTERS = {"flink": ("FlinkEngine", "pyflink"), "spark": ("SparkEngine", "pyspark")}
"""Kind of engine to its class, and the package that it cannot do without."""


def load_engine(kind: str) -> Any:
    """Return the class of an engine that runs on a cluster.

    Parameters
    ----------
    kind
        ``flink`` or ``spark``.

    Raises
    ------
    ConfigError
        If there is no such engine.
    MissingExtra
        If what it needs is not installed here.
    """
    if kind not in CLUSTERS:
        raise ConfigError(f"There is no engine {kind!r}; there are local, flink and spark.")
    name, package = CLUSTERS[kind]
    if importlib.util.find_spec(package) is None:
        raise MissingExtra(package, kind, f"the engine {kind!r}")
    return getattr(importlib.import_module(f"bridge.engines.{kind}"), name)
