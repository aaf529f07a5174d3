"""Apache Spark: a data source and a sink named ``headrace``, and the engine.

Any Spark user can read streams and store results, without a pipeline::

    from bridge.engines.spark import register

    register(spark)
    frames = spark.readStream.format("headrace").option("stager", "tcp://127.0.0.1:5555").load()

The options are those of `bridge.engines.spark.options`. Importing this package needs no Spark.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

from bridge.errors import MissingExtra

if TYPE_CHECKING:
    from bridge.engines.spark.engine import SparkEngine

__all__ = ["SparkEngine", "register"]


def register(spark: Any) -> None:
    """Make the format ``headrace`` known to a Spark session.

    Parameters
    ----------
    spark
        A `pyspark.sql.SparkSession`.

    Raises
    ------
    MissingExtra
        If PySpark, or what it needs for Python data sources, is not installed.
    """
    _need_spark()
    from bridge.engines.spark.source import HeadraceSource

    spark.dataSource.register(HeadraceSource)


def _need_spark() -> None:
    for package in ("pyspark", "pyarrow"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtra(package, "spark", "Apache Spark")


def __getattr__(name: str) -> Any:
    if name == "SparkEngine":
        _need_spark()
        from bridge.engines.spark.engine import SparkEngine

        return SparkEngine
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
