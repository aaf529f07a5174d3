"""Apache Spark: a data source and a sink named ``headrace``, and the engine.

Any Spark user can read streams and store results, without a pipeline::

    from bridge.engines.spark import register

    register(spark)
    frames = spark.readStream.format("headrace").option("stager", "tcp://127.0.0.1:5555").load()

The options are those of `bridge.engines.spark.options`. Importing this package needs no Spark.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from bridge.errors import ConfigError, MissingExtra

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
    ConfigError
        If the Python that Java starts beside this one is another, without Headrace.
    """
    _need_spark()
    _check_workers(spark)
    from bridge.engines.spark.source import HeadraceSource

    spark.dataSource.register(HeadraceSource)


def _need_spark() -> None:
    for package in ("pyspark", "pyarrow"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtra(package, "spark", "Apache Spark")


def _check_workers(spark: Any) -> None:
    """Refuse a session whose Java would start a Python that cannot read streams.

    Java takes it from the environment that it was started with, and else ``python3``: where an
    environment's interpreter is called by its path, without activating it, that is another one.
    """
    java = getattr(spark, "_jvm", None)
    if java is None:
        return  # a session of Spark Connect: its Java is elsewhere
    ask = java.java.lang.System.getenv
    named = ask("PYSPARK_DRIVER_PYTHON") or ask("PYSPARK_PYTHON") or "python3"
    found = shutil.which(named)
    if found is None or os.path.dirname(found) == os.path.dirname(sys.executable):
        return
    # As it does: from its own folders, which need not be those that this process imports from.
    done = subprocess.run(
        [found, "-c", "import bridge, pyarrow"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["it cannot be started"])[-1]
        raise ConfigError(
            f"Spark's workers would be run by '{named}', which is {found} and cannot read streams "
            f"({why}). Activate the environment, or set PYSPARK_PYTHON={sys.executable}, before "
            "the session is made."
        )


def __getattr__(name: str) -> Any:
    if name == "SparkEngine":
        _need_spark()
        from bridge.engines.spark.engine import SparkEngine

        return SparkEngine
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
