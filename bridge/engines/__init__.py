"""Engines: what runs a pipeline over streams."""

from bridge.engines.configure import pipeline_from_table
from bridge.engines.local import LocalEngine
from bridge.engines.options import LocalOptions
from bridge.engines.protocol import Engine, EngineStatistics, Guard, SimulationProgress
from bridge.engines.runner import Runner

__all__ = [
    "Engine",
    "EngineStatistics",
    "Guard",
    "LocalEngine",
    "LocalOptions",
    "Runner",
    "SimulationProgress",
    "pipeline_from_table",
]
