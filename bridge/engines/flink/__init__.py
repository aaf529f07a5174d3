"""Pipelines on Apache Flink: the DataStream API, through PyFlink."""

from bridge.engines.flink.engine import FlinkEngine
from bridge.engines.flink.submission import submit

__all__ = ["FlinkEngine", "submit"]
